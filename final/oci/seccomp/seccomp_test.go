//go:build linux

package seccomp

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// call is struct seccomp_data.
type call struct {
	number, arch uint32
	args         [6]uint64
}

// interpret runs the program as the kernel does.
func interpret(t *testing.T, program []Instruction, c call) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case load:
			switch {
			case i.K == dataNumber:
				a = c.number
			case i.K == dataArch:
				a = c.arch
			case i.K >= dataArgs && i.K < dataArgs+48 && i.K%4 == 0:
				word := c.args[(i.K-dataArgs)/8]
				if i.K%8 == 4 {
					word >>= 32
				}
				a = uint32(word)
			default:
				t.Fatalf("load from %d", i.K)
			}
		case ret:
			return i.K
		case always:
			pc += int(i.K)
		case ifEqual:
			jump(a == i.K)
		case ifMore:
			jump(a > i.K)
		case ifLeast:
			jump(a >= i.K)
		case and:
			a &= i.K
		default:
			t.Fatalf("instruction %d: %+v", pc, i)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

func holds(a specs.LinuxSeccompArg, v uint64) bool {
	switch a.Op {
	case specs.OpEqualTo:
		return v == a.Value
	case specs.OpNotEqual:
		return v != a.Value
	case specs.OpLessThan:
		return v < a.Value
	case specs.OpLessEqual:
		return v <= a.Value
	case specs.OpGreaterThan:
		return v > a.Value
	case specs.OpGreaterEqual:
		return v >= a.Value
	}
	return v&a.Value == a.ValueTwo
}

// naive evaluates a profile by reading it, for the system call of that name.
func naive(t *testing.T, s *specs.LinuxSeccomp, name string, c call) uint32 {
	t.Helper()
	result, found := uint32(0), false
	for _, rule := range s.Syscalls {
		for _, n := range rule.Names {
			if n != name {
				continue
			}
			act, err := action(rule.Action, rule.ErrnoRet)
			if err != nil {
				t.Fatal(err)
			}
			if len(rule.Args) == 0 {
				return act
			}
			seen := map[uint]int{}
			all, one := true, false
			for _, a := range rule.Args {
				seen[a.Index]++
				h := holds(a, c.args[a.Index])
				all, one = all && h, one || h
			}
			if (all || len(seen) < len(rule.Args) && one) && !found {
				result, found = act, true
			}
		}
	}
	if found {
		return result
	}
	act, err := action(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	return act
}

// randomProfile has rules about some twenty system calls.
func randomProfile(r *rand.Rand, names []string, values []uint64) *specs.LinuxSeccomp {
	actions := []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActTrace, specs.ActLog,
	}
	operators := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan,
		specs.OpGreaterEqual, specs.OpMaskedEqual,
	}
	s := &specs.LinuxSeccomp{DefaultAction: actions[r.IntN(len(actions))]}
	if r.IntN(2) == 0 {
		s.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchAARCH64, specs.ArchARM}
	}
	for range 1 + r.IntN(20) {
		rule := specs.LinuxSyscall{Action: actions[r.IntN(len(actions))]}
		for range 1 + r.IntN(4) {
			rule.Names = append(rule.Names, names[r.IntN(len(names))])
		}
		if (rule.Action == specs.ActErrno || rule.Action == specs.ActTrace) && r.IntN(2) == 0 {
			n := uint(r.IntN(200))
			rule.ErrnoRet = &n
		}
		for range r.IntN(4) {
			rule.Args = append(rule.Args, specs.LinuxSeccompArg{
				Index: uint(r.IntN(6)), Op: operators[r.IntN(len(operators))],
				Value: values[r.IntN(len(values))], ValueTwo: values[r.IntN(len(values))],
			})
		}
		s.Syscalls = append(s.Syscalls, rule)
	}
	return s
}

func numbersOf(arch specs.Arch) map[string]uint32 {
	all := map[string]uint32{}
	for line := range strings.Lines(architectures[arch].names) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n := uint32(0)
		for _, digit := range number {
			n = 10*n + uint32(digit-'0')
		}
		all[name] = n
	}
	return all
}

func TestCompile_AsTheProfileReads(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	values := []uint64{0, 1, 2, 0x7f, 0x80, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<40 + 5, 1 << 63, 1<<64 - 1}
	names := []string{
		"read", "write", "open", "close", "mmap", "clone", "clone3", "socket", "personality", "ptrace", "mkdirat",
		"openat2", "futex_waitv", "getpid", "unshare", "no_such_call", "socketcall", "arm_fadvise64_64",
	}
	for range 300 {
		s := randomProfile(r, names, values)
		p, err := Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		arches := s.Architectures
		if arches == nil {
			arches = []specs.Arch{native()}
		}
		for _, arch := range arches {
			numbers := numbersOf(arch)
			for _, name := range names {
				number, ok := numbers[name]
				if !ok {
					continue
				}
				for range 20 {
					c := call{number: number, arch: architectures[arch].audit}
					for i := range c.args {
						c.args[i] = values[r.IntN(len(values))]
					}
					if got, want := interpret(t, p.Instructions, c), naive(t, s, name, c); got != want {
						t.Fatalf("%s %s%x: got %#x, want %#x\n%+v", arch, name, c.args, got, want, s)
					}
				}
			}
		}
	}
}

func TestCompile_Edges(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read"}, Action: specs.ActAllow},
	}}
	p, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	audit := architectures[native()].audit
	eperm := unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	for _, c := range []struct {
		name string
		call call
		want uint32
	}{
		{"allowed", call{number: unix.SYS_READ, arch: audit}, unix.SECCOMP_RET_ALLOW},
		{"known, not allowed", call{number: unix.SYS_UNSHARE, arch: audit}, eperm},
		{"of a later kernel", call{number: 9999, arch: audit}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{"of another architecture", call{number: 0, arch: unix.AUDIT_ARCH_S390X}, unix.SECCOMP_RET_KILL_PROCESS},
	} {
		if got := interpret(t, p.Instructions, c.call); got != c.want {
			t.Errorf("%s: got %#x, want %#x", c.name, got, c.want)
		}
	}
	if native() == specs.ArchX86_64 {
		x32 := call{number: x32Bit | unix.SYS_READ, arch: audit}
		if got := interpret(t, p.Instructions, x32); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("x32 that nobody allowed: %#x", got)
		}
		s.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX32}
		if p, err = Compile(s); err != nil {
			t.Fatal(err)
		}
		if got := interpret(t, p.Instructions, x32); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("x32 that is allowed: %#x", got)
		}
	}
	if p, err := Compile(nil); p != nil || err != nil {
		t.Errorf("no profile: %v, %v", p, err)
	}
	s.Syscalls[0].Args = []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}
	if _, err := Compile(s); err == nil {
		t.Error("a seventh argument is accepted")
	}
}

func TestNumberOf(t *testing.T) {
	for arch, a := range architectures {
		all := numbersOf(arch)
		for name, want := range all {
			if got, ok := numberOf(a.names, name); !ok || got != want {
				t.Errorf("%s %s: got %d, %t, want %d", arch, name, got, ok, want)
			}
		}
		for _, name := range []string{"", "a", "zzz", "openatx", "read "} {
			if n, ok := numberOf(a.names, name); ok {
				t.Errorf("%s %q: got %d", arch, name, n)
			}
		}
		if got, want := highestOf(a.names), slices.Max(slices.Collect(maps.Values(all))); got != want {
			t.Errorf("%s: the highest is %d, want %d", arch, got, want)
		}
	}
}
