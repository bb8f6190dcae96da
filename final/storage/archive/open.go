//go:build linux

package archive

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// What follows looks at names in open folders. Links are never followed.

func fstatat(dir *os.File, name string, st *unix.Stat_t) error {
	return pathError("fstatat", dir, name,
		unix.Fstatat(int(dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW))
}

func openFolder(dir *os.File, name string) (*os.File, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openFileFd opens a file to read it. It does not wait, should a FIFO have taken its place. It
// gives the descriptor alone: an os.File would ask whether it can be waited for, two system calls
// more for each file.
func openFileFd(dir *os.File, name string) (int, error) {
	return openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
}

func openAt(dir *os.File, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, pathError("openat", dir, name, err)
		}
	}
}

func readlink(dir *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	if err != nil {
		return "", pathError("readlinkat", dir, name, err)
	}
	return string(buf[:n]), nil
}

// list gives the names in a folder, sorted.
func list(dir *os.File) ([]string, error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

func pathError(op string, dir *os.File, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: dir.Name() + "/" + name, Err: err}
}

// ignoreMissing: a file may go while its folder is being looked at.
func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
