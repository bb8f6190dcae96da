//go:build linux

package initproc

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/oci/spawn"
	"minidocker/final/rawfd"
)

// ErrNotByThread means that this container takes Main.
var ErrNotByThread = errors.New("the container takes a process to finish it")

// ByThread says whether Finish will do for a container: one with new mounts, new processes
// and the machine's users, in which nothing but its process is to run, and which wants no
// more of /proc than most do.
func ByThread(s *specs.Spec) bool {
	has := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range s.Linux.Namespaces {
		switch ns.Type {
		case specs.UserNamespace, specs.TimeNamespace:
			return false
		case specs.MountNamespace, specs.PIDNamespace, specs.CgroupNamespace:
			if ns.Path != "" {
				return false
			}
		}
		has[ns.Type] = true
	}
	h, p := s.Hooks, s.Process
	//nolint:staticcheck // prestart is deprecated, and asked for all the same.
	hooked := h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer)+
		len(h.StartContainer) > 0
	special := p == nil || p.Scheduler != nil || p.IOPriority != nil || p.ApparmorProfile != "" ||
		p.SelinuxLabel != "" || s.Linux.Personality != nil || s.Linux.MemoryPolicy != nil ||
		len(s.Linux.NetDevices) > 0
	propagation := strings.TrimPrefix(s.Linux.RootfsPropagation, "r")
	if propagation == "shared" || propagation == "unbindable" {
		return false
	}
	return has[specs.MountNamespace] && has[specs.PIDNamespace] && !hooked && !special &&
		plainProc(s.Mounts)
}

// plainProc says whether proc is mounted once, on /proc, without options of its own, and
// nothing below it.
func plainProc(mounts []specs.Mount) bool {
	found := 0
	for _, m := range mounts {
		at := path.Clean(m.Destination)
		if strings.HasPrefix(at, "/proc/") {
			return false
		}
		if m.Type != "proc" {
			if at == "/proc" || at == "/" {
				return false
			}
			continue
		}
		o, err := parseOptions(m.Options)
		if err != nil || at != "/proc" || o.data != "" || o.set != 0 || o.unset != 0 ||
			o.propagation != nil || o.flags&(unix.MS_BIND|unix.MS_REMOUNT) != 0 {
			return false
		}
		found++
	}
	return found == 1
}

// Files are what Main is given as descriptors.
type Files struct {
	Console, Root spawn.Descriptor // nil if there are none
	Trees         []*rawfd.File    // for Config.Sources
	Devices       []*rawfd.File    // for Config.Devices
}

// Finished is a container that wants but its process, which is to be the child of the thread
// that has finished it.
type Finished struct {
	Path     string      // of the program
	Umask    int         // for the process
	Terminal *rawfd.File // for its streams; nil if it has none
	Procfs   *rawfd.File // a proc of the machine's processes, reachable by this alone

	proc       *rawfd.File // the folder to mount proc on
	source     string
	attributes uint64
	covers     []cover
}

// cover is something in /proc to be hidden by a mount or, if tree is nil, made read-only.
type cover struct {
	path string // from /proc
	tree *rawfd.File
}

// Finish finishes a container as Main does, in a thread of the runtime's: one start of a
// program less. The thread is in the new namespaces, but for that of processes, which only
// its child will be in; and so only that can mount /proc: see MountProc.
//
// That the runtime's own memory is in the container while it is finished is no danger: there
// is nobody else in it yet. The thread cannot be used for anything else afterwards.
func Finish(config *Config, spec *specs.Spec, files Files) (*Finished, error) {
	config.Spec = spec
	c := &container{Config: config, files: files, finished: &Finished{}}
	c.namespaces()
	// The cgroup namespace is the child's: groups are shown by bind mounts.
	c.newCgroup = false
	if config.NewKeyring {
		if err := c.newKeyring(); err != nil {
			return nil, err
		}
	}
	if c.new[specs.NetworkNamespace] {
		if err := loopbackUp(); err != nil {
			return nil, err
		}
	}
	if err := c.prepareProcfs(); err != nil {
		return nil, err
	}
	c.umask = unix.Umask(0o022) // the thread's own, since its mounts are
	for _, step := range []func() error{
		c.makeRoot, c.setNames, c.setSysctls, c.protectPaths, c.propagate, c.addHome,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	f := c.finished
	f.Procfs, f.Terminal, f.Umask = c.procfs, c.slave, c.umask
	if u := spec.Process.User.Umask; u != nil {
		f.Umask = int(*u)
	}
	var err error
	if f.Path, err = LookPath(spec.Process.Args[0], spec.Process.Env); err != nil {
		return nil, &programError{err}
	}
	return f, nil
}

// Close closes what the child has used.
func (f *Finished) Close() {
	for _, c := range f.covers {
		if c.tree != nil {
			c.tree.Close()
		}
	}
	for _, file := range []*rawfd.File{f.proc, f.Procfs, f.Terminal} {
		if file != nil {
			file.Close()
		}
	}
}

// IsProgramError says whether it was the program that could not be executed.
func IsProgramError(err error) bool {
	program := (*programError)(nil)
	return errors.As(err, &program)
}

// deferProc keeps where proc is to be mounted.
func (c *container) deferProc(m specs.Mount, o *mountOptions, target *rawfd.File) {
	c.finished.proc, c.finished.source = target, m.Source
	c.finished.attributes = attributes(o.flags)
}

// deferCover prepares what is done about a path in /proc when that is there. It says whether
// the path is one. What exists in /proc, beside the processes, is the same in every one.
func (c *container) deferCover(name string, mask bool) (bool, error) {
	name = path.Clean(name)
	below, ok := strings.CutPrefix(name, "/proc/")
	if c.finished == nil || !ok {
		return false, nil
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(c.procfs.Fd()), below, &how)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return true, nil
	}
	if err != nil { // a link: to a process's own, perhaps
		return true, ErrNotByThread
	}
	there := rawfd.New(fd, name)
	defer there.Close()
	covered := cover{path: below}
	switch {
	case !mask:
	case isDir(there):
		covered.tree, err = c.emptyFolder()
	default:
		covered.tree, err = c.nullCopy()
	}
	c.finished.covers = append(c.finished.covers, covered)
	return true, err
}

// checkMissing is for a path to be protected that is not there: it is not to be there either
// when proc is, by a link.
func (c *container) checkMissing(name string) error {
	if c.finished == nil {
		return nil
	}
	f, err := c.root.open(name, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
	if err == nil {
		f.Close()
	}
	if errors.Is(err, unix.ELOOP) {
		return ErrNotByThread
	}
	return nil
}

// MountProc appends what the child does about /proc.
func (f *Finished) MountProc(p *spawn.Plan) error {
	empty := p.Pointer("")
	fs, err := p.Open("fsopen proc", unix.SYS_FSOPEN, p.Pointer("proc"), unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	p.Call("fsconfig source", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING,
		p.Pointer("source"), p.Pointer(f.source), 0)
	p.Call("mount /proc: fsconfig", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	mount, err := p.Open("fsmount", unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC,
		uintptr(f.attributes))
	if err != nil {
		return err
	}
	move := func(what string, tree, target uintptr) {
		p.Call(what+": move_mount", unix.SYS_MOVE_MOUNT, tree, empty, target, empty,
			unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	}
	move("mount /proc", mount, f.proc.Fd())
	for _, c := range f.covers {
		what := fmt.Sprintf("protect %q", "/proc/"+c.path)
		how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
		target, err := p.Open(what, unix.SYS_OPENAT2, mount, p.Pointer(c.path), spawn.Keep(p, how),
			unix.SizeofOpenHow)
		if err != nil {
			return err
		}
		if c.tree != nil {
			move(what, c.tree.Fd(), target)
			continue
		}
		tree, err := p.Open(what, unix.SYS_OPEN_TREE, target, empty, unix.OPEN_TREE_CLONE|
			unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
		if err != nil {
			return err
		}
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		p.Call(what+": mount_setattr", unix.SYS_MOUNT_SETATTR, tree, empty,
			unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, spawn.Keep(p, attr), unsafe.Sizeof(*attr))
		move(what, tree, target)
	}
	return nil
}
