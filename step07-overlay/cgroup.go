//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// cgroup is a container's control group: a folder of the same name in every hierarchy
// that is mounted, see cgroups(7). Version 1 has several, each with some controllers,
// version 2 has one with all; a hybrid machine has both, and each controller is in
// either. Which it is can be told by the files: no two controllers share a file's name.
type cgroup struct {
	dirs []string
	lock *os.File // held while this process lives: see sweepCgroups
}

// findCgroup says where the group of that name is, or would be; version 2 comes first.
func findCgroup(name string) (*cgroup, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	g := &cgroup{}
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ") // proc_pid_mountinfo(5)
		dir := filepath.Join(strings.Fields(before)[4], "minidocker", name)
		switch strings.Fields(after)[0] {
		case "cgroup":
			g.dirs = append(g.dirs, dir)
		case "cgroup2":
			g.dirs = append([]string{dir}, g.dirs...)
		}
	}
	return g, nil
}

// newCgroup makes the container's group and sets its limits. An ordinary user gets
// no group; but limits that he asks for are not silently left out.
func newCgroup(cfg config) (*cgroup, error) {
	if os.Geteuid() != 0 && len(cfg.Limits) == 0 {
		return &cgroup{}, nil
	}
	g, err := findCgroup(cfg.ID)
	if err != nil {
		return nil, err
	}
	if err := g.make(); err != nil {
		if os.Geteuid() != 0 {
			return nil, fmt.Errorf("limits are for root: make the control group: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("make the control group: %w", err), g.remove())
	}
	for _, l := range cfg.Limits {
		if err := g.set(l); err != nil {
			return nil, errors.Join(err, g.remove())
		}
	}
	return g, nil
}

// make makes the folders and locks the first. Meanwhile it holds the lock of the
// hierarchy's top, so that a sweep does not take the new group for one left behind.
func (g *cgroup) make() error {
	if len(g.dirs) == 0 {
		return nil
	}
	top, err := lockFolder(g.top(), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer top.Close()
	for _, dir := range g.dirs {
		logrus.Debugf("parent: mkdir %s", dir)
		if err := prepareParent(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	g.lock, err = lockFolder(g.dirs[0], unix.LOCK_EX)
	return err
}

// top is the root of the hierarchy in which groups are locked.
func (g *cgroup) top() string { return filepath.Dir(filepath.Dir(g.dirs[0])) }

// prepareParent makes the group that all ours are in, and makes it fit for children.
func prepareParent(parent string) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(parent), parent} {
		// Version 2: a group's children have the controllers that it hands down.
		controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			break // version 1
		}
		for _, c := range strings.Fields(string(controllers)) {
			if !strings.Contains("cpu cpuset io memory pids", c) {
				continue
			}
			file := filepath.Join(dir, "cgroup.subtree_control")
			if err := os.WriteFile(file, []byte("+"+c), 0); err != nil {
				return fmt.Errorf("hand down %s (a group with processes in it cannot): %w", c, err)
			}
		}
	}
	// Version 1: a new cpuset is empty, and no process can join it. This one takes its
	// parent's, and with clone_children its own children take after it.
	if _, err := os.Stat(filepath.Join(parent, "cgroup.clone_children")); err != nil {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(parent), file))
		if err != nil {
			return nil // another controller's hierarchy
		}
		if err := os.WriteFile(filepath.Join(parent, file), value, 0); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(parent, "cgroup.clone_children"), []byte("1"), 0)
}

// lockFolder opens a folder and locks it, flock(2), until it is closed.
func lockFolder(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "flock", Path: dir, Err: err}
	}
	return f, nil
}

// find returns the path of the file in whichever of the folders has it, else "".
func (g *cgroup) find(file string) string {
	for _, dir := range g.dirs {
		path := filepath.Join(dir, file)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// set writes a limit. One that cannot be set is an error: nothing runs unlimited by
// mistake.
func (g *cgroup) set(l limit) error {
	settings := l.v2
	if g.find(l.v2[0].file) == "" {
		settings = l.v1
	}
	for _, s := range settings {
		path := g.find(s.file)
		if path == "" && l.flag == swapDefault {
			logrus.Warn("this machine cannot limit swap: only memory is limited")
			continue
		}
		if path == "" {
			return fmt.Errorf("%s: no control group has a file %s or %s: is the controller on?",
				l.flag, l.v2[0].file, s.file)
		}
		logrus.Debugf("parent: write %q to %s", s.value, path)
		if err := os.WriteFile(path, []byte(s.value), 0); err != nil {
			return fmt.Errorf("%s: write %q: %w", l.flag, s.value, err)
		}
	}
	return nil
}

// join puts init, which waits for its configuration, into the group.
func (g *cgroup) join(pid int) error {
	for _, dir := range g.dirs {
		err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0)
		if err != nil {
			return fmt.Errorf("join the control group: %w", err)
		}
	}
	return nil
}

// remove ends what still runs in the group and removes its folders, and the parents if
// it was the last.
func (g *cgroup) remove() error {
	if len(g.dirs) == 0 {
		return nil
	}
	if g.lock != nil {
		defer g.lock.Close()
	}
	limit := time.Now().Add(5 * time.Second)
	// The first one last: after a kill it is the one by which a sweep finds the others.
	for _, dir := range slices.Backward(g.dirs) {
		err := unix.Rmdir(dir)
		for err == unix.EBUSY && time.Now().Before(limit) {
			g.kill(dir)
			time.Sleep(5 * time.Millisecond)
			err = unix.Rmdir(dir)
		}
		if err != nil && err != unix.ENOENT {
			return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
		}
	}
	top, err := lockFolder(g.top(), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer top.Close()
	for _, dir := range g.dirs {
		_ = unix.Rmdir(filepath.Dir(dir)) // it fails while there are others
	}
	return nil
}

// kill sends SIGKILL to the processes in one of the group's folders.
func (g *cgroup) kill(dir string) {
	// Errors mean that it has ended by itself meanwhile.
	_ = g.freeze(false) // in version 1 a frozen process does not even die
	pids, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for _, field := range strings.Fields(string(pids)) {
		if pid, _ := strconv.Atoi(field); pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// sweepCgroups removes the groups of containers whose minidocker was killed: those
// that nobody has locked.
func sweepCgroups() error {
	names, err := cgroupNames()
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	for _, name := range names {
		g, err := findCgroup(name)
		if err != nil {
			return err
		}
		top, err := lockFolder(g.top(), unix.LOCK_EX)
		if err != nil {
			return err
		}
		g.lock, err = lockFolder(g.dirs[0], unix.LOCK_EX|unix.LOCK_NB)
		top.Close()
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue // in use, or gone by now
		}
		logrus.Debugf("parent: sweep up what container %s left", name)
		if err := errors.Join(err, g.remove()); err != nil {
			return err
		}
	}
	return nil
}

// cgroupNames are the IDs of the containers that have a group.
func cgroupNames() ([]string, error) {
	g, err := findCgroup("")
	if err != nil || len(g.dirs) == 0 {
		return nil, err
	}
	entries, err := os.ReadDir(g.dirs[0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
