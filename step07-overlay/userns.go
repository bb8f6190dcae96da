//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// idMap is a line of /proc/PID/uid_map or gid_map, see user_namespaces(7): Count IDs
// from Inside on are those from Outside on, seen from the parent's user namespace.
type idMap struct{ Inside, Outside, Count uint32 }

// usernsOptions reads --userns, --uidmap and --gidmap into cfg. An ordinary user
// always gets a user namespace: without it the kernel grants no other.
func usernsOptions(c *cli.Context, cfg *config) error {
	wanted := c.Bool("userns") || c.IsSet("uidmap") || c.IsSet("gidmap")
	if os.Geteuid() == 0 && !wanted {
		return nil
	}
	var err error
	if cfg.UIDMap, err = parseIDMaps(c.StringSlice("uidmap")); err != nil {
		return err
	}
	if cfg.GIDMap, err = parseIDMaps(c.StringSlice("gidmap")); err != nil {
		return err
	}
	if cfg.UIDMap == nil {
		cfg.UIDMap = defaultIDMap("/etc/subuid", os.Geteuid())
	}
	if cfg.GIDMap == nil {
		cfg.GIDMap = defaultIDMap("/etc/subgid", os.Getegid())
	}
	if cfg.Rootfs != "" {
		cfg.Volumes = append(hostDevices(), cfg.Volumes...)
	}
	return nil
}

// parseIDMaps reads INSIDE:OUTSIDE:COUNT; nil if there is none.
func parseIDMaps(specs []string) ([]idMap, error) {
	var maps []idMap
	for _, spec := range specs {
		var m idMap
		var rest string
		n, _ := fmt.Sscanf(spec, "%d:%d:%d%s", &m.Inside, &m.Outside, &m.Count, &rest)
		if n != 3 || m.Count == 0 {
			return nil, fmt.Errorf("ID map %q: want INSIDE:OUTSIDE:COUNT", spec)
		}
		maps = append(maps, m)
	}
	return maps, nil
}

// defaultIDMap makes root inside the caller, and the IDs from 1 on those that the
// file (subuid(5)) lends the caller. For root it takes a range that nobody has.
func defaultIDMap(file string, id int) []idMap {
	if id == 0 {
		return []idMap{{0, 1000000, 65536}}
	}
	maps := []idMap{{0, uint32(id), 1}}
	caller, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	lent, err2 := os.ReadFile(file)
	if _, err3 := exec.LookPath("newuidmap"); err != nil || err2 != nil || err3 != nil {
		return maps
	}
	for line := range strings.Lines(string(lent)) {
		var start, count uint32
		name, numbers, _ := strings.Cut(line, ":")
		n, _ := fmt.Sscanf(numbers, "%d:%d", &start, &count)
		if n == 2 && (name == caller.Username || name == caller.Uid) {
			return append(maps, idMap{1, start, count})
		}
	}
	return maps
}

// allCapabilities are what init must keep over its execve. The child of clone has
// every capability in the new namespace; execve would take them from it, since with
// no map written yet it is not root. Ambient ones stay: capabilities(7).
func allCapabilities() []uintptr {
	var caps []uintptr
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		caps = append(caps, c)
	}
	return caps
}

// writeIDMaps writes both maps of the process, which waits for its configuration.
func writeIDMaps(pid int, cfg config) error {
	if err := writeIDMap(pid, "gid", os.Getegid(), cfg.GIDMap); err != nil {
		return err
	}
	return writeIDMap(pid, "uid", os.Geteuid(), cfg.UIDMap)
}

// writeIDMap writes /proc/PID/uid_map or gid_map. The kernel lets an ordinary user map
// one ID, his own; for more there are newuidmap(1) and newgidmap(1), setuid programs
// that look the range up in /etc/subuid and /etc/subgid.
func writeIDMap(pid int, kind string, own int, maps []idMap) error {
	var lines strings.Builder
	args := []string{strconv.Itoa(pid)}
	for _, m := range maps {
		line := fmt.Sprintf("%d %d %d", m.Inside, m.Outside, m.Count)
		lines.WriteString(line + "\n")
		args = append(args, strings.Fields(line)...)
	}
	logrus.Debugf("parent: %s_map of process %d: %q", kind, pid, lines.String())
	ownOnly := len(maps) == 1 && maps[0].Outside == uint32(own) && maps[0].Count == 1
	if os.Geteuid() != 0 && !ownOnly {
		if out, err := exec.Command("new"+kind+"map", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("new%smap %s (package uidmap): %s: %s",
				kind, strings.Join(args, " "), err.Error(), out)
		}
		return nil
	}
	if kind == "gid" && os.Geteuid() != 0 {
		// Else one could drop a group that keeps one out of a file. Since Linux 3.19.
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/setgroups", pid), []byte("deny"), 0); err != nil {
			return err
		}
	}
	// One write, all lines: the map can be written once.
	return os.WriteFile(fmt.Sprintf("/proc/%d/%s_map", pid, kind), []byte(lines.String()), 0)
}

// becomeRoot makes init root of its user namespace, now that this has a root: until
// the maps are written every process in it is nobody, 65534.
func becomeRoot() error {
	logrus.Debugf("init: mapped, uid %d and gid %d", os.Getuid(), os.Getgid())
	if rule, err := os.ReadFile("/proc/self/setgroups"); err == nil && string(rule) == "allow\n" {
		if err := unix.Setgroups(nil); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
	}
	if err := unix.Setresgid(0, 0, 0); err != nil {
		return fmt.Errorf("setresgid 0 (is it in the gid map?): %w", err)
	}
	if err := unix.Setresuid(0, 0, 0); err != nil {
		return fmt.Errorf("setresuid 0 (is it in the uid map?): %w", err)
	}
	// A change of IDs clears the parent's death signal: prctl(2).
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// hostDevices are the volumes that stand in for what the kernel refuses to a user
// namespace: device nodes, and a sysfs while the network is the host's.
func hostDevices() []volume {
	vols := []volume{{Source: "/sys", Target: "/sys", ReadOnly: true}}
	for _, d := range devices {
		vols = append(vols, volume{Source: "/dev/" + d.name, Target: "/dev/" + d.name})
	}
	return vols
}

// usernsHint says what on this machine forbids user namespaces; empty if nothing does.
func usernsHint() string {
	for _, s := range []struct{ file, forbids, fix string }{
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "0"}, // Ubuntu since 23.10
		{"kernel/unprivileged_userns_clone", "0", "1"},             // Debian before 11
		{"user/max_user_namespaces", "0", "10000"},
	} {
		value, err := os.ReadFile("/proc/sys/" + s.file)
		if err == nil && strings.TrimSpace(string(value)) == s.forbids {
			return fmt.Sprintf("this machine restricts user namespaces; as root: sysctl -w %s=%s",
				strings.ReplaceAll(s.file, "/", "."), s.fix)
		}
	}
	return ""
}
