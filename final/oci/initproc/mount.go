//go:build linux

package initproc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/rawfd"
)

// mount makes the mount with that place in config.json.
func (c *container) mount(place int) error {
	m := c.Spec.Mounts[place]
	o, err := parseOptions(m.Options)
	if err == nil {
		err = c.mountWith(m, place, o)
	}
	if err != nil {
		return fmt.Errorf("mount %q (type %q, from %q, options %q): %w",
			m.Destination, m.Type, m.Source, strings.Join(m.Options, ","), err)
	}
	return nil
}

func (c *container) mountWith(m specs.Mount, place int, o *mountOptions) error {
	kind := o.kind(m)
	if (o.idmap || m.UIDMappings != nil || m.GIDMappings != nil) && kind != "bind" {
		return errors.New("ID mappings are for bind mounts")
	}
	switch kind {
	case "bind":
		return c.bind(m, place, o)
	case "cgroup", "cgroup2":
		return c.mountCgroup(m, o)
	case "proc", "sysfs":
		return c.mountKernel(m, o)
	}
	if o.flags&unix.MS_REMOUNT != 0 {
		target, err := c.root.open(m.Destination, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer target.Close()
		return mountOn(m.Source, target, kind, o)
	}
	target, err := c.root.open(m.Destination, unix.O_PATH, 0)
	isNew := errors.Is(err, unix.ENOENT)
	if isNew {
		target, err = c.root.make(m.Destination, true)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	if kind == "tmpfs" {
		return c.mountTmpfs(m, o, target, isNew)
	}
	if err := mountOn(m.Source, target, kind, o); err != nil {
		if kind == "mqueue" && errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w (is the ipc namespace the container's own?)", err)
		}
		return err
	}
	return c.after(m.Destination, o)
}

// mountOn is mount(2) on a descriptor, without what belongs to later calls.
func mountOn(source string, target *rawfd.File, kind string, o *mountOptions) error {
	if err := unix.Mount(source, proc(target), kind, o.flags, o.data); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return nil
}

// after does what takes the finished mount: attributes for all below it, propagation.
func (c *container) after(destination string, o *mountOptions) error {
	if o.set == 0 && o.unset == 0 && o.propagation == nil {
		return nil
	}
	target, err := c.root.open(destination, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	if o.set != 0 || o.unset != 0 {
		if err := setAttributes(target, o.set, o.unset, true); err != nil {
			return err
		}
	}
	for _, p := range o.propagation {
		if err := unix.Mount("", proc(target), "", p, ""); err != nil {
			return fmt.Errorf("set propagation: %w", err)
		}
	}
	return nil
}

func setAttributes(f *rawfd.File, set, unset uint64, recursive bool) error {
	if (set|unset)&unix.MOUNT_ATTR__ATIME != 0 { // one value, not flags
		unset |= unix.MOUNT_ATTR__ATIME
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: set, Attr_clr: unset}
	if err := unix.MountSetattr(int(f.Fd()), "", flags, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err) // since Linux 5.12
	}
	return nil
}

// mountKernel mounts proc or sysfs: only on a real folder, at the path that the
// configuration has, for what comes later trusts it to be there (CVE-2019-16884,
// CVE-2019-19921).
func (c *container) mountKernel(m specs.Mount, o *mountOptions) error {
	if target, err := c.root.make(m.Destination, true); err == nil {
		target.Close() // an error will be seen below
	}
	target, err := c.root.open(m.Destination, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("%s must be mounted on ordinary directory, reached without links: %w",
			m.Type, err)
	}
	if c.finished != nil && m.Type == "proc" {
		c.deferProc(m, o, target)
		return nil
	}
	defer target.Close()
	if err := mountOn(m.Source, target, m.Type, o); err != nil {
		return err
	}
	return c.after(m.Destination, o)
}

// mountTmpfs mounts a tmpfs with the mode of the folder that it covers, unless it says or the
// folder is new.
func (c *container) mountTmpfs(
	m specs.Mount, o *mountOptions, target *rawfd.File, isNew bool,
) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(target.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if !isNew && !strings.Contains(","+o.data, ",mode=") {
		o.data = strings.TrimPrefix(fmt.Sprintf("%s,mode=%o", o.data, st.Mode&0o7777), ",")
	}
	readOnly := o.flags & unix.MS_RDONLY
	// What is put into /dev comes later: see readOnlyDev.
	dev := readOnly != 0 && filepath.Clean(m.Destination) == "/dev"
	if o.copyUp || dev {
		o.flags &^= unix.MS_RDONLY
	}
	if err := mountOn(m.Source, target, "tmpfs", o); err != nil {
		return err
	}
	c.devReadOnly = c.devReadOnly || dev
	if o.copyUp {
		onTop, err := c.root.open(m.Destination, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer onTop.Close()
		// target is still open on the folder below the new mount.
		if err := copyTree(target, onTop); err != nil {
			return fmt.Errorf("tmpcopyup: %w", err)
		}
		if readOnly != 0 && !dev {
			if err := unix.Mount("", proc(onTop), "", unix.MS_REMOUNT|o.flags|readOnly, o.data); err != nil {
				return fmt.Errorf("remount read-only: %w", err)
			}
		}
	}
	return c.after(m.Destination, o)
}

// readOnlyDev makes /dev read-only, when all is there, if its mount is to be so.
func (c *container) readOnlyDev() error {
	if !c.devReadOnly {
		return nil
	}
	dev, err := c.root.open("/dev", unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := setAttributes(dev, unix.MOUNT_ATTR_RDONLY, 0, false); err != nil {
		return fmt.Errorf("make /dev read-only: %w", err)
	}
	return nil
}

// copyTree copies what is in a folder into another, with modes, owners and links.
func copyTree(from, to *rawfd.File) error {
	source, err := os.OpenRoot(proc(from))
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenRoot(proc(to))
	if err != nil {
		return err
	}
	defer target.Close()
	return fs.WalkDir(source.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := source.Lstat(path)
		if err != nil {
			return err
		}
		st, _ := info.Sys().(*syscall.Stat_t)
		switch {
		case info.IsDir():
			err = target.Mkdir(path, 0o755)
		case info.Mode()&fs.ModeSymlink != 0:
			var link string
			if link, err = source.Readlink(path); err == nil {
				err = target.Symlink(link, path)
			}
		case info.Mode().IsRegular():
			err = copyFile(source, target, path)
		default:
			return nil // devices, pipes and sockets stay behind
		}
		if err == nil {
			err = target.Lchown(path, int(st.Uid), int(st.Gid))
		}
		if err == nil && info.Mode()&fs.ModeSymlink == 0 {
			err = target.Chmod(path, info.Mode())
		}
		return err
	})
}

func copyFile(source, target *os.Root, path string) error {
	in, err := source.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := target.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// bind shows a file or folder of the host. It is taken in the hand first, open_tree(2),
// gets its attributes there, and is attached when it is finished: it is never seen with
// more rights than it should have.
func (c *container) bind(m specs.Mount, place int, o *mountOptions) error {
	source := m.Source
	if !filepath.IsAbs(source) {
		source = filepath.Join(c.Bundle, source)
	}
	if o.flags&unix.MS_REMOUNT != 0 {
		target, err := c.root.open(m.Destination, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer target.Close()
		return setAttributes(target, attributes(o.flags), attributes(o.clear), false)
	}
	tree, err := c.source(source, place, o)
	if err != nil {
		return err
	}
	defer tree.Close()
	if set, unset := attributes(o.flags), attributes(o.clear); set != 0 || unset != 0 {
		if err := setAttributes(tree, set, unset, false); err != nil {
			return err
		}
	}
	target, err := c.root.make(m.Destination, isDir(tree))
	if err != nil {
		return err
	}
	defer target.Close()
	if isDir(target) != isDir(tree) {
		return errors.New("one is a folder, the other is not")
	}
	err = unix.MoveMount(int(tree.Fd()), "", int(target.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	return c.after(m.Destination, o)
}

// source is a copy of the mount that the runtime has handed over, or else one made here.
func (c *container) source(path string, place int, o *mountOptions) (*rawfd.File, error) {
	if i := slices.Index(c.Sources, place); i >= 0 {
		return c.files.Trees[i], nil
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if o.flags&unix.MS_REC != 0 {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return rawfd.New(fd, path), nil
}

// BindOptions says whether a mount is a bind mount (and not the change of one), of all
// that is mounted below as well, and with mapped owners.
func BindOptions(m specs.Mount) (bind, recursive, idmap bool) {
	o, err := parseOptions(m.Options)
	if err != nil || o.kind(m) != "bind" || o.flags&unix.MS_REMOUNT != 0 {
		return false, false, false // init will say what is wrong
	}
	return true, o.flags&unix.MS_REC != 0, o.idmap || m.UIDMappings != nil || m.GIDMappings != nil
}

func (o *mountOptions) kind(m specs.Mount) string {
	if o.flags&unix.MS_BIND != 0 || m.Type == "none" && o.flags == 0 {
		return "bind"
	}
	return m.Type
}

// mountCgroup shows the container its own control groups: version 2 as one file system,
// version 1 as a folder with one for each hierarchy.
func (c *container) mountCgroup(m specs.Mount, o *mountOptions) error {
	all := c.hierarchies
	target, err := c.root.make(m.Destination, true)
	if err != nil {
		return err
	}
	defer target.Close()
	unified := len(all) == 1 && all[0].V2
	if unified || m.Type == "cgroup2" {
		if err := c.mountCgroup2(target, o); err != nil {
			return err
		}
		return c.after(m.Destination, o)
	}
	readOnly := o.flags & unix.MS_RDONLY
	top := &mountOptions{flags: o.flags &^ unix.MS_RDONLY, data: "mode=755"}
	if err := mountOn("tmpfs", target, "tmpfs", top); err != nil {
		return err
	}
	for _, h := range all {
		if err := c.mountHierarchy(m.Destination, h, o); err != nil {
			return fmt.Errorf("%s: %w", h.Mount, err)
		}
	}
	if readOnly != 0 {
		onTop, err := c.root.open(m.Destination, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer onTop.Close()
		if err := unix.Mount("", proc(onTop), "", unix.MS_REMOUNT|o.flags, "mode=755"); err != nil {
			return fmt.Errorf("remount read-only: %w", err)
		}
	}
	return c.after(m.Destination, o)
}

func (c *container) mountCgroup2(target *rawfd.File, o *mountOptions) error {
	if c.finished != nil && c.has[specs.CgroupNamespace] {
		return c.bindInto("/sys/fs/cgroup"+c.CgroupPath, target, o.flags)
	}
	err := mountOn("cgroup", target, "cgroup2", &mountOptions{flags: o.flags, data: o.data})
	if err == nil || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	// In a user namespace without a cgroup namespace: the host's, as it is.
	return c.bindInto("/sys/fs/cgroup"+c.CgroupPath, target, o.flags)
}

func (c *container) mountHierarchy(destination string, h cgroup.Hierarchy, o *mountOptions) error {
	name := filepath.Base(h.Mount)
	dir, err := c.root.make(filepath.Join(destination, name), true)
	if err != nil {
		return err
	}
	defer dir.Close()
	if c.newCgroup {
		data := strings.Join(h.Controllers, ",")
		if len(h.Controllers) > 0 && strings.HasPrefix(h.Controllers[0], "name=") {
			data = "none," + data
		}
		kind := "cgroup"
		if h.V2 {
			kind, data = "cgroup2", ""
		}
		err = mountOn("cgroup", dir, kind, &mountOptions{flags: o.flags, data: data})
	} else {
		err = c.bindInto(filepath.Join(h.Mount, c.CgroupPath), dir, o.flags)
	}
	if err != nil || h.V2 {
		return err
	}
	// cpu and cpuacct are links to cpu,cpuacct, on machines where they are one.
	parent, err := c.root.open(destination, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	for _, controller := range h.Controllers {
		link := strings.TrimPrefix(controller, "name=")
		if link != name && len(h.Controllers) > 1 {
			if err := unix.Symlinkat(name, int(parent.Fd()), link); err != nil && err != unix.EEXIST {
				return os.NewSyscallError("symlinkat", err)
			}
		}
	}
	return nil
}

// bindInto binds a path of the host on a descriptor, with flags of mount(2).
func (c *container) bindInto(source string, target *rawfd.File, flags uintptr) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	tree := rawfd.New(fd, source)
	defer tree.Close()
	if set := attributes(flags); set != 0 {
		if err := setAttributes(tree, set, 0, true); err != nil {
			return err
		}
	}
	err = unix.MoveMount(fd, "", int(target.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}
