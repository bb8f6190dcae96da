//go:build linux

package tree

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Copy copies all that is in the folder from into the folder to, which is empty, and gives to
// the attributes of from as well: owners, modes, times to the nanosecond, extended attributes;
// hard links among the files, holes, devices, FIFOs and sockets stay what they are. Where the
// file system can share the content of two files (FICLONE: btrfs, XFS), it does.
func Copy(from, to *os.File) error {
	defer runtime.KeepAlive(from)
	defer runtime.KeepAlive(to)
	c := &copier{links: map[[2]uint64]string{}, to: int(to.Fd()), share: true}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return pathError("fstat", from.Name(), err)
	}
	if err := c.folder(from, int(to.Fd()), ""); err != nil {
		return err
	}
	return attributes(int(from.Fd()), int(to.Fd()), &st)
}

// CopyFile copies the name in the folder from, which is no folder, to the name as in the folder to,
// where it is not yet: its content, and all that Copy gives a file. The folders' descriptors may be
// O_PATH.
func CopyFile(from int, name string, to int, as string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("fstatat", name, err)
	}
	c := &copier{to: to, share: true}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return pathError("copy", name, unix.EISDIR)
	case unix.S_IFREG:
		err = c.file(from, name, to, as, &st)
	default:
		err = c.special(from, name, to, as, &st)
	}
	return pathError("copy", name, err)
}

// CopyAttributes gives an open folder all that Copy gives one.
func CopyAttributes(from, to *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return pathError("fstat", from.Name(), err)
	}
	return attributes(int(from.Fd()), int(to.Fd()), &st)
}

type copier struct {
	to    int
	links map[[2]uint64]string // where the copy of a file with several names is
	share bool
}

func (c *copier) folder(from *os.File, to int, path string) error {
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(int(from.Fd()), to, name, path+name); err != nil {
			return fmt.Errorf("copy %q: %w", path+name, err)
		}
	}
	return nil
}

func (c *copier) entry(from, to int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := [2]uint64{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return os.NewSyscallError("linkat", unix.Linkat(c.to, first, to, name, 0))
		}
		c.links[id] = path
	}
	switch kind {
	case unix.S_IFDIR:
		return c.subfolder(from, to, name, path, &st)
	case unix.S_IFREG:
		return c.file(from, name, to, name, &st)
	}
	return c.special(from, name, to, name, &st)
}

// special copies what has no content: links, devices, FIFOs, sockets.
func (c *copier) special(from int, name string, to int, as string, st *unix.Stat_t) error {
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFLNK {
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, target)
		if err != nil {
			return os.NewSyscallError("readlinkat", err)
		}
		if err := unix.Symlinkat(string(target[:n]), to, as); err != nil {
			return os.NewSyscallError("symlinkat", err)
		}
		return attributesAt(from, name, to, as, st)
	}
	// 0o700 and no other, for the owner is not set yet.
	if err := unix.Mknodat(to, as, kind|0o700, int(st.Rdev)); err != nil {
		return os.NewSyscallError("mknodat", err)
	}
	return attributesAt(from, name, to, as, st)
}

func (c *copier) subfolder(from, to int, name, path string, st *unix.Stat_t) error {
	source, err := openFolder(from, name)
	if err != nil {
		return os.NewSyscallError("openat2", err)
	}
	defer source.Close()
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return os.NewSyscallError("mkdirat", err)
	}
	target, err := openFolder(to, name)
	if err != nil {
		return os.NewSyscallError("openat2", err)
	}
	defer target.Close()
	if err := c.folder(source, int(target.Fd()), path+"/"); err != nil {
		return err
	}
	return attributes(int(source.Fd()), int(target.Fd()), st)
}

func (c *copier) file(from int, name string, to int, as string, st *unix.Stat_t) error {
	const flags = unix.O_NOFOLLOW | unix.O_CLOEXEC
	source, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(source)
	target, err := unix.Openat(to, as, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|flags, 0o600)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(target)
	if err := c.content(source, target, st); err != nil {
		return err
	}
	return attributes(source, target, st)
}

func (c *copier) content(source, target int, st *unix.Stat_t) error {
	if st.Size == 0 {
		return nil
	}
	if c.share {
		if unix.IoctlFileClone(target, source) == nil {
			return nil
		}
		c.share = false // nor can the other files of these two file systems, as a rule
	}
	// A file that takes less than its size has holes.
	if st.Blocks*512 >= st.Size {
		return copyRange(source, target, 0, st.Size)
	}
	for at := int64(0); at < st.Size; {
		data, err := unix.Seek(source, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // the rest is a hole
		}
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		hole, err := unix.Seek(source, data, unix.SEEK_HOLE)
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if err := copyRange(source, target, data, hole-data); err != nil {
			return err
		}
		at = hole
	}
	return os.NewSyscallError("ftruncate", unix.Ftruncate(target, st.Size))
}

// copyRange copies within the kernel where it can: copy_file_range(2).
func copyRange(source, target int, at, n int64) error {
	in, out := at, at
	for n > 0 {
		done, err := unix.CopyFileRange(source, &in, target, &out, int(min(n, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EXDEV || err == unix.EINVAL || err == unix.EOPNOTSUPP || err == unix.ENOSYS {
			return copyBuffer(source, target, out, n)
		}
		if err != nil {
			return os.NewSyscallError("copy_file_range", err)
		}
		if done == 0 {
			return nil // it has become shorter
		}
		n -= int64(done)
	}
	return nil
}

func copyBuffer(source, target int, at, n int64) error {
	buf := make([]byte, 256<<10)
	for n > 0 {
		m, err := unix.Pread(source, buf[:min(n, int64(len(buf)))], at)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("pread", err)
		}
		if m == 0 && err == nil {
			return nil
		}
		for done := 0; done < m; {
			w, err := unix.Pwrite(target, buf[done:m], at+int64(done))
			if err != nil && err != unix.EINTR {
				return os.NewSyscallError("pwrite", err)
			}
			done += max(w, 0)
		}
		at, n = at+int64(max(m, 0)), n-int64(max(m, 0))
	}
	return nil
}

// attributes gives an open file those of another. The owner first: changing it takes setuid bits
// and capabilities away.
func attributes(from, to int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return os.NewSyscallError("fchown", err)
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	err := xattrs(
		func(buf []byte) (int, error) { return unix.Flistxattr(from, buf) },
		func(key string, buf []byte) (int, error) { return unix.Fgetxattr(from, key, buf) },
		func(key string, value []byte) error { return unix.Fsetxattr(to, key, value, 0) })
	if err != nil {
		return err
	}
	times := [2]unix.Timespec{st.Atim, st.Mtim}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(to), 0,
		uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("utimensat", errno)
	}
	return nil
}

// attributesAt is for what is not opened: links, devices, FIFOs, sockets.
func attributesAt(from int, name string, to int, as string, st *unix.Stat_t) error {
	const noFollow = unix.AT_SYMLINK_NOFOLLOW
	if err := unix.Fchownat(to, as, int(st.Uid), int(st.Gid), noFollow); err != nil {
		return os.NewSyscallError("fchownat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(to, as, st.Mode&0o7777, 0); err != nil {
			return os.NewSyscallError("fchmodat", err)
		}
	}
	source, target := fmt.Sprintf("/proc/self/fd/%d/%s", from, name),
		fmt.Sprintf("/proc/self/fd/%d/%s", to, as)
	err := xattrs(
		func(buf []byte) (int, error) { return unix.Llistxattr(source, buf) },
		func(key string, buf []byte) (int, error) { return unix.Lgetxattr(source, key, buf) },
		func(key string, value []byte) error { return unix.Lsetxattr(target, key, value, 0) })
	if err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(to, as, times, noFollow))
}

func xattrs(
	list func([]byte) (int, error), get func(string, []byte) (int, error),
	set func(string, []byte) error,
) error {
	n, err := list(nil)
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 && err == nil {
		return nil
	}
	names := make([]byte, 64<<10) // there are no more: xattr(7)
	if err == nil {
		n, err = list(names)
	}
	if err != nil {
		return os.NewSyscallError("listxattr", err)
	}
	value := make([]byte, 64<<10)
	for key := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		n, err := get(key, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err == nil {
			err = set(key, value[:n])
		}
		if errors.Is(err, unix.EOPNOTSUPP) && strings.HasPrefix(key, "security.") {
			continue // a label of another file system's
		}
		if err != nil {
			return fmt.Errorf("copy the attribute %s: %w", key, err)
		}
	}
	return nil
}
