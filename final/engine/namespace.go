//go:build linux

package engine

import (
	"errors"
	"os"
	"path"
	"runtime"

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

// mountOne binds a volume or a folder. Where the container, which has never run, has no place for
// it yet, there is nothing to be seen.
func mountOne(root *os.File, m mountPoint) error {
	target, err := openIn(root, path.Clean(m.Destination), unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	options := []string{"rbind"}
	if !m.RW {
		options = append(options, "ro")
	}
	tree, err := fsmount.New("bind", m.Source, options)
	if err != nil {
		return err
	}
	defer tree.Close()
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
