//go:build linux

// Package seccomp compiles the filter of config.json's linux.seccomp into a program for
// the kernel: seccomp(2), and config-linux.md, "Seccomp". It does without libseccomp, whose
// compiling is most of what others need to start a container.
//
// The program finds a system call by its number with a binary search, so that the length
// of the profile costs little at each call.
package seccomp

//go:generate go run generate.go

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Program is a filter: instructions of classic BPF, and the flags of seccomp(2).
type Program struct {
	Instructions []Instruction
	Flags        uint
}

// Instruction is struct sock_filter of linux/filter.h.
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// InstructionSize is the number of bytes that an Instruction is in the kernel's form.
const InstructionSize = 8

// Bytes returns the instructions in the kernel's form.
func (p *Program) Bytes() []byte {
	b := make([]byte, 0, len(p.Instructions)*InstructionSize)
	for _, i := range p.Instructions {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// FromBytes is the opposite of Bytes.
func FromBytes(b []byte, flags uint) *Program {
	p := &Program{Instructions: make([]Instruction, len(b)/InstructionSize), Flags: flags}
	for i := range p.Instructions {
		part := b[i*InstructionSize:]
		p.Instructions[i] = Instruction{binary.NativeEndian.Uint16(part), part[2], part[3],
			binary.NativeEndian.Uint32(part[4:])}
	}
	return p
}

const (
	load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ret     = unix.BPF_RET | unix.BPF_K
	always  = unix.BPF_JMP | unix.BPF_JA
	ifEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	ifMore  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	ifLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	and     = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K

	// Where things are in struct seccomp_data; both architectures are little-endian.
	dataNumber, dataArch, dataArgs = 0, 4, 16

	x32Bit = 0x40000000

	// Marks for jumps that are not resolved yet: to the end of the condition, or of the rule.
	markOK, markFail = 0xfe, 0xff
)

// architecture is one that a filter may be for.
type architecture struct {
	audit uint32 // AUDIT_ARCH_… of linux/audit.h
	names string
}

var architectures = map[specs.Arch]architecture{
	specs.ArchX86_64:  {unix.AUDIT_ARCH_X86_64, namesAMD64},
	specs.ArchX86:     {unix.AUDIT_ARCH_I386, names386},
	specs.ArchAARCH64: {unix.AUDIT_ARCH_AARCH64, namesarm64},
	specs.ArchARM:     {unix.AUDIT_ARCH_ARM, namesarm},
}

func native() specs.Arch {
	if runtime.GOARCH == "arm64" {
		return specs.ArchAARCH64
	}
	return specs.ArchX86_64
}

// Actions and Operators are those that Compile knows.
var (
	Actions = []string{
		"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
		"SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
	}
	Operators = []string{
		"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
		"SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
	}
	Architectures = []string{
		"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
	}
	Flags = []string{
		"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
		"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
	}
)

func action(a specs.LinuxSeccompAction, errnoRet *uint) (uint32, error) {
	value := uint32(unix.EPERM)
	if errnoRet != nil {
		if a != specs.ActErrno && a != specs.ActTrace {
			return 0, fmt.Errorf("seccomp: action %q takes no errno", a)
		}
		value = uint32(*errnoRet)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | value&unix.SECCOMP_RET_DATA, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | value&unix.SECCOMP_RET_DATA, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, fmt.Errorf("seccomp: action %q is not supported", a)
}

// rule is one of a system call's: conditions that must all hold.
type rule struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// Compile returns the program for a profile; nil for none. Names of system calls that no
// architecture has are ignored, as by others: profiles are written for many kernels.
func Compile(s *specs.LinuxSeccomp) (*Program, error) {
	if s == nil {
		return nil, nil
	}
	if s.ListenerPath != "" {
		return nil, errors.New("seccomp: listenerPath (SCMP_ACT_NOTIFY) is not supported")
	}
	if s.ListenerMetadata != "" {
		return nil, errors.New("seccomp: listenerMetadata without listenerPath")
	}
	fallback, err := action(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	p := &Program{}
	for _, flag := range s.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog:
			p.Flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			p.Flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
			p.Flags |= unix.SECCOMP_FILTER_FLAG_TSYNC
		case specs.LinuxSeccompFlagWaitKillableRecv:
			return nil, fmt.Errorf("seccomp: flag %s is about SCMP_ACT_NOTIFY, which is not supported", flag)
		default:
			return nil, fmt.Errorf("seccomp: flag %q is unknown", flag)
		}
	}
	wanted := []specs.Arch{native()}
	x32 := false
	for _, a := range s.Architectures {
		_, known := architectures[a]
		x32 = x32 || a == specs.ArchX32
		if known && !slices.Contains(wanted, a) {
			wanted = append(wanted, a)
		}
		if !known && a != specs.ArchX32 && !strings.HasPrefix(string(a), "SCMP_ARCH_") {
			return nil, fmt.Errorf("seccomp: architecture %q is unknown", a)
		}
	}
	p.add(Instruction{Code: load, K: dataArch})
	for _, a := range wanted {
		code, err := compileArch(s, a, fallback, x32)
		if err != nil {
			return nil, err
		}
		p.add(Instruction{Code: ifEqual, K: architectures[a].audit, Jt: 1})
		p.add(Instruction{Code: always, K: uint32(len(code))})
		p.add(code...)
	}
	p.add(Instruction{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS})
	if len(p.Instructions) > 4096 {
		return nil, fmt.Errorf("seccomp: the profile makes %d instructions, the kernel takes 4096",
			len(p.Instructions))
	}
	return p, nil
}

func (p *Program) add(i ...Instruction) { p.Instructions = append(p.Instructions, i...) }

// compileArch is the part of the program for one architecture. It always ends in a return.
func compileArch(
	s *specs.LinuxSeccomp, arch specs.Arch, fallback uint32, x32 bool,
) ([]Instruction, error) {
	names := architectures[arch].names
	rules := map[uint32][]rule{}
	for _, call := range s.Syscalls {
		act, err := action(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if len(call.Names) == 0 {
			return nil, errors.New("seccomp: syscalls: an entry without names")
		}
		for _, name := range call.Names {
			n, ok := numberOf(names, name)
			if !ok {
				continue
			}
			if err := checkArgs(call.Args); err != nil {
				return nil, fmt.Errorf("seccomp: %s: %w", name, err)
			}
			for _, args := range alternatives(call.Args) {
				rules[n] = append(rules[n], rule{args, act})
			}
		}
	}
	var code []Instruction
	code = append(code, Instruction{Code: load, K: dataNumber})
	if arch == specs.ArchX86_64 {
		if x32 { // the same calls by other numbers
			code = append(code, Instruction{Code: and, K: ^uint32(x32Bit)})
		} else {
			code = append(code,
				Instruction{Code: ifLeast, K: x32Bit, Jf: 1},
				Instruction{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS})
		}
	}
	leaves := []leaf{}
	next := uint32(0)
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		if n > next {
			leaves = appendLeaf(leaves, leaf{next, []Instruction{{Code: ret, K: fallback}}})
		}
		leaves = appendLeaf(leaves, leaf{n, compileRules(rules[n], fallback)})
		next = n + 1
	}
	// What came to the kernel after the profile was written is not forbidden but unknown:
	// programs then try the older call.
	rest := fallback
	if s.DefaultAction == specs.ActErrno && len(rules) > 0 {
		rest = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		if highest := highestOf(names); next <= highest {
			leaves = appendLeaf(leaves, leaf{next, []Instruction{{Code: ret, K: fallback}}})
			next = highest + 1
		}
	}
	leaves = appendLeaf(leaves, leaf{next, []Instruction{{Code: ret, K: rest}}})
	return append(code, search(leaves)...), nil
}

// numberOf looks for a system call in a table, whose lines are sorted. It is asked for some
// hundred of them once: to make a map of the table first would take longer.
func numberOf(table, name string) (uint32, bool) {
	for table != "" {
		begin := strings.LastIndexByte(table[:len(table)/2], '\n') + 1
		end := begin + strings.IndexByte(table[begin:], '\n') + 1
		this, number, _ := strings.Cut(table[begin:end-1], " ")
		switch {
		case name < this:
			table = table[:begin]
		case name > this:
			table = table[end:]
		default:
			n, err := strconv.ParseUint(number, 10, 32)
			return uint32(n), err == nil
		}
	}
	return 0, false
}

func highestOf(table string) uint32 {
	var highest uint32
	for line := range strings.Lines(table) {
		_, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(number, 10, 32); err == nil {
			highest = max(highest, uint32(n))
		}
	}
	return highest
}

// Allows says whether a system call passes whatever its arguments are; of a profile that is
// not plain about it, no.
func Allows(s *specs.LinuxSeccomp, name string) bool {
	if s == nil {
		return true
	}
	allowed := s.DefaultAction == specs.ActAllow
	for _, call := range s.Syscalls {
		if !slices.Contains(call.Names, name) {
			continue
		}
		if call.Action != specs.ActAllow || len(call.Args) > 0 {
			return false
		}
		allowed = true
	}
	return allowed
}

// checkArgs looks for what the kernel has no place for.
func checkArgs(args []specs.LinuxSeccompArg) error {
	for _, a := range args {
		if a.Index > 5 {
			return fmt.Errorf("argument %d: there are 0 to 5", a.Index)
		}
		if !slices.Contains(Operators, string(a.Op)) {
			return fmt.Errorf("operator %q is unknown", a.Op)
		}
	}
	return nil
}

// alternatives: conditions on different arguments must all hold; if two are about the
// same one, each is enough by itself, as runc has it.
func alternatives(args []specs.LinuxSeccompArg) [][]specs.LinuxSeccompArg {
	seen := map[uint]bool{}
	twice := false
	for _, a := range args {
		twice = twice || seen[a.Index]
		seen[a.Index] = true
	}
	if !twice {
		return [][]specs.LinuxSeccompArg{args}
	}
	var all [][]specs.LinuxSeccompArg
	for _, a := range args {
		all = append(all, []specs.LinuxSeccompArg{a})
	}
	return all
}

// leaf is what to do for the numbers from first on.
type leaf struct {
	first uint32
	code  []Instruction
}

// appendLeaf joins neighbours that do the same.
func appendLeaf(all []leaf, l leaf) []leaf {
	if len(all) > 0 && slices.Equal(all[len(all)-1].code, l.code) {
		return all
	}
	return append(all, l)
}

// search finds the leaf of the number in the accumulator.
func search(leaves []leaf) []Instruction {
	if len(leaves) == 1 {
		return leaves[0].code
	}
	middle := len(leaves) / 2
	left, right := search(leaves[:middle]), search(leaves[middle:])
	code := []Instruction{
		{Code: ifLeast, K: leaves[middle].first, Jf: 1},
		{Code: always, K: uint32(len(left))}, // a conditional jump is at most 255 long
	}
	return slices.Concat(code, left, right)
}

// compileRules tries a system call's rules in their order; one without conditions counts
// whatever the others say.
func compileRules(rules []rule, fallback uint32) []Instruction {
	for _, r := range rules {
		if len(r.args) == 0 {
			return []Instruction{{Code: ret, K: r.action}}
		}
	}
	var code []Instruction
	for _, r := range rules {
		var part []Instruction
		for _, a := range r.args {
			c := condition(a)
			for i := range c { // marks to the end of the condition
				resolve(&c[i], markOK, len(c)-i-1)
			}
			part = append(part, c...)
		}
		part = append(part, Instruction{Code: ret, K: r.action})
		for i := range part {
			resolve(&part[i], markFail, len(part)-i-1)
		}
		code = append(code, part...)
	}
	return append(code, Instruction{Code: ret, K: fallback})
}

func resolve(i *Instruction, mark uint8, distance int) {
	if i.Code&7 != unix.BPF_JMP || i.Code == always {
		return
	}
	if i.Jt == mark {
		i.Jt = uint8(distance)
	}
	if i.Jf == mark {
		i.Jf = uint8(distance)
	}
}

// condition compares a 64-bit argument, in two halves: the program has 32 bits.
func condition(a specs.LinuxSeccompArg) []Instruction {
	low := Instruction{Code: load, K: uint32(dataArgs + 8*a.Index)}
	high := Instruction{Code: load, K: low.K + 4}
	l, h := uint32(a.Value), uint32(a.Value>>32)
	switch a.Op {
	case specs.OpEqualTo:
		return []Instruction{high, {ifEqual, 0, markFail, h}, low, {ifEqual, 0, markFail, l}}
	case specs.OpNotEqual:
		return []Instruction{high, {ifEqual, 0, markOK, h}, low, {ifEqual, markFail, markOK, l}}
	case specs.OpGreaterThan:
		return []Instruction{
			high, {ifMore, markOK, 0, h}, {ifEqual, 0, markFail, h}, low, {ifMore, markOK, markFail, l},
		}
	case specs.OpGreaterEqual:
		return []Instruction{
			high, {ifMore, markOK, 0, h}, {ifEqual, 0, markFail, h}, low, {ifLeast, markOK, markFail, l},
		}
	case specs.OpLessThan:
		return []Instruction{
			high, {ifMore, markFail, 0, h}, {ifEqual, 0, markOK, h}, low, {ifLeast, markFail, markOK, l},
		}
	case specs.OpLessEqual:
		return []Instruction{
			high, {ifMore, markFail, 0, h}, {ifEqual, 0, markOK, h}, low, {ifMore, markFail, markOK, l},
		}
	}
	// SCMP_CMP_MASKED_EQ: value is the mask, valueTwo what must be left.
	return []Instruction{
		high, {Code: and, K: h}, {ifEqual, 0, markFail, uint32(a.ValueTwo >> 32)},
		low, {Code: and, K: l}, {ifEqual, 0, markFail, uint32(a.ValueTwo)},
	}
}

// Load gives the filter to the calling thread. It stays, over execve too.
func (p *Program) Load() error {
	fprog := struct {
		count  uint16
		filter *Instruction
	}{uint16(len(p.Instructions)), &p.Instructions[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags),
		uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: load a filter of %d instructions: %w", fprog.count, errno)
	}
	return nil
}
