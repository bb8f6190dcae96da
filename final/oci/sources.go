//go:build linux

package oci

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/oci/initproc"
)

// openSources takes those mounts in the hand that init cannot: with mapped owners, for
// which the kernel wants rights on the file system; and in a user namespace all bind
// mounts, whose sources may lie in folders that only the host's root can go through. It
// returns the mounts and, for each, its place in config.json.
func (b *creation) openSources() ([]*os.File, []int, error) {
	var files []*os.File
	var places []int
	user := os.Geteuid() == 0 && slices.ContainsFunc(b.spec.Linux.Namespaces,
		func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	for i, m := range b.spec.Mounts {
		if tree := b.opts.Trees[m.Destination]; tree != nil {
			files, places = append(files, tree), append(places, i)
			continue
		}
		bind, recursive, idmap := initproc.BindOptions(m)
		if !bind || !user && !idmap {
			continue
		}
		f, err := b.openSource(m, recursive, idmap)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, nil, fmt.Errorf("mount %q: %w", m.Destination, err)
		}
		files, places = append(files, f), append(places, i)
	}
	return files, places, nil
}

func (b *creation) openSource(m specs.Mount, recursive, idmap bool) (*os.File, error) {
	source := m.Source
	if !filepath.IsAbs(source) {
		source = filepath.Join(b.Bundle, source)
	}
	below := uint(0)
	if recursive {
		below = unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|below)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	tree := os.NewFile(uintptr(fd), source)
	// What the container mounts below is not to come out.
	attr := unix.MountAttr{Propagation: unix.MS_SLAVE}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|below, &attr)
	if err != nil {
		tree.Close()
		return nil, os.NewSyscallError("mount_setattr", err)
	}
	if idmap {
		if err := b.mapIDs(tree, m); err != nil {
			tree.Close()
			return nil, err
		}
	}
	return tree, nil
}

// mapIDs maps the owners of a mount's files: mount_setattr(2) with MOUNT_ATTR_IDMAP, which
// takes a user namespace that has the map.
func (b *creation) mapIDs(tree *os.File, m specs.Mount) error {
	uids, gids := m.UIDMappings, m.GIDMappings
	if uids == nil && gids == nil {
		for _, ns := range b.spec.Linux.Namespaces { // one that is joined has the container's maps
			if ns.Type == specs.UserNamespace && ns.Path != "" {
				return mapIDsAs(tree, m, ns.Path)
			}
		}
		uids, gids = b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings
	}
	if uids == nil || gids == nil {
		return errors.New("idmap needs both uidMappings and gidMappings, its own or the container's")
	}
	// A child that does nothing but have the namespace.
	cmd := exec.Command("/proc/self/exe", "pause")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: sysMappings(uids), GidMappings: sysMappings(gids),
		GidMappingsEnableSetgroups: true,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("a user namespace for the map: %w", err)
	}
	defer func() {
		stdin.Close()
		_ = cmd.Wait() // it ends with its input
	}()
	return mapIDsAs(tree, m, fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
}

// mapIDsAs maps them as a user namespace has it.
func mapIDsAs(tree *os.File, m specs.Mount, path string) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	flags := uint(unix.AT_EMPTY_PATH)
	if slices.Contains(m.Options, "ridmap") {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(int(tree.Fd()), "", flags, &attr); err != nil {
		return fmt.Errorf("mount_setattr MOUNT_ATTR_IDMAP (since Linux 5.12, by file system): %w", err)
	}
	return nil
}

// openDevices makes the devices of config.json for a container with users of its own, which may not
// make any: one of the machine's need not have that path, nor those numbers and that owner. They
// are mounts that are attached nowhere, of a file system in a mount namespace that is gone.
func (b *creation) openDevices() ([]*os.File, error) {
	l := b.spec.Linux
	if len(l.Devices) == 0 || len(l.UIDMappings) == 0 || os.Geteuid() != 0 || inUserNamespace() {
		return nil, nil
	}
	var files []*os.File
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and no unlocking: the thread ends with this function
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return os.NewSyscallError("unshare", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
				return os.NewSyscallError("mount", err)
			}
			unix.Umask(0) // the thread's own
			flags := uintptr(unix.MS_NOSUID | unix.MS_NOEXEC)
			if err := unix.Mount("tmpfs", b.dir(), "tmpfs", flags, "mode=700"); err != nil {
				return os.NewSyscallError("mount", err)
			}
			for i, d := range l.Devices {
				f, err := b.openDevice(d, filepath.Join(b.dir(), strconv.Itoa(i)))
				if err != nil {
					return fmt.Errorf("device %s: %w", d.Path, err)
				}
				files = append(files, f)
			}
			return nil
		}()
	}()
	if err := <-result; err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	return files, nil
}

func (b *creation) openDevice(d specs.LinuxDevice, path string) (*os.File, error) {
	mode, dev, err := initproc.DeviceMode(d)
	if err != nil {
		return nil, err
	}
	if err := unix.Mknod(path, mode, dev); err != nil {
		return nil, os.NewSyscallError("mknod", err)
	}
	id := func(in *uint32, maps []specs.LinuxIDMapping) int {
		n := uint32(0)
		if in != nil {
			n = *in
		}
		for _, m := range maps {
			if n >= m.ContainerID && n-m.ContainerID < m.Size {
				return int(m.HostID + (n - m.ContainerID))
			}
		}
		return -1 // nobody in the container: root of the machine
	}
	uid, gid := id(d.UID, b.spec.Linux.UIDMappings), id(d.GID, b.spec.Linux.GIDMappings)
	if err := os.Chown(path, uid, gid); err != nil {
		return nil, err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	return os.NewFile(uintptr(fd), d.Path), nil
}

func sysMappings(maps []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var all []syscall.SysProcIDMap
	for _, m := range maps {
		all = append(all, syscall.SysProcIDMap{
			ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size),
		})
	}
	return all
}
