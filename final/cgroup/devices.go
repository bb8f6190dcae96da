//go:build linux

package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// defaultDevices are allowed to every container, after its own rules: nodes may be made
// of all, and used of those that config-linux.md, "Default Devices", names.
var defaultDevices = func() []specs.LinuxDeviceCgroup {
	rule := func(major, minor int64, access string) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		return r
	}
	block := rule(-1, -1, "m")
	block.Type = "b"
	return []specs.LinuxDeviceCgroup{
		rule(-1, -1, "m"), block,
		rule(1, 3, "rwm"), rule(1, 5, "rwm"), rule(1, 7, "rwm"), rule(1, 8, "rwm"), rule(1, 9, "rwm"),
		rule(5, 0, "rwm"), rule(5, 2, "rwm"), rule(136, -1, "rwm"),
	}
}()

// SetDevices says which devices the group's processes may use: in version 1 with files,
// in version 2 with a program. Later rules count more. With no rules all stays as it is.
func (g *Group) SetDevices(rules []specs.LinuxDeviceCgroup) error {
	if len(rules) == 0 {
		return nil
	}
	rules = append(append([]specs.LinuxDeviceCgroup{}, rules...), defaultDevices...)
	for _, r := range rules {
		if !strings.Contains("abc", r.Type) || strings.Trim(r.Access, "rwm") != "" {
			return fmt.Errorf("devices: rule of type %q with access %q: want a, b or c, and rwm",
				r.Type, r.Access)
		}
	}
	if dir := g.controller("devices"); dir != "" {
		return setDevicesV1(dir, rules)
	}
	if dir := g.v2(); dir != "" {
		return setDevicesV2(dir, rules)
	}
	return errors.New("devices: this machine has no controller of devices")
}

func setDevicesV1(dir string, rules []specs.LinuxDeviceCgroup) error {
	if err := checkV1(rules); err != nil {
		return err
	}
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		value := "a"
		if kind := deviceType(r); kind != "a" {
			access := r.Access
			if access == "" {
				access = "rwm"
			}
			value = fmt.Sprintf("%s %s:%s %s", kind, star(r.Major), star(r.Minor), access)
		}
		if err := rawfd.SetFile(filepath.Join(dir, file), value); err != nil {
			return fmt.Errorf("devices: write %q: %w", value, err)
		}
	}
	return nil
}

// checkV1 refuses rules that version 1 would take and not follow: it has exceptions to one
// behaviour, and a rule against it takes out the exception of the very same numbers, never a
// part of a wider one. See devices.rst, "Hierarchy", in the kernel's documentation.
func checkV1(rules []specs.LinuxDeviceCgroup) error {
	allowed := true
	var exceptions []specs.LinuxDeviceCgroup
	name := func(r specs.LinuxDeviceCgroup) string {
		return fmt.Sprintf("%s %s:%s", r.Type, star(r.Major), star(r.Minor))
	}
	for _, r := range rules {
		if deviceType(r) == "a" {
			allowed, exceptions = r.Allow, nil
			continue
		}
		if r.Allow != allowed {
			exceptions = append(exceptions, r)
			continue
		}
		for _, e := range exceptions {
			if e.Type == r.Type && overlap(e.Major, r.Major) && overlap(e.Minor, r.Minor) &&
				accessBits(e.Access)&accessBits(r.Access) != 0 && name(e) != name(r) {
				return fmt.Errorf("devices: cgroup version 1 cannot make an exception of %s from %s",
					name(r), name(e))
			}
		}
	}
	return nil
}

// overlap says whether two numbers, or wildcards, may mean the same device.
func overlap(a, b *int64) bool { return star(a) == "*" || star(b) == "*" || *a == *b }

// deviceType is a, b or c; a is what a rule without a type means.
func deviceType(r specs.LinuxDeviceCgroup) string {
	if r.Type == "" {
		return "a"
	}
	return r.Type
}

func star(n *int64) string {
	if n == nil || *n < 0 {
		return "*"
	}
	return fmt.Sprint(*n)
}

// Of linux/bpf.h.
const (
	bpfProgLoad         = 5
	bpfProgAttach       = 8
	bpfProgCgroupDevice = 15
	bpfCgroupDevice     = 6
	bpfAllowMulti       = 2

	devMknod, devRead, devWrite = 1, 2, 4
	devBlock, devChar           = 1, 2
)

// insn is struct bpf_insn: code 1, registers 1 (source high, target low), offset 2,
// immediate 4.
func insn(code, target, source byte, offset int16, value int32) []byte {
	b := []byte{code, source<<4 | target}
	b = binary.NativeEndian.AppendUint16(b, uint16(offset))
	return binary.NativeEndian.AppendUint32(b, uint32(value))
}

// deviceProgram compiles the rules: the last that fits decides, and what none fits is
// denied. The kernel calls it with struct bpf_cgroup_dev_ctx (access and type, major,
// minor) in register 1, and takes a result other than 0 for yes.
func deviceProgram(rules []specs.LinuxDeviceCgroup) []byte {
	const (
		load   = 0x61 // target = *(u32 *)(source + offset)
		move   = 0xbf // target = source
		and    = 0x57 // target &= value
		shift  = 0x77 // target >>= value
		set    = 0xb7 // target = value
		unless = 0x55 // if target != value skip offset instructions
		exit   = 0x95
	)
	var program []byte
	add := func(i []byte) { program = append(program, i...) }
	add(insn(load, 2, 1, 0, 0)) // r2: type
	add(insn(move, 3, 2, 0, 0))
	add(insn(and, 2, 0, 0, 0xffff))
	add(insn(shift, 3, 0, 0, 16)) // r3: access
	add(insn(load, 4, 1, 4, 0))   // r4: major
	add(insn(load, 5, 1, 8, 0))   // r5: minor
	for i := len(rules) - 1; i >= 0; i-- {
		r := rules[i]
		var tests [][]byte // each ends with a conditional jump that is filled in below
		kind := deviceType(r)
		if kind != "a" {
			want := int32(devChar)
			if kind == "b" {
				want = devBlock
			}
			tests = append(tests, insn(unless, 2, 0, 0, want))
			if access := accessBits(r.Access); access != 7 {
				// Nothing is asked for that the rule is not about.
				tests = append(tests, insn(move, 1, 3, 0, 0), insn(and, 1, 0, 0, 7&^access),
					insn(unless, 1, 0, 0, 0))
			}
			if r.Major != nil && *r.Major >= 0 {
				tests = append(tests, insn(unless, 4, 0, 0, int32(*r.Major)))
			}
			if r.Minor != nil && *r.Minor >= 0 {
				tests = append(tests, insn(unless, 5, 0, 0, int32(*r.Minor)))
			}
		}
		for n, test := range tests {
			if test[0] == unless {
				binary.NativeEndian.PutUint16(test[2:], uint16(len(tests)-n-1+2))
			}
			add(test)
		}
		allow := int32(0)
		if r.Allow {
			allow = 1
		}
		add(insn(set, 0, 0, 0, allow))
		add(insn(exit, 0, 0, 0, 0))
		if kind == "a" {
			return program // nothing before it matters
		}
	}
	add(insn(set, 0, 0, 0, 0))
	add(insn(exit, 0, 0, 0, 0))
	return program
}

func accessBits(access string) int32 {
	bits := int32(0)
	for _, c := range access {
		switch c {
		case 'm':
			bits |= devMknod
		case 'r':
			bits |= devRead
		case 'w':
			bits |= devWrite
		}
	}
	if bits == 0 {
		return 7
	}
	return bits
}

// setDevicesV2 loads the program and attaches it to the group, beside those of the groups
// above it: bpf(2).
func setDevicesV2(dir string, rules []specs.LinuxDeviceCgroup) error {
	program := deviceProgram(rules)
	license := []byte("Apache-2.0\x00")
	load := struct {
		kind, count        uint32
		insns, license     uint64
		logLevel, logSize  uint32
		log                uint64
		version, flags     uint32
		name               [16]byte
		ifindex, attachTyp uint32
	}{
		kind: bpfProgCgroupDevice, count: uint32(len(program) / 8),
		insns:   uint64(uintptr(unsafe.Pointer(&program[0]))),
		license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgLoad,
		uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if errno != 0 {
		return fmt.Errorf("devices: load the program of %d instructions: %w", load.count, errno)
	}
	defer unix.Close(int(fd))
	group, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer group.Close()
	attach := struct{ target, program, kind, flags, replace uint32 }{
		target: uint32(group.Fd()), program: uint32(fd), kind: bpfCgroupDevice, flags: bpfAllowMulti,
	}
	_, _, errno = unix.Syscall(unix.SYS_BPF, bpfProgAttach,
		uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach))
	if errno != 0 {
		return fmt.Errorf("devices: attach the program to %s: %w", dir, errno)
	}
	return nil
}
