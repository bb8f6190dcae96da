//go:build linux

// Package cgroup makes a container's control groups, sets their limits, and ends what
// is in them; see cgroups(7). It grew from step 06: a group is a folder of the same path
// in every hierarchy that is mounted, version 1, version 2 or both.
//
// It does not put a process into a group from outside: moving one waits for a grace
// period of the kernel's, some 10 ms. The process is born in it (version 2), or its only
// thread steps in by itself (version 1): see Entrances.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// Hierarchy is a mount of control groups.
type Hierarchy struct {
	Mount       string   // mount point
	Controllers []string // of version 1; empty for version 2
	V2          bool
}

// Group is a container's control group.
type Group struct {
	Path        string // in every hierarchy; begins with a slash
	hierarchies []Hierarchy
	owned       bool // made by this process
}

// Parent is where the engine's groups are that have no other place given.
const Parent = "/minirunc"

// table is the table of mounts as it was read last. The kernel says, by poll(2), whether it has
// changed since: proc_pid_mountinfo(5).
var table struct {
	sync.Mutex
	file        *rawfd.File
	hierarchies []Hierarchy
}

// Hierarchies returns those that are mounted, version 2 first.
func Hierarchies() ([]Hierarchy, error) {
	table.Lock()
	defer table.Unlock()
	if table.file != nil {
		polled := []unix.PollFd{{Fd: int32(table.file.Fd()), Events: unix.POLLPRI}}
		if n, err := unix.Poll(polled, 0); n == 0 && err == nil {
			return slices.Clone(table.hierarchies), nil
		}
		table.file.Close()
		table.file = nil
	}
	file, err := rawfd.Open("/proc/self/mountinfo", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	mounts, err := rawfd.ReadAll(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	table.file, table.hierarchies = file, hierarchies(string(mounts))
	return slices.Clone(table.hierarchies), nil
}

// Forget closes the table of mounts until it is wanted again.
func Forget() {
	table.Lock()
	defer table.Unlock()
	if table.file != nil {
		table.file.Close()
		table.file = nil
	}
}

func hierarchies(mounts string) []Hierarchy {
	var all []Hierarchy
	seen := map[string]bool{}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ") // proc_pid_mountinfo(5)
		if !ok {
			continue
		}
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 3 || kind[0] != "cgroup" && kind[0] != "cgroup2" {
			continue
		}
		h := Hierarchy{Mount: fields[4], V2: kind[0] == "cgroup2"}
		for _, option := range strings.Split(kind[2], ",") {
			if !h.V2 && (slices.Contains(controllersV1, option) || strings.HasPrefix(option, "name=")) {
				h.Controllers = append(h.Controllers, option)
			}
		}
		key := strings.Join(h.Controllers, ",")
		if seen[key] { // the same hierarchy, mounted twice
			continue
		}
		seen[key] = true
		if h.V2 {
			all = slices.Insert(all, 0, h)
		} else {
			all = append(all, h)
		}
	}
	return all
}

var controllersV1 = []string{
	"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
	"net_cls", "net_prio", "hugetlb", "perf_event", "rdma", "misc",
}

// Open returns the group of that path, which may not be there (yet).
func Open(path string) (*Group, error) {
	all, err := Hierarchies()
	if err != nil {
		return nil, err
	}
	return &Group{Path: filepath.Clean("/" + path), hierarchies: all}, nil
}

// Mounts are the hierarchies' mount points in which the group is; never nil.
func (g *Group) Mounts() []string {
	mounts := []string{}
	for _, h := range g.hierarchies {
		mounts = append(mounts, h.Mount)
	}
	return mounts
}

// Only leaves out all hierarchies but those.
func (g *Group) Only(mounts []string) {
	g.hierarchies = slices.DeleteFunc(g.hierarchies, func(h Hierarchy) bool {
		return !slices.Contains(mounts, h.Mount)
	})
}

// Without leaves those hierarchies out.
func (g *Group) Without(mounts []string) {
	g.hierarchies = slices.DeleteFunc(g.hierarchies, func(h Hierarchy) bool {
		return slices.Contains(mounts, h.Mount)
	})
}

// Unified says whether version 2 is all that is mounted.
func (g *Group) Unified() bool {
	return len(g.hierarchies) == 1 && g.hierarchies[0].V2
}

// dir is the group's folder in a hierarchy.
func (g *Group) dir(h Hierarchy) string { return filepath.Join(h.Mount, g.Path) }

// find returns the path of the group's file of that name, in whichever hierarchy has it,
// or "".
func (g *Group) find(file string) string {
	for _, h := range g.hierarchies {
		path := filepath.Join(g.dir(h), file)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// controller returns the group's folder where that controller of version 1 is, or "".
func (g *Group) controller(name string) string {
	for _, h := range g.hierarchies {
		if slices.Contains(h.Controllers, name) {
			return g.dir(h)
		}
	}
	return ""
}

// v2 returns the group's folder in the hierarchy of version 2, or "".
func (g *Group) v2() string {
	if len(g.hierarchies) > 0 && g.hierarchies[0].V2 {
		return g.dir(g.hierarchies[0])
	}
	return ""
}

// Paths returns the group's folder by controller ("" for version 2).
func (g *Group) Paths() map[string]string {
	paths := map[string]string{}
	for _, h := range g.hierarchies {
		if h.V2 {
			paths[""] = g.dir(h)
		}
		for _, c := range h.Controllers {
			paths[c] = g.dir(h)
		}
	}
	return paths
}

// Create makes the group's folders, and those above them, with the controllers handed
// down in version 2 that the limits may need, and no other. It is no error if there are
// some. Where all is read-only or forbidden and soft is true (rootless), the group is
// left out.
func (g *Group) Create(r *specs.LinuxResources, soft bool) error {
	wanted := []string{"cpu", "cpuset", "io", "memory", "pids"}
	if r != nil && len(r.HugepageLimits) > 0 {
		wanted = append(wanted, "hugetlb")
	}
	if r != nil && len(r.Rdma) > 0 {
		wanted = append(wanted, "rdma")
	}
	var kept []Hierarchy
	for _, h := range g.hierarchies {
		if err := g.create(h, wanted); err != nil {
			if soft && (errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)) {
				continue
			}
			return fmt.Errorf("make the control group: %w", err)
		}
		kept = append(kept, h)
	}
	g.hierarchies = kept
	g.owned = true
	return nil
}

func (g *Group) create(h Hierarchy, wanted []string) error {
	dir := h.Mount
	parts := strings.Split(strings.TrimPrefix(g.Path, "/"), "/")
	for _, part := range parts {
		parent := dir
		dir = filepath.Join(dir, part)
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrNotExist) { // removed with the last group in it, a moment ago
			err = os.MkdirAll(dir, 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if h.V2 {
			if err := handDown(parent, wanted); err != nil {
				return err
			}
			continue
		}
		if slices.Contains(h.Controllers, "cpuset") {
			if err := inheritCpuset(parent, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// handDown gives the group's children the wanted controllers, if it has them itself. A
// controller that cannot be given is not an error here: setting a limit of it will be.
func handDown(dir string, wanted []string) error {
	has, err := rawfd.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if len(has) < 2 { // a newline, or nothing
		return nil
	}
	file := filepath.Join(dir, "cgroup.subtree_control")
	given, err := rawfd.ReadFile(file)
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(has)) {
		if slices.Contains(wanted, c) && !slices.Contains(strings.Fields(string(given)), c) {
			_ = rawfd.SetFile(file, "+"+c)
		}
	}
	return nil
}

// inheritCpuset fills a new group's cpuset, which is born empty and lets no process in.
func inheritCpuset(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		now, err := rawfd.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(now)) != "" {
			continue
		}
		above, err := rawfd.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := rawfd.SetFile(filepath.Join(dir, file), string(above)); err != nil {
			return err
		}
	}
	return nil
}

// Entrances are descriptors through which a process comes into the group.
type Entrances struct {
	V2    *rawfd.File   // the folder, for clone3's CLONE_INTO_CGROUP; nil if there is none
	Tasks []*rawfd.File // of version 1: a thread that writes "0" steps in
}

// Entrances opens them, close-on-exec. The caller closes them.
func (g *Group) Entrances() (*Entrances, error) { return g.EntrancesBelow(nil) }

// EntrancesBelow opens those of groups below this one, which must be there, by controller: ""
// stands for version 2, and for those of version 1 that have it. Where nothing is named it is this
// group.
func (g *Group) EntrancesBelow(groups map[string]string) (*Entrances, error) {
	for controller, path := range groups {
		if slices.Contains(strings.Split(path, "/"), "..") {
			return nil, fmt.Errorf("bad sub cgroup path %q: `..` components are not allowed", path)
		}
		if controller != "" && g.controller(controller) == "" {
			return nil, fmt.Errorf("unknown controller %q: no control group has it", controller)
		}
	}
	below := filepath.Join("/", groups[""])
	if below != "/" && !slices.ContainsFunc(g.hierarchies, func(h Hierarchy) bool {
		return isFolder(g.dir(h) + below)
	}) {
		return nil, fmt.Errorf("enter the control group by adding pid 0 to it: %w",
			&fs.PathError{Op: "open", Path: g.Path + below, Err: unix.ENOENT})
	}
	e := &Entrances{}
	for _, h := range g.hierarchies {
		dir := g.dir(h)
		if below != "/" && isFolder(dir+below) {
			dir += below
		}
		for _, c := range h.Controllers {
			if path, ok := groups[c]; ok {
				dir = filepath.Join(g.dir(h), path)
			}
		}
		path, flags := filepath.Join(dir, "tasks"), unix.O_WRONLY
		if h.V2 {
			path, flags = dir, unix.O_PATH|unix.O_DIRECTORY
		}
		f, err := rawfd.Open(path, flags)
		switch {
		case err != nil:
		case h.V2:
			e.V2 = f
		default:
			e.Tasks = append(e.Tasks, f)
		}
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("enter the control group by adding pid 0 to it: %w", err)
		}
	}
	return e, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Into is the descriptor for CLONE_INTO_CGROUP, or -1.
func (e *Entrances) Into() int {
	if e.V2 == nil {
		return -1
	}
	return int(e.V2.Fd())
}

// Close closes the descriptors.
func (e *Entrances) Close() {
	if e.V2 != nil {
		e.V2.Close()
	}
	for _, f := range e.Tasks {
		f.Close()
	}
}

// Pids returns the processes in the group and in the groups below it.
func (g *Group) Pids() ([]int, error) {
	if len(g.hierarchies) == 0 {
		return nil, nil
	}
	// One hierarchy is as good as any; where there are limits, though, none is missing.
	root := g.dir(g.hierarchies[len(g.hierarchies)-1])
	var pids []int
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		data, err := rawfd.ReadFile(filepath.Join(path, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) ||
			errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return err
	})
	slices.Sort(pids)
	return slices.Compact(pids), err
}

// Signal sends a signal to all processes of the group; those born meanwhile as well, if
// it is SIGKILL.
func (g *Group) Signal(sig unix.Signal) error {
	if sig == unix.SIGKILL && g.v2() != "" && g.Unified() {
		if err := rawfd.SetFile(filepath.Join(g.v2(), "cgroup.kill"), "1"); err == nil {
			return nil // since Linux 5.14
		}
	}
	for range 100 {
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
				return fmt.Errorf("kill %d: %w", pid, err)
			}
		}
		if sig != unix.SIGKILL {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Remove removes the group, and the groups below it, when the last process has left; it
// waits for that for ten seconds at most. It is no error if there is none. The folders
// above it stay, for they may be somebody else's; but for this program's own, if it is
// empty.
func (g *Group) Remove() error {
	limit := time.Now().Add(10 * time.Second)
	wait := 100 * time.Microsecond
	for _, h := range g.hierarchies {
		for {
			err := removeTree(g.dir(h))
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(limit) {
				return fmt.Errorf("remove the control group: %w", err)
			}
			time.Sleep(wait)
			wait = min(2*wait, 10*time.Millisecond)
		}
		if filepath.Dir(g.Path) == Parent {
			_ = unix.Rmdir(filepath.Join(h.Mount, Parent))
		}
	}
	return nil
}

func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	entries, readErr := os.ReadDir(dir)
	if readErr != nil {
		return ignoreNotExist(readErr)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Existing are the mount points of the hierarchies in which there is such a group.
func (g *Group) Existing() []string {
	var mounts []string
	for _, h := range g.hierarchies {
		if _, err := os.Stat(g.dir(h)); err == nil {
			mounts = append(mounts, h.Mount)
		}
	}
	return mounts
}

// Freeze stops all processes of the group, or lets them go on, and waits until it is so.
func (g *Group) Freeze(frozen bool) error {
	file, value, status, done := g.find("cgroup.freeze"), "0", g.find("cgroup.events"), "frozen 0"
	if frozen {
		value, done = "1", "frozen 1"
	}
	if dir := g.controller("freezer"); dir != "" {
		file, value = filepath.Join(dir, "freezer.state"), "THAWED"
		if frozen {
			value = "FROZEN"
		}
		status, done = file, value
	}
	if file == "" {
		return errors.New("pause: this machine has no freezer (cgroup.freeze, freezer.state)")
	}
	for i := range 1000 {
		// Version 1 may have to be told again: a process that forks slips through.
		if i%50 == 0 {
			if err := rawfd.SetFile(file, value); err != nil {
				return err
			}
		}
		now, err := rawfd.ReadFile(status)
		if err != nil || strings.Contains(string(now), done) {
			return err
		}
		time.Sleep(time.Duration(min(i+1, 10)) * time.Millisecond)
	}
	if frozen {
		_ = g.Freeze(false) // half paused is worse than running
	}
	return fmt.Errorf("%s does not become %q", status, done)
}

// Frozen says whether the group is paused.
func (g *Group) Frozen() bool {
	if dir := g.controller("freezer"); dir != "" {
		state, err := rawfd.ReadFile(filepath.Join(dir, "freezer.state"))
		return err == nil && strings.TrimSpace(string(state)) != "THAWED"
	}
	if dir := g.v2(); dir != "" {
		state, err := rawfd.ReadFile(filepath.Join(dir, "cgroup.freeze"))
		return err == nil && strings.TrimSpace(string(state)) == "1"
	}
	return false
}
