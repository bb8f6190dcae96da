//go:build linux

package initproc

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// capabilityNames are in the order of their numbers: capabilities(7).
const capabilityNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID " +
	"SETPCAP " +
	"LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE " +
	"SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME " +
	"SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG " +
	"WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"

// Capabilities are all that this program knows, by number: "CAP_CHOWN" is the first.
func Capabilities() []string {
	var all []string
	for _, name := range strings.Fields(capabilityNames) {
		all = append(all, "CAP_"+name)
	}
	return all
}

// CapabilitySets are the five sets of a process, a bit for each capability.
type CapabilitySets struct {
	Bounding, Effective, Inheritable, Permitted, Ambient uint64
	// Last is the highest capability that the kernel has.
	Last int
}

// AllCapabilities are those that root of a new user namespace has.
const AllCapabilities = ^uint64(0)

// OwnCapabilities are those that this thread may use, and give away.
func OwnCapabilities() (uint64, error) {
	header, data := Header(), [2]unix.CapUserData{}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, os.NewSyscallError("capget", err)
	}
	return uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted), nil
}

// NewCapabilitySets reads the sets of a process, granted by one that has those of own.
// Capabilities that this kernel does not have, or that cannot be granted, are left out, as
// the specification wants it (config.md, "Linux Process"), with a warning, which is "" if there
// are none.
func NewCapabilitySets(c *specs.LinuxCapabilities, own uint64) (*CapabilitySets, string) {
	s := &CapabilitySets{Last: lastCapability()}
	if c == nil {
		return s, ""
	}
	numbers := map[string]int{}
	for n, name := range Capabilities() {
		numbers[name] = n
	}
	var refused []string
	set := func(names []string, of uint64) uint64 {
		var bits uint64
		for _, name := range names {
			if n, ok := numbers[name]; ok && n <= s.Last && of&(1<<n) != 0 {
				bits |= 1 << n
			} else if !slices.Contains(refused, name) {
				refused = append(refused, name)
			}
		}
		return bits
	}
	// What each set can be at most is in capabilities(7), "Programmatically adjusting
	// capability sets".
	s.Bounding = set(c.Bounding, own)
	s.Permitted = set(c.Permitted, own)
	s.Effective = set(c.Effective, s.Permitted)
	s.Inheritable = set(c.Inheritable, own&s.Bounding)
	s.Ambient = set(c.Ambient, own) & s.Permitted & s.Inheritable
	var warnings []string
	if len(refused) > 0 {
		warnings = append(warnings, "capabilities that this kernel does not have, or that cannot be "+
			"granted: "+strings.Join(refused, " "))
	}
	for _, name := range c.Ambient {
		if n, ok := numbers[name]; ok && s.Ambient&(1<<n) == 0 && !slices.Contains(refused, name) {
			warnings = append(warnings, "can't raise ambient capability "+name+": it is not both "+
				"permitted and inheritable")
		}
	}
	return s, strings.Join(warnings, "; ")
}

func lastCapability() int {
	data, err := rawfd.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			return n
		}
	}
	return unix.CAP_LAST_CAP
}

// Data is the sets as capset(2) wants them, for Header.
func (s *CapabilitySets) Data() [2]unix.CapUserData {
	return [2]unix.CapUserData{
		{
			Effective: uint32(s.Effective), Permitted: uint32(s.Permitted),
			Inheritable: uint32(s.Inheritable),
		},
		{
			Effective: uint32(s.Effective >> 32), Permitted: uint32(s.Permitted >> 32),
			Inheritable: uint32(s.Inheritable >> 32),
		},
	}
}

// Header is for the calling thread.
func Header() unix.CapUserHeader {
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}

// dropBounding takes the capabilities that are not in the bounding set out of the
// thread's. It takes CAP_SETPCAP, so it comes before the others.
func (s *CapabilitySets) dropBounding() error {
	for n := 0; n <= s.Last; n++ {
		if s.Bounding&(1<<n) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
			return os.NewSyscallError("prctl PR_CAPBSET_DROP", err)
		}
	}
	return nil
}

// apply sets the other four.
func (s *CapabilitySets) apply() error {
	header, data := Header(), s.Data()
	if err := unix.Capset(&header, &data[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_CAP_AMBIENT_CLEAR_ALL", err)
	}
	for n := 0; n <= s.Last; n++ {
		if s.Ambient&(1<<n) == 0 {
			continue
		}
		// An ambient capability must be permitted and inheritable: else there is none.
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0)
	}
	return nil
}
