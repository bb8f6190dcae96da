//go:build linux

// Package tree works on folders with all that is in them, by descriptor: it follows no links, and
// what another process renames meanwhile cannot lead it astray. It knows no layers.
package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// maxDepth is how many folders deep Remove goes with a descriptor held for each.
const maxDepth = 64

// Remove deletes the name in the folder that dir is open on, with all that is in it. What is
// mounted below it is an error and is left as it is, and so are the folders on the way there. A
// name that is not there is none.
func Remove(dir *os.File, name string) error {
	defer runtime.KeepAlive(dir)
	return RemoveAt(int(dir.Fd()), name)
}

// RemoveAt is Remove with the folder's descriptor.
func RemoveAt(dir int, name string) error {
	folder, err := unlink(dir, name)
	if !folder || err != nil {
		return pathError("unlinkat", name, err)
	}
	top, err := openFolder(dir, name)
	if err != nil {
		return ignoreMissing(pathError("open", name, err))
	}
	defer top.Close()
	r := &remover{top: int(top.Fd())}
	// What lies too deep is moved up into the top folder, so one pass may leave something.
	for {
		r.moved = false
		if err := r.empty(top, 0); err != nil {
			return err
		}
		if !r.moved {
			return r.removeEmpty(dir, name, top, 0)
		}
	}
}

// unlink deletes a name if it is no folder, and a folder if it is empty; else it says that it is
// a folder.
func unlink(dir int, name string) (folder bool, err error) {
	switch err := unix.Unlinkat(dir, name, 0); err {
	case nil, unix.ENOENT:
		return false, nil
	case unix.EISDIR:
	case unix.EPERM: // POSIX's word for a folder; and a file that may not be deleted
		var st unix.Stat_t
		if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !isDir(&st) {
			return false, err
		}
	default:
		return false, err
	}
	return true, nil
}

// openFolder opens a folder to list it, not across a mount.
func openFolder(dir int, name string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := unix.Openat2(dir, name, &how)
	if err == unix.EACCES {
		// An ordinary user's folder that its owner may not list.
		if err = unix.Fchmodat(dir, name, 0o700, 0); err == nil {
			fd, err = unix.Openat2(dir, name, &how)
		}
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

type remover struct {
	top   int
	count int
	moved bool
}

// empty deletes all that is in a folder.
func (r *remover) empty(folder *os.File, depth int) error {
	fd := int(folder.Fd())
	if _, err := folder.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		entries, err := folder.ReadDir(512)
		if len(entries) == 0 {
			if err != nil && !errors.Is(err, os.ErrNotExist) && err != io.EOF {
				return err
			}
			return nil
		}
		for _, entry := range entries {
			if err := r.remove(fd, entry.Name(), entry.IsDir(), depth); err != nil {
				return fmt.Errorf("%s/%w", folder.Name(), err)
			}
		}
	}
}

func (r *remover) remove(dir int, name string, folder bool, depth int) error {
	if !folder {
		var err error
		if folder, err = unlink(dir, name); err != nil {
			return pathError("unlinkat", name, err)
		}
		if !folder {
			return nil
		}
	}
	// An empty one needs not be opened. It is EBUSY where something is mounted.
	err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if depth >= maxDepth {
		r.moved = true
		return r.up(dir, name)
	}
	sub, err := openFolder(dir, name)
	if err != nil {
		return ignoreMissing(pathError("open", name, err))
	}
	defer sub.Close()
	if err := r.empty(sub, depth+1); err != nil {
		return err
	}
	return r.removeEmpty(dir, name, sub, depth)
}

// removeEmpty deletes a folder that has been emptied. Some file systems skip names when others
// are deleted during the listing; and somebody may still write.
func (r *remover) removeEmpty(dir int, name string, folder *os.File, depth int) error {
	for try := 0; ; try++ {
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err != unix.ENOTEMPTY || try == 3 {
			return ignoreMissing(pathError("unlinkat", name, err))
		}
		if err := r.empty(folder, depth); err != nil {
			return err
		}
	}
}

// up moves a folder into the topmost one.
func (r *remover) up(dir int, name string) error {
	for {
		r.count++
		free := fmt.Sprintf(".deep-%d", r.count)
		err := unix.Renameat2(dir, name, r.top, free, unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return pathError("rename", name, err)
		}
	}
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("something is mounted there, unmount it first: %w", err)
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
