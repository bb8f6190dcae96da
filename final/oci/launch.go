//go:build linux

package oci

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/oci/filelimit"
	"minidocker/final/oci/initproc"
	"minidocker/final/oci/spawn"
	"minidocker/final/rawfd"
)

// launch starts a process in the container's control group, and in the namespaces of its
// configuration: those with a path joined, the others new.
//
//	one clone, if all are new:           clone(NEW…) → groups → [map] → exec
//	two, if some are joined or of time:  clone → groups → setns … → [unshare user → map]
//	                                     → unshare time → [offsets] → clone(NEW…) → exec
//
// The second way is what a pid namespace needs, which only children come into, and one of
// time; and a user namespace, which must be there before the others belong to it.
func (b *creation) launch(
	entrances *cgroup.Entrances, files []spawn.Descriptor, exec func(*spawn.Plan) error,
) (*spawn.Child, error) {
	var flags uintptr
	var joined []*rawfd.File
	var user *rawfd.File // to be joined last
	newUser, newCgroup, newTime := false, false, false
	for _, ns := range b.spec.Linux.Namespaces {
		if ns.Path != "" {
			f, err := openNamespace(ns)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			// An ordinary user needs the rights that a user namespace gives for all others; root
			// would lose there what it needs for those that do not belong to it.
			if ns.Type == specs.UserNamespace && os.Geteuid() == 0 {
				user = f
			} else if ns.Type == specs.UserNamespace {
				joined = append([]*rawfd.File{f}, joined...)
			} else {
				joined = append(joined, f)
			}
			continue
		}
		switch ns.Type {
		case specs.UserNamespace:
			newUser = true
		case specs.CgroupNamespace:
			newCgroup = true
		case specs.TimeNamespace:
			newTime = true
		default:
			flags |= namespaceFlags[ns.Type].flag
		}
	}
	if user != nil {
		joined = append(joined, user)
	}
	childReads, weWrite, err := rawfd.Pipe()
	if err != nil {
		return nil, err
	}
	defer childReads.Close()
	defer weWrite.Close()
	weRead, childWrites, err := rawfd.Pipe()
	if err != nil {
		return nil, err
	}
	defer weRead.Close()
	defer childWrites.Close()

	twice := len(joined) > 0 || newTime
	first := flags
	if twice {
		first = 0
	} else if newUser {
		first |= unix.CLONE_NEWUSER
	}
	plan := spawn.New(first, entrances.Into())
	defer plan.Close()
	// The writing end is ours alone, or its end would never be seen.
	plan.Call("close", unix.SYS_CLOSE, weWrite.Fd())
	if err := b.raiseLimits(plan); err != nil {
		return nil, err
	}
	for _, tasks := range entrances.Tasks {
		plan.Enter(tasks)
	}
	if err := setAffinity(plan, "", initproc.EveryCPU()); err != nil {
		return nil, err
	}
	// In a pid namespace that others are in already nobody may look at it (CVE-2016-9962).
	dumpable := newUser || newTime // or its files in /proc were not ours to write to
	if !dumpable {
		plan.Call("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	for _, f := range joined {
		plan.Join(f, 0)
	}
	if twice && newUser {
		plan.Unshare(unix.CLONE_NEWUSER)
	}
	if newTime {
		plan.Unshare(unix.CLONE_NEWTIME)
	}
	wait := newUser || newTime
	if wait {
		plan.Tell(childWrites)
		plan.Await(childReads)
	}
	if newUser || b.joins(specs.UserNamespace) {
		// Root of the namespace, before exec would take the capabilities from nobody.
		plan.Try("setgroups", unix.SYS_SETGROUPS, 0, 0)
		plan.Call("setresgid 0", unix.SYS_SETRESGID, 0, 0, 0)
		plan.Call("setresuid 0", unix.SYS_SETRESUID, 0, 0, 0)
	}
	if newCgroup { // seen from the group that it is in by now
		plan.Unshare(unix.CLONE_NEWCGROUP)
	}
	if twice {
		plan.Clone(flags)
	}
	if err := plan.Descriptors(files); err != nil {
		return nil, err
	}
	if err := exec(plan); err != nil {
		return nil, err
	}
	child, err := plan.Start()
	if err != nil {
		return nil, err
	}
	childWrites.Close()
	if wait {
		if err := b.mapAndGo(child, newUser, newTime, weRead, weWrite); err != nil {
			weWrite.Close() // it ends itself
			_ = child.Wait()
			return nil, err
		}
	}
	if err := child.Wait(); err != nil {
		return nil, fmt.Errorf("start init: %w", err)
	}
	return child, nil
}

// raiseLimits appends that resource limits are raised to what the configuration wants,
// while there is the right to: init lowers them, last of all. The limit on open files is
// the caller's, which Go has raised.
func (b *creation) raiseLimits(plan *spawn.Plan) error {
	plan.Limit("RLIMIT_NOFILE", unix.RLIMIT_NOFILE, filelimit.Soft(), filelimit.Hard())
	if b.spec.Process == nil {
		return nil
	}
	for _, l := range b.spec.Process.Rlimits {
		resource, err := initproc.Resource(l)
		if err != nil {
			return err
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		if l.Hard > now.Max {
			plan.Limit(l.Type, resource, now.Cur, l.Hard)
		}
	}
	return nil
}

func (b *creation) joins(kind specs.LinuxNamespaceType) bool {
	for _, ns := range b.spec.Linux.Namespaces {
		if ns.Type == kind && ns.Path != "" {
			return true
		}
	}
	return false
}

// openNamespace opens a namespace's file and sees that it is one, of that type.
func openNamespace(ns specs.LinuxNamespace) (*rawfd.File, error) {
	f, err := rawfd.Open(ns.Path, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("linux.namespaces: %w", err)
	}
	kind, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.NS_GET_NSTYPE, 0)
	want := namespaceFlags[ns.Type].flag
	if errno != 0 || kind != want {
		f.Close()
		return nil, fmt.Errorf("linux.namespaces: %s is no %s namespace", ns.Path, ns.Type)
	}
	return f, nil
}

// mapAndGo waits until the child is in its new namespaces, gives them their maps and
// offsets, and lets it go on.
func (b *creation) mapAndGo(
	child *spawn.Child, user, time bool, weRead, weWrite *rawfd.File,
) error {
	if _, err := weRead.Read(make([]byte, 1)); err != nil {
		return errors.New("init ended before it was in its namespaces")
	}
	if user {
		if err := b.writeMap(child.Pid, "uid", b.spec.Linux.UIDMappings); err != nil {
			return err
		}
		if err := b.writeMap(child.Pid, "gid", b.spec.Linux.GIDMappings); err != nil {
			return err
		}
	}
	if time {
		var text strings.Builder
		for clock, offset := range b.spec.Linux.TimeOffsets {
			fmt.Fprintf(&text, "%s %d %d\n", clock, offset.Secs, offset.Nanosecs)
		}
		if text.Len() > 0 {
			file := fmt.Sprintf("/proc/%d/timens_offsets", child.Pid)
			if err := os.WriteFile(file, []byte(text.String()), 0); err != nil {
				return fmt.Errorf("linux.timeOffsets: %w", err)
			}
		}
	}
	_, err := weWrite.Write([]byte("x"))
	return err
}

// writeMap writes uid_map or gid_map of a new user namespace: step 05 has it at length.
func (b *creation) writeMap(pid int, kind string, maps []specs.LinuxIDMapping) error {
	if len(maps) == 0 {
		return fmt.Errorf("linux.%sMappings: a new user namespace needs some", kind)
	}
	var lines strings.Builder
	args := []string{strconv.Itoa(pid)}
	for _, m := range maps {
		fmt.Fprintf(&lines, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
		args = append(args, fmt.Sprint(m.ContainerID), fmt.Sprint(m.HostID), fmt.Sprint(m.Size))
	}
	own := os.Geteuid()
	if kind == "gid" {
		own = os.Getegid()
	}
	ownOnly := len(maps) == 1 && maps[0].Size == 1 && int(maps[0].HostID) == own
	if os.Geteuid() != 0 && !ownOnly {
		out, err := exec.Command("new"+kind+"map", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("new%smap %s (package uidmap): %w: %s",
				kind, strings.Join(args, " "), err, out)
		}
		return nil
	}
	if kind == "gid" && os.Geteuid() != 0 {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/setgroups", pid), []byte("deny"), 0); err != nil {
			return err
		}
	}
	file := fmt.Sprintf("/proc/%d/%s_map", pid, kind)
	if err := os.WriteFile(file, []byte(lines.String()), 0); err != nil {
		return fmt.Errorf("linux.%sMappings: %w", kind, err)
	}
	return nil
}
