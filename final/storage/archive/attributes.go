//go:build linux

package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// attributes are what a file has besides its name and content.
type attributes struct {
	name     string
	mode     uint32 // permissions and setuid, setgid, sticky
	uid, gid uint32
	mtime    unix.Timespec
	xattrs   map[string]string
	// What the kernel has given the file already when it was made need not be set again: the
	// system calls that are left out are a third of all.
	chown, chmod bool
}

// attributesOf reads an entry's attributes, and refuses those that nothing can have.
func (u *unpacker) attributesOf(h *tar.Header, name string) (attributes, error) {
	a := attributes{name: name, mode: uint32(h.Mode & 0o7777), chown: true, chmod: true}
	uid, gid := h.Uid, h.Gid
	if u.Owner != nil {
		uid, gid = u.Owner.UID, u.Owner.GID
	}
	if uid < 0 || gid < 0 || uid >= math.MaxUint32 || gid >= math.MaxUint32 {
		return a, fmt.Errorf("there is no owner %d:%d", uid, gid)
	}
	a.uid, a.gid = uint32(uid), uint32(gid)
	a.mtime = unix.Timespec{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())}
	for record, value := range h.PAXRecords {
		key, ok := strings.CutPrefix(record, xattrPrefix)
		if !ok {
			continue
		}
		if isOverlayXattr(key) {
			// They would redirect and reveal what the layer has no right to.
			return a, fmt.Errorf("the attribute %s is overlayfs's own", key)
		}
		if a.xattrs == nil {
			a.xattrs = map[string]string{}
		}
		a.xattrs[key] = value
	}
	return a, nil
}

func isOverlayXattr(key string) bool {
	return strings.HasPrefix(key, "trusted.overlay.") || strings.HasPrefix(key, "user.overlay.")
}

// owned notes what a file that was made just now has already: our owner, and its mode but for
// the bits that the umask takes and that open does not set.
func (a *attributes) owned(dir *folder, umask uint32) {
	gid := uint32(fsgid())
	if dir.setgid {
		gid = dir.gid
	}
	a.chown = a.uid != uint32(fsuid()) || a.gid != gid
	a.chmod = a.mode&umask != 0 || a.mode&^0o777 != 0
}

var (
	fsuid = sync.OnceValue(os.Geteuid)
	fsgid = sync.OnceValue(os.Getegid)
)

// readUmask reads the process's umask without changing it, which umask(2) cannot: proc(5).
func readUmask() (uint32, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(status), "\nUmask:\t")
	line, _, _ := strings.Cut(rest, "\n")
	umask, err := strconv.ParseUint(line, 8, 32)
	if !found || err != nil {
		return 0, errors.New("/proc/self/status has no Umask: it takes Linux 4.7")
	}
	return uint32(umask), nil
}

// set gives an open file its attributes, in this order: a change of the owner takes setuid bits
// and capabilities away, and all change the times.
func (a *attributes) set(fd int, warn func(string)) error {
	if a.chown {
		if err := unix.Fchown(fd, int(a.uid), int(a.gid)); err != nil {
			return a.ownerError(err)
		}
	}
	if a.chmod {
		if err := unix.Fchmod(fd, a.mode); err != nil {
			return os.NewSyscallError("fchmod", err)
		}
	}
	for key, value := range a.xattrs {
		err := unix.Fsetxattr(fd, key, []byte(value), 0)
		if err := a.xattrError(key, err, warn); err != nil {
			return err
		}
	}
	return futimens(fd, a.mtime)
}

func futimens(fd int, mtime unix.Timespec) error {
	times := [2]unix.Timespec{mtime, mtime} // of access, of modification
	return os.NewSyscallError("utimensat", utimensat(fd, &times))
}

func (a *attributes) ownerError(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the owner %d:%d is not mapped in this user namespace "+
			"(see /etc/subuid and /etc/subgid): %w", a.uid, a.gid, err)
	}
	return fmt.Errorf("change the owner to %d:%d: %w", a.uid, a.gid, err)
}

// xattrError lets pass what this file system or this user cannot have: the file is of use
// without. A capability is not of that kind.
func (a *attributes) xattrError(key string, err error, warn func(string)) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) && key != "security.capability" {
		warn(fmt.Sprintf("%q: the attribute %s cannot be kept here (%v): left out", a.name, key, err))
		return nil
	}
	return fmt.Errorf("set the attribute %s: %w", key, err)
}

// setAt gives what was made at a name its attributes, when it is no file that can be opened: a
// symbolic link, a FIFO, a device.
func (a *attributes) setAt(dir *folder, base string, warn func(string)) error {
	const noFollow = unix.AT_SYMLINK_NOFOLLOW
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, base, &st, noFollow); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if st.Uid != a.uid || st.Gid != a.gid {
		if err := unix.Fchownat(dir.fd, base, int(a.uid), int(a.gid), noFollow); err != nil {
			return a.ownerError(err)
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK { // which has no mode of its own
		if err := unix.Fchmodat(dir.fd, base, a.mode, 0); err != nil {
			return os.NewSyscallError("fchmodat", err)
		}
	}
	for key, value := range a.xattrs {
		// There is no setxattrat before Linux 6.13. The last part of the path is not followed,
		// and the folder is open.
		at := path.Join("/proc/self/fd", strconv.Itoa(dir.fd), base)
		err := unix.Lsetxattr(at, key, []byte(value), 0)
		if err := a.xattrError(key, err, warn); err != nil {
			return err
		}
	}
	times := []unix.Timespec{a.mtime, a.mtime}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(dir.fd, base, times, noFollow))
}

// setFolder gives a folder its attributes. If something else took its place later, it has gone.
func (a *attributes) setFolder(dirs *folders, warn func(string)) error {
	dirs.trim()
	dir := dirs.root
	base := "."
	if a.name != "." {
		var err error
		if dir, err = dirs.open(path.Dir(a.name)); err != nil {
			return err
		}
		base = path.Base(a.name)
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir.fd, base, flags, 0)
	if err != nil {
		if isNoFolder(err) {
			return nil
		}
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	a.chown = st.Uid != a.uid || st.Gid != a.gid
	a.chmod = true
	return a.set(fd, warn)
}
