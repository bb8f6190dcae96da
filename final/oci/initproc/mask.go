//go:build linux

package initproc

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Mask is a set of processors or memory nodes, a bit for each, as the kernel takes it.
type Mask []uint64

// maskLimit is more than any kernel is built for.
const maskLimit = 1 << 16

// ParseMask reads a list such as 0-3,7.
func ParseMask(list string) (Mask, error) {
	var m Mask
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to := from
		if err == nil {
			to, err = strconv.Atoi(last)
		}
		if err != nil || from < 0 || from > to || to >= maskLimit {
			return nil, fmt.Errorf("%q: want a list such as 0-3,7", list)
		}
		for n := from; n <= to; n++ {
			if grow := n/64 + 1 - len(m); grow > 0 {
				m = append(m, make(Mask, grow)...)
			}
			m[n/64] |= 1 << (n % 64)
		}
	}
	return m, nil
}

// Len is how many are in the set.
func (m Mask) Len() int {
	n := 0
	for _, word := range m {
		n += bits.OnesCount64(word)
	}
	return n
}

// EveryCPU is the set of all processors that there can be: the kernel, and the control group,
// leave those that there are.
func EveryCPU() Mask { return slices.Repeat(Mask{^uint64(0)}, 8192/64) }

var memoryModes = map[specs.MemoryPolicyModeType]uint{ // set_mempolicy(2), linux/mempolicy.h
	specs.MpolDefault: 0, specs.MpolPreferred: 1, specs.MpolBind: 2, specs.MpolInterleave: 3,
	specs.MpolLocal: 4, specs.MpolPreferredMany: 5, specs.MpolWeightedInterleave: 6,
}

var memoryFlags = map[specs.MemoryPolicyFlagType]uint{
	specs.MpolFStaticNodes: 1 << 15, specs.MpolFRelativeNodes: 1 << 14,
	specs.MpolFNumaBalancing: 1 << 13,
}

// MemoryPolicies are the words for modes and flags, sorted: for "features".
func MemoryPolicies() (modes, flags []string) {
	for m := range memoryModes {
		modes = append(modes, string(m))
	}
	for f := range memoryFlags {
		flags = append(flags, string(f))
	}
	slices.Sort(modes)
	slices.Sort(flags)
	return modes, flags
}

// MemoryPolicy is linux.memoryPolicy as set_mempolicy(2) takes it.
type MemoryPolicy struct {
	Mode  uint
	Nodes Mask
}

// NewMemoryPolicy reads it. Which nodes go with which mode and flags is the kernel's to say,
// but that two modes have none: it would ignore them.
func NewMemoryPolicy(p *specs.LinuxMemoryPolicy) (*MemoryPolicy, error) {
	mode, ok := memoryModes[p.Mode]
	if !ok {
		return nil, fmt.Errorf("linux.memoryPolicy: invalid memory policy mode %q", p.Mode)
	}
	for _, f := range p.Flags {
		flag, ok := memoryFlags[f]
		if !ok {
			return nil, fmt.Errorf("linux.memoryPolicy: invalid memory policy flag %q", f)
		}
		mode |= flag
	}
	policy := &MemoryPolicy{Mode: mode}
	if p.Nodes == "" {
		return policy, nil
	}
	var err error
	if policy.Nodes, err = ParseMask(p.Nodes); err != nil {
		return nil, fmt.Errorf("linux.memoryPolicy: invalid memory policy node in %w", err)
	}
	if p.Mode == specs.MpolDefault || p.Mode == specs.MpolLocal {
		return nil, fmt.Errorf("linux.memoryPolicy: %s: mode requires 0 nodes but got %d",
			p.Mode, policy.Nodes.Len())
	}
	return policy, nil
}

// Bits is the length that the system call takes: one more than it looks at.
func (p *MemoryPolicy) Bits() int {
	if len(p.Nodes) == 0 {
		return 0
	}
	return len(p.Nodes)*64 + 1
}

// setMemoryPolicy sets it for this thread, from which the process comes.
func (c *container) setMemoryPolicy() error {
	if c.Spec.Linux.MemoryPolicy == nil {
		return nil
	}
	p, err := NewMemoryPolicy(c.Spec.Linux.MemoryPolicy)
	if err != nil {
		return err
	}
	nodes := unsafe.Pointer(unsafe.SliceData(p.Nodes))
	_, _, errno := unix.RawSyscall(unix.SYS_SET_MEMPOLICY, uintptr(p.Mode), uintptr(nodes),
		uintptr(p.Bits()))
	if errno != 0 {
		return fmt.Errorf("linux.memoryPolicy: %w", os.NewSyscallError("set_mempolicy", errno))
	}
	return nil
}
