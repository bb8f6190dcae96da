//go:build linux

package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/tree"
)

// UnpackOptions is how Unpack does its work; the zero value unpacks an ordinary archive.
type UnpackOptions struct {
	Whiteouts Whiteouts
	// UserXattr: overlay's own attributes begin with user. and not trusted., for an overlay that
	// an ordinary user mounts.
	UserXattr bool
	// NoDevices refuses device nodes.
	NoDevices bool
	// Owner, if set, is everybody's, whatever the archive says.
	Owner *Owner
	// MaxBytes is how much content there may be; 0: as much as the disk has left.
	MaxBytes int64
	// Warn is told what cannot be kept here and is left out, as device nodes in a user
	// namespace; nil: nobody is.
	Warn func(message string)
}

// Unpacked is what Unpack has made.
type Unpacked struct {
	Bytes   int64 // of file content
	Entries int64
	Root    bool // there was an entry for the root folder itself
}

// Unpack reads a tar archive to its end and makes what is in it in the folder. Owners, modes,
// extended attributes and times (to the nanosecond) are the archive's. A later entry takes the
// place of an earlier one, or of what is there; folders are merged. On an error, what has been
// made until then is left to the caller to remove.
func Unpack(ctx context.Context, root *os.File, r io.Reader, o UnpackOptions) (Unpacked, error) {
	defer runtime.KeepAlive(root) // its descriptor is used, and would be closed with it
	u, err := newUnpacker(root, o)
	if err != nil {
		return Unpacked{}, err
	}
	defer u.dirs.close()
	u.files = startFiles()
	in := startInput(r)
	defer in.close()
	err = u.all(ctx, &reader{in: in})
	if err == nil { // zeros as a rule; who computes a digest on the way wants them
		err = in.drain()
	}
	if failed := u.files.wait(); err == nil || errors.Is(err, errStopped) {
		err = failed // in a file's content: what all then gave was only that it stopped
	}
	if err == nil {
		err = u.finish()
	}
	return u.done, err
}

type unpacker struct {
	UnpackOptions
	root  int
	dirs  *folders
	files *files
	umask uint32
	free  int64 // bytes that may still be written
	slots int64 // files that may still be made
	done  Unpacked
	// Folders get their modes and times last: what is made in them changes the times.
	last  []attributes
	place map[string]int // of a folder in last
	// With WhiteoutsDelete, what this archive has made: its whiteouts do not hide that.
	made  map[string]bool
	links bool // there is a folder of AUFS's for hard links
}

func newUnpacker(root *os.File, o UnpackOptions) (*unpacker, error) {
	u := &unpacker{UnpackOptions: o, root: int(root.Fd()), place: map[string]int{}}
	var st unix.Statfs_t
	if err := unix.Fstatfs(u.root, &st); err != nil {
		return nil, &os.PathError{Op: "fstatfs", Path: root.Name(), Err: err}
	}
	u.free, u.slots = int64(st.Bavail)*st.Bsize, int64(st.Ffree)
	if o.MaxBytes > 0 {
		u.free = min(u.free, o.MaxBytes)
	}
	if st.Files == 0 { // btrfs has no fixed number
		u.slots = math.MaxInt64
	}
	if o.Whiteouts == WhiteoutsDelete {
		u.made = map[string]bool{}
	}
	if o.Warn == nil {
		u.Warn = func(string) {}
	}
	var err error
	if u.umask, err = readUmask(); err != nil {
		return nil, err
	}
	u.dirs, err = newFolders(u.root, &u.slots)
	return u, err
}

// all makes every entry, in the archive's order. What is in files is written meanwhile.
func (u *unpacker) all(ctx context.Context, archive *reader) error {
	for {
		h, err := archive.next()
		if errors.Is(err, errEnd) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the tar archive: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		u.dirs.trim()
		if err := u.entry(h, archive); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

func (u *unpacker) entry(h *tar.Header, content *reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // a comment, as git makes it
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Size < 0 || h.Size > u.free {
		return fmt.Errorf("it claims %d bytes, and %d are left: %w", h.Size, u.free, unix.ENOSPC)
	}
	if u.slots--; u.slots < 0 {
		return fmt.Errorf("there are more entries than the disk has room for files: %w", unix.ENOSPC)
	}
	u.free -= h.Size
	a, err := u.attributesOf(h, name)
	if err != nil {
		return err
	}
	u.done.Entries++
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is a folder")
		}
		u.done.Root = true
		u.keepForLast(a)
		return nil
	}
	if u.Whiteouts != WhiteoutsKeep {
		if done, err := u.whiteout(h, a.name); done || err != nil {
			return err
		}
	}
	if u.made != nil {
		u.remember(name)
	}
	return u.make(h, a, content)
}

// cleanName is an entry's path below the root. A slash at its beginning means the same root; a
// path that leads out is refused.
func cleanName(name string) (string, error) {
	if len(name) >= unix.PathMax {
		return "", fmt.Errorf("its path has %d bytes, and %d are possible", len(name), unix.PathMax-1)
	}
	name = strings.TrimLeft(name, "/")
	if name == "" {
		name = "."
	}
	if !filepath.IsLocal(name) {
		return "", errors.New("its path leads out of the archive")
	}
	return path.Clean(name), nil
}

// make makes the file, folder or link that an entry stands for.
func (u *unpacker) make(h *tar.Header, a attributes, content *reader) error {
	dir, err := u.dirs.open(path.Dir(a.name))
	if err != nil {
		return err
	}
	base := path.Base(a.name)
	for try := 0; ; try++ {
		err := u.makeIn(dir, base, h, &a, content)
		if !errors.Is(err, unix.EEXIST) || try > 0 {
			return err
		}
		// What is there is replaced, whatever it is; but folders are merged.
		merged, err := u.replace(dir, base, h, &a)
		if merged || err != nil {
			return err
		}
	}
}

// makeIn makes an entry in a folder; it is EEXIST, as it is, if the name is taken.
func (u *unpacker) makeIn(
	dir *folder, base string, h *tar.Header, a *attributes, r *reader,
) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.makeFile(dir, base, h, a, r)
	case tar.TypeDir:
		if err := unix.Mkdirat(dir.fd, base, 0o700); err != nil {
			return callError("mkdirat", err)
		}
		u.keepForLast(*a)
		return nil
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, dir.fd, base); err != nil {
			return callError("symlinkat", err)
		}
	case tar.TypeLink:
		return u.makeLink(dir, base, h.Linkname)
	case tar.TypeFifo:
		if err := unix.Mknodat(dir.fd, base, unix.S_IFIFO|a.mode, 0); err != nil {
			return callError("mknodat", err)
		}
	case tar.TypeChar, tar.TypeBlock:
		if made, err := u.makeDevice(dir, base, h, a); !made || err != nil {
			return err
		}
	default:
		return fmt.Errorf("entries of type %q are unknown", h.Typeflag)
	}
	return a.setAt(dir, base, u.Warn)
}

// callError names the call, but leaves EEXIST as it is: make looks for it.
func callError(call string, err error) error {
	if errors.Is(err, unix.EEXIST) {
		return err
	}
	return os.NewSyscallError(call, err)
}

func (u *unpacker) makeFile(
	dir *folder, base string, h *tar.Header, a *attributes, r *reader,
) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir.fd, base, flags, a.mode&0o777)
	if err != nil {
		return callError("openat", err)
	}
	a.owned(dir, u.umask)
	u.done.Bytes += h.Size
	w := &file{attributes: *a, fd: fd, size: h.Size, sparse: isSparse(h), warn: u.Warn}
	return u.files.write(w, r)
}

// makeLink makes a hard link to another entry, which is in this archive or was there before.
func (u *unpacker) makeLink(dir *folder, base, target string) error {
	name, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("a hard link to %q: %w", target, err)
	}
	to, err := u.dirs.open(path.Dir(name))
	if err != nil {
		return fmt.Errorf("a hard link to %q: %w", target, err)
	}
	switch err := unix.Linkat(to.fd, path.Base(name), dir.fd, base, 0); err {
	case nil, unix.EEXIST:
		return err
	case unix.ENOENT:
		return fmt.Errorf("a hard link to %q, which the archive does not have before it", target)
	default:
		return fmt.Errorf("a hard link to %q: linkat: %w", target, err)
	}
}

// makeDevice makes a device node; made is false if there is none and nothing more to do.
func (u *unpacker) makeDevice(
	dir *folder, base string, h *tar.Header, a *attributes,
) (bool, error) {
	if u.NoDevices {
		return false, errors.New("device nodes are not allowed here")
	}
	if uint64(h.Devmajor) >= 1<<12 || uint64(h.Devminor) >= 1<<20 { // MINORBITS
		return false, fmt.Errorf("there is no device %d/%d", h.Devmajor, h.Devminor)
	}
	mode := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		mode = unix.S_IFBLK
	}
	device := int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	err := unix.Mknodat(dir.fd, base, mode|a.mode, device)
	if err == unix.EPERM {
		// A container has its own /dev, so it can do without.
		u.Warn(fmt.Sprintf("%q: device nodes cannot be made in a user namespace: left out", a.name))
		return false, nil
	}
	return err == nil, callError("mknodat", err)
}

// replace deals with what has an entry's name already: it goes, unless both are folders.
func (u *unpacker) replace(dir *folder, base string, h *tar.Header, a *attributes) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, os.NewSyscallError("fstatat", err)
	}
	isFolder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isFolder && h.Typeflag == tar.TypeDir {
		u.keepForLast(*a)
		return true, nil
	}
	u.dirs.forget() // one of them may have been the way to a folder
	if err := tree.RemoveAt(dir.fd, base); err != nil {
		return false, err
	}
	if u.Whiteouts == WhiteoutsOverlay && h.Typeflag == tar.TypeDir && isWhiteout(&st) {
		// What the whiteout hid does not come back in the folder that takes its place.
		if err := unix.Mkdirat(dir.fd, base, 0o700); err != nil {
			return false, os.NewSyscallError("mkdirat", err)
		}
		u.keepForLast(*a)
		return true, u.setOpaque(a.name)
	}
	return false, nil
}

// finish gives the folders what they get last, those made last first: children before parents.
func (u *unpacker) finish() error {
	if u.links {
		u.dirs.forget()
		if err := tree.RemoveAt(u.root, linksName); err != nil {
			return err
		}
	}
	for i := len(u.last) - 1; i >= 0; i-- {
		if err := u.last[i].setFolder(u.dirs, u.Warn); err != nil {
			return fmt.Errorf("entry %q: %w", u.last[i].name, err)
		}
	}
	return nil
}

func (u *unpacker) keepForLast(a attributes) {
	if i, ok := u.place[a.name]; ok {
		u.last[i] = a
		return
	}
	u.place[a.name] = len(u.last)
	u.last = append(u.last, a)
}
