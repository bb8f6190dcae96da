//go:build linux

package engine

import (
	"errors"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
)

// inMountNamespace calls f with a root in which mounts are as they are in the container, in a
// mount namespace that nobody else sees. It has a thread of its own, which ends with it.
func inMountNamespace(mounts []mountPoint, root *os.File, f func(root *os.File) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never back: the thread is in other namespaces
		done <- mountVolumes(mounts, root, f)
	}()
	return <-done
}

func mountVolumes(mounts []mountPoint, root *os.File, f func(root *os.File) error) error {
	// The root is mounted nowhere, so what is opened in it cannot be mounted on: it gets a place.
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	fd, err := unix.OpenTree(int(root.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|
		unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) { // a tree that is no namespace's can be moved only
		fd, err = unix.Dup(int(root.Fd()))
	}
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(fd)
	const at = "/mnt" // in this namespace only
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	placed, err := os.Open(at)
	if err != nil {
		return err
	}
	defer placed.Close()
	for _, m := range mounts {
		if m.Type == mount.TypeTmpfs {
			continue
		}
		if err := mountOne(placed, m); err != nil {
			return err
		}
	}
	return f(placed)
}

// shmOf is another container's /dev/shm, as a tree that can be mounted in this one's namespace:
// a copy of it can be had only from inside of the other's.
func (s *starting) shmOf(ref string) (*os.File, error) {
	other, _, err := s.e.get(ref)
	if err != nil {
		return nil, err
	}
	if mode := other.HostConfig.IpcMode; mode != container.IPCModeShareable {
		return nil, failed(Invalid, "cannot join the IPC namespace of container %s: it is not shareable "+
			"(hint: use IPC mode \"shareable\" for it)", ref)
	}
	pid, err := s.pidOf("IPC", ref)
	if err != nil {
		return nil, err
	}
	return treeOf(pid, "/dev/shm")
}

// treeOf is a copy of a mount in another process's mount namespace, without what is mounted in it.
func treeOf(pid int, path string) (*os.File, error) {
	var tree *os.File
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never back: the thread is in other namespaces
		var err error
		tree, err = treeIn(pid, path)
		done <- err
	}()
	err := <-done
	return tree, err
}

// treeIn is treeOf on this thread, which is in that namespace then.
func treeIn(pid int, path string) (*os.File, error) {
	ns, err := os.Open("/proc/" + itoa(pid) + "/ns/mnt")
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("setns", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|
		unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeFolder makes a folder in a root; a link on the way that leads out is an error.
func makeFolder(root *os.File, name string) error {
	r, err := os.OpenRoot("/proc/self/fd/" + itoa(int(root.Fd())))
	if err != nil {
		return err
	}
	defer r.Close()
	return r.MkdirAll(strings.TrimPrefix(path.Clean(name), "/"), 0o755)
}

// mountOne binds a volume or a folder. A container that has never run has no place for it yet.
func mountOne(root *os.File, m mountPoint) error {
	target, err := openIn(root, path.Clean(m.Destination), unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		if makeFolder(root, m.Destination) != nil {
			return nil // it cannot be written to
		}
		target, err = openIn(root, path.Clean(m.Destination), unix.O_PATH)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	tree := m.tree
	if tree == nil {
		options := []string{"rbind"}
		if !m.RW {
			options = append(options, "ro")
		}
		if tree, err = fsmount.New("bind", m.Source, options); err != nil {
			return err
		}
		defer tree.Close()
	}
	return fsmount.Attach(tree, target)
}

// withTree calls f with the root folder of a tree that can be listed.
func withTree(tree *os.File, f func(root *os.File) error) error {
	root, err := fsmount.Root(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	return f(root)
}
