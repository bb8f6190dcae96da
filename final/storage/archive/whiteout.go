//go:build linux

package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/tree"
)

// isWhiteout says whether a file is overlayfs's whiteout.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// whiteout looks whether an entry stands for something that is to be hidden, and does it. It is
// not done with what is a file like others.
func (u *unpacker) whiteout(h *tar.Header, name string) (done bool, err error) {
	dir, base := path.Dir(name), path.Base(name)
	first, _ := cutFirst(name)
	if first == linksName {
		u.links = true // kept until the end, for hard links lead there
		return false, nil
	}
	if strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix) {
		return true, errors.New("a whiteout is no folder")
	}
	if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
		return true, u.hide(name) // in overlayfs's own spelling
	}
	hidden, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !ok:
		return false, nil
	case base == opaqueName && u.Whiteouts != WhiteoutsDelete:
		return true, u.setOpaque(dir)
	case base == opaqueName:
		return true, u.empty(dir)
	case strings.HasPrefix(base, metaPrefix):
		return true, nil // AUFS's own, of no meaning to others
	case hidden == "" || hidden == "." || hidden == "..":
		return true, errors.New("a whiteout of nothing")
	}
	return true, u.hide(path.Join(dir, hidden))
}

// hide hides what lower layers have at a name. What this archive has there stays, whatever the
// order: then lower layers' files just do not show through.
func (u *unpacker) hide(name string) error {
	dir, err := u.dirs.open(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if u.Whiteouts == WhiteoutsDelete {
		u.dirs.forget()
		if u.made[name] {
			return u.removeOthers(dir.fd, base, name)
		}
		return tree.RemoveAt(dir.fd, base)
	}
	if u.Whiteouts == WhiteoutsAUFS {
		return mark(dir.fd, whiteoutPrefix+base)
	}
	err = u.makeWhiteout(dir, base)
	if !errors.Is(err, unix.EEXIST) {
		return callError("mknodat", err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.setOpaque(name)
	}
	return nil
}

// makeWhiteout makes a device 0/0, which anybody may since Linux 5.8.
func (u *unpacker) makeWhiteout(dir *folder, base string) error {
	err := unix.Mknodat(dir.fd, base, unix.S_IFCHR, 0)
	if err == unix.EPERM {
		return fmt.Errorf("make a whiteout of %q (in a user namespace it takes Linux 5.8): %w", base, err)
	}
	return err
}

// mark makes one of AUFS's empty files, if it is not there.
func mark(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return &os.PathError{Op: "openat", Path: name, Err: err}
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

// setOpaque hides all that lower layers have in a folder.
func (u *unpacker) setOpaque(name string) error {
	dir, err := u.dirs.open(name)
	if err != nil {
		return err
	}
	if u.Whiteouts == WhiteoutsAUFS {
		return mark(dir.fd, opaqueName)
	}
	// O_PATH is not enough for an attribute.
	fd, err := unix.Openat(dir.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(fd)
	key := OverlayXattr("opaque", u.UserXattr)
	if err := unix.Fsetxattr(fd, key, []byte("y"), 0); err != nil {
		return fmt.Errorf("set the attribute %s: %w", key, err)
	}
	return nil
}

// OverlayXattr is the full name of one of overlayfs's attributes.
func OverlayXattr(name string, user bool) string {
	if user {
		return "user.overlay." + name
	}
	return "trusted.overlay." + name
}

// empty deletes what is in a folder but what this archive has made there.
func (u *unpacker) empty(name string) error {
	dir, err := u.dirs.open(path.Dir(name))
	if err != nil {
		return err
	}
	if _, err := u.dirs.open(name); err != nil { // it is made if it is missing
		return err
	}
	u.dirs.forget()
	if name == "." {
		return u.removeOthers(u.root, ".", ".")
	}
	return u.removeOthers(dir.fd, path.Base(name), name)
}

// isNoFolder says whether a folder could not be opened because there is none of that name.
func isNoFolder(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func (u *unpacker) removeOthers(dir int, base, name string) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, base, flags, 0)
	if err != nil {
		if isNoFolder(err) {
			return nil // nothing that could have others in it
		}
		return os.NewSyscallError("openat", err)
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		below := path.Join(name, entry.Name())
		if !u.made[below] {
			err = tree.RemoveAt(fd, entry.Name())
		} else if entry.IsDir() {
			err = u.removeOthers(fd, entry.Name(), below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remember notes what this archive has made, with the folders above.
func (u *unpacker) remember(name string) {
	for name != "." && !u.made[name] {
		u.made[name] = true
		name = path.Dir(name)
	}
}
