//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is a mount of control groups: one of v1's, with its controllers, or v2's.
type hierarchy struct {
	mount   string // mount point
	options string // what mount(2) wants as data: the controllers, or nothing for v2
	group   string // the sandbox's own group in it
}

func (h hierarchy) v2() bool { return h.options == "" }

// hierarchies reads them from the mount table; none on a machine without control groups.
func hierarchies() ([]hierarchy, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !strings.HasPrefix(f[4], "/sys/fs/cgroup") {
			continue
		}
		switch kind[0] {
		case "cgroup2":
			all = append(all, hierarchy{mount: f[4]})
		case "cgroup":
			var options []string
			for o := range strings.SplitSeq(kind[2], ",") {
				if o != "rw" && o != "xattr" && !strings.Contains(o, "release_agent=") {
					options = append(options, o)
				}
			}
			if strings.HasPrefix(options[0], "name=") {
				options = append([]string{"none"}, options...)
			}
			all = append(all, hierarchy{mount: f[4], options: strings.Join(options, ",")})
		}
	}
	return all, nil
}

// currentGroup returns the path of this process's group in the hierarchy.
func (h hierarchy) currentGroup() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if h.v2() && f[0] == "0" || !h.v2() && f[1] == strings.TrimPrefix(h.options, "none,") {
			return filepath.Join(h.mount, f[2]), nil
		}
	}
	return "", fmt.Errorf("/proc/self/cgroup has no line for %s", h.mount)
}

// makeGroups makes a group for the sandbox in every hierarchy. On v1 it lies in this
// process's own group, so that limits of the machine go on holding; on v2, where a
// group with processes in it can have no children with limits, in the uppermost one.
func makeGroups(name string, first bool) ([]hierarchy, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for i := range all {
		h := &all[i]
		parent := h.mount
		if !h.v2() {
			if parent, err = h.currentGroup(); err != nil {
				return all, err
			}
		}
		h.group = filepath.Join(parent, name)
		if err := os.Mkdir(h.group, 0o755); err != nil {
			return all, fmt.Errorf("make a control group: %w", err)
		}
		if first {
			h.goFirst()
		}
		if err := h.prepare(parent); err != nil {
			return all, err
		}
	}
	return all, nil
}

// goFirst gives the new group all the weight there is: what is measured in it is to depend
// on its own limits, and not on what else runs on the machine. Where there is no such file,
// or it may not be written, it does.
func (h hierarchy) goFirst() {
	for file, most := range map[string]string{"cpu.shares": "262144", "cpu.weight": "10000"} {
		if _, err := os.Stat(filepath.Join(h.group, file)); err == nil {
			_ = os.WriteFile(filepath.Join(h.group, file), []byte(most), 0)
		}
	}
}

// prepare gives the new group what processes in it need.
func (h hierarchy) prepare(parent string) error {
	if h.v2() {
		if err := handDown(parent); err != nil {
			return err
		}
		return os.Mkdir(filepath.Join(h.group, "init"), 0o755) // for its own processes
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group of v1
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(h.group, file), value, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// handDown gives the children of a group of v2 the controllers that the steps are about.
// systemd turns on only those that its services use. They stay on afterwards, as
// minidocker itself leaves them on.
func handDown(group string) error {
	controllers, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(controllers)) {
		if !slices.Contains([]string{"cpu", "cpuset", "io", "memory", "pids"}, c) {
			continue
		}
		file := filepath.Join(group, "cgroup.subtree_control")
		if err := os.WriteFile(file, []byte("+"+c), 0); err != nil {
			return fmt.Errorf("hand down the controller %s: %w", c, err)
		}
	}
	return nil
}

// removeGroups removes what makeGroups made, and what is left in it. The sandbox's
// processes are dead or about to die.
func removeGroups(all []hierarchy) error {
	var errs []error
	for _, h := range all {
		if h.group == "" {
			continue
		}
		var err error
		for range 100 {
			if err = removeTree(h.group); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func removeTree(group string) error {
	var groups []string
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for i := len(groups) - 1; i >= 0; i-- { // children first
		if err := unix.Rmdir(groups[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "rmdir", Path: groups[i], Err: err}
		}
	}
	return nil
}

// enterGroups puts this thread, which the caller has locked, into the groups and makes
// these the roots of all that its children will see of control groups. On v1 a thread
// can be moved alone, and is so at once; the move of a process waits for a grace
// period of the kernel, some 15 ms.
func enterGroups(all []hierarchy) error {
	for _, h := range all {
		file := "tasks"
		if h.v2() {
			file = "cgroup.procs"
		}
		if err := join(filepath.Join(h.group, file)); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare a cgroup namespace: %w", err)
	}
	for _, h := range all {
		if h.v2() { // a group with controllers for its children has no processes
			if err := join(filepath.Join(h.group, "init", "cgroup.procs")); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(file string) error { return os.WriteFile(file, []byte("0"), 0) }

// mountGroups mounts the hierarchies anew, where the machine has them: what is mounted
// in a cgroup namespace begins at that namespace's root. /sys is new and empty there.
func mountGroups(all []hierarchy, links map[string]string) error {
	if len(all) == 0 {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	const root = "/sys/fs/cgroup"
	if all[0].mount != root { // v1: a folder for each hierarchy
		if err := mount("tmpfs", root, "tmpfs", flags); err != nil {
			return err
		}
	}
	for _, h := range all {
		fstype := "cgroup"
		if h.v2() {
			fstype = "cgroup2"
		}
		if err := os.MkdirAll(h.mount, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(fstype, h.mount, fstype, flags, h.options); err != nil {
			return fmt.Errorf("mount %s %q on %s: %w", fstype, h.options, h.mount, err)
		}
	}
	for link, target := range links {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	return nil
}

// groupLinks are the symbolic links beside the hierarchies, such as cpu -> cpu,cpuacct.
func groupLinks() (map[string]string, error) {
	entries, err := os.ReadDir("/sys/fs/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	links := map[string]string{}
	for _, e := range entries {
		if e.Type() == fs.ModeSymlink {
			link := filepath.Join("/sys/fs/cgroup", e.Name())
			if links[link], err = os.Readlink(link); err != nil {
				return nil, err
			}
		}
	}
	return links, err
}
