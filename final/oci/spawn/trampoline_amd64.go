//go:build linux

package spawn

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

// HasTrampoline says whether ExecProtected is there.
const HasTrampoline = true

// codeAddress is where the instructions of the trampoline are, as the kernel is to execute
// them.
func codeAddress() unsafe.Pointer

const (
	// codeSize is more than the instructions are; what follows is never reached.
	codeSize = 256
	// Where the file is in memory, and in it, behind both headers, the descriptor for
	// reports; the assembly has the sum.
	loadAddress, reportOffset, codeOffset = 0x400000, 0x78, 0x80
)

// elf returns the trampoline: a program of two headers and some forty instructions, as
// elf(5) has it.
func elf(report uint32) []byte {
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v) // a Buffer takes all
		}
	}
	const size = codeOffset + codeSize
	put([]byte("\x7fELF\x02\x01\x01\x00"), uint64(0)) // 64 bits, little-endian
	put(uint16(2), uint16(62), uint32(1))             // ET_EXEC, EM_X86_64
	put(uint64(loadAddress+codeOffset), uint64(64), uint64(0), uint32(0))
	put(uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0))
	put(uint32(1), uint32(5), uint64(0)) // PT_LOAD, to read and to execute
	put(uint64(loadAddress), uint64(loadAddress), uint64(size), uint64(size), uint64(4096))
	put(report, uint32(0))
	b.Write(unsafe.Slice((*byte)(codeAddress()), codeSize))
	return b.Bytes()
}
