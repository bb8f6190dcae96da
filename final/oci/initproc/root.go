//go:build linux

package initproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// rootfs is the container's root file system, whose content is not to be trusted: it may
// hold symbolic links to anywhere, and another container may change it meanwhile. Every
// path is resolved beneath it, once, to a descriptor, and only the descriptor is used.
type rootfs struct {
	file *rawfd.File // O_PATH
}

func openRoot(path string) (*rootfs, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open root", Path: path, Err: err}
	}
	return &rootfs{rawfd.New(fd, path)}, nil
}

// open resolves a path as it would be in the container, where the root is the root:
// openat2(2) with RESOLVE_IN_ROOT, since Linux 5.6. The caller closes the file.
func (r *rootfs) open(path string, flags int, resolve uint64) (*rawfd.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for {
		fd, err := unix.Openat2(int(r.file.Fd()), path, &how)
		if err == unix.EINTR || err == unix.EAGAIN { // a rename went by
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open in root", Path: path, Err: err}
		}
		return rawfd.New(fd, path), nil
	}
}

// make resolves a path and makes what is missing of it: folders, and at the end a folder
// or an empty file.
func (r *rootfs) make(path string, folder bool) (*rawfd.File, error) {
	f, err := r.open(path, unix.O_PATH, 0)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	// Go down as far as it goes. A link that leads nowhere yet is followed by hand.
	todo := strings.Split(strings.Trim(filepath.Clean("/"+path), "/"), "/")
	at := "/"
	for links := 0; len(todo) > 0; {
		name := todo[0]
		next := filepath.Join(at, name)
		f, err := r.open(next, unix.O_PATH, 0)
		if err == nil {
			f.Close()
			at, todo = next, todo[1:]
			continue
		}
		if !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
		parent, err := r.open(at, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		// A descriptor in proc reads as a link to a path outside, which is not meant.
		var st unix.Statfs_t
		if unix.Fstatfs(int(parent.Fd()), &st) == nil && st.Type == unix.PROC_SUPER_MAGIC {
			parent.Close()
			return nil, &os.PathError{Op: "open in root", Path: next, Err: unix.ENOENT}
		}
		buffer := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(parent.Fd()), name, buffer)
		if err == nil {
			parent.Close()
			if links++; links > 40 {
				return nil, &os.PathError{Op: "open in root", Path: path, Err: unix.ELOOP}
			}
			target := string(buffer[:n])
			if !filepath.IsAbs(target) {
				target = filepath.Join(at, target)
			}
			target = filepath.Clean("/" + target)
			todo = append(strings.Split(strings.Trim(target, "/"), "/"), todo[1:]...)
			at = "/"
			continue
		}
		if folder || len(todo) > 1 {
			err = unix.Mkdirat(int(parent.Fd()), name, 0o755)
		} else {
			err = unix.Mknodat(int(parent.Fd()), name, unix.S_IFREG|0o644, 0)
		}
		parent.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &os.PathError{Op: "make in root", Path: next, Err: err}
		}
	}
	return r.open(path, unix.O_PATH, 0)
}

// parent opens the folder that a path is in, made if it is missing, and gives the name.
func (r *rootfs) parent(path string) (*rawfd.File, string, error) {
	path = filepath.Clean("/" + path)
	dir, err := r.make(filepath.Dir(path), true)
	return dir, filepath.Base(path), err
}

// proc is the path by which mount(2) and its like, which take no descriptors, use one.
func proc(f *rawfd.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func isDir(f *rawfd.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
