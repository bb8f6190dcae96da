//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PackOptions is how Pack and PackChanges do their work.
type PackOptions struct {
	// Owner, if set, is everybody's.
	Owner *Owner
	// Exact keeps times to the nanosecond; without it they are whole seconds, as in the layers
	// of Docker and containerd: an archive of many small files is a good deal smaller then.
	Exact bool
	// NotAfter, if set, is put in the place of all later times (SOURCE_DATE_EPOCH).
	NotAfter time.Time
	// Skip, if set, says what is left out, by its name in the archive, without a slash at its
	// end; a folder with all that is in it.
	Skip func(name string) bool
}

// Pack writes an archive of all that is in the folder: without an entry for the folder itself,
// sorted, parents first, hard links as links. Sockets are left out, for tar has none. The same
// tree always gives the same bytes. What another process deletes meanwhile is left out.
//
// Holes of sparse files are written as zeros, which the OCI specification asks for; Unpack makes
// holes of them again.
func Pack(ctx context.Context, w io.Writer, root *os.File, o PackOptions) error {
	return pack(ctx, w, o, func(p *packer) error { return p.children(root, "") })
}

// PackAt writes an archive of the file or folder that has the name in dir: a link is not
// followed. It is called as in the archive; of a folder that is called "." or "/", what is in it
// begins with that, too.
func PackAt(ctx context.Context, w io.Writer, dir *os.File, name, as string, o PackOptions) error {
	return pack(ctx, w, o, func(p *packer) error {
		err := p.add(dir, name, as, true)
		if errors.Is(err, errGone) {
			return &os.PathError{Op: "stat", Path: name, Err: unix.ENOENT}
		}
		return err
	})
}

// PackChanges writes a layer: the paths that are added or changed with what they are now, and a
// whiteout for each that is deleted. The changes are sorted by path.
func PackChanges(
	ctx context.Context, w io.Writer, root *os.File, changes []Change, o PackOptions,
) error {
	return pack(ctx, w, o, func(p *packer) error {
		for _, c := range changes {
			name := strings.TrimPrefix(c.Path, "/")
			if c.Kind == Deleted {
				if err := p.whiteout(name); err != nil {
					return err
				}
				continue
			}
			dir, err := p.parent(root, path.Dir(name))
			if err == nil {
				err = p.add(dir, path.Base(name), name, false)
			}
			if err != nil && !errors.Is(err, errGone) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// errGone is for what was there a moment ago.
var errGone = errors.New("it is gone")

type packer struct {
	PackOptions
	ctx   context.Context
	out   *output
	head  bytes.Buffer
	block [blockBytes]byte
	links map[inode]string // the first name of each file that has several
	// The folder of the last change, as those that follow are mostly in the same.
	dir     *os.File
	dirName string
}

type inode struct{ dev, ino uint64 }

func pack(ctx context.Context, w io.Writer, o PackOptions, what func(*packer) error) error {
	p := &packer{PackOptions: o, ctx: ctx, out: startOutput(w), links: map[inode]string{}}
	defer func() { p.dir.Close() }()
	err := what(p)
	if err == nil {
		_, err = p.out.Write(zeros[:2*blockBytes]) // the end: pax(1)
	}
	if failed := p.out.close(); failed != nil {
		return failed
	}
	return err
}

// blockBytes is what everything in an archive is a multiple of.
const blockBytes = 512

// write writes an entry's header. An archive/tar Writer wants to write the content as well, and
// would copy it; so there is a new one for each header.
func (p *packer) write(h *tar.Header) error {
	if ustar(&p.block, h) {
		_, err := p.out.Write(p.block[:])
		return err
	}
	p.head.Reset()
	if err := tar.NewWriter(&p.head).WriteHeader(h); err != nil {
		return err
	}
	_, err := p.out.Write(p.head.Bytes())
	return err
}

// children packs what is in a folder.
func (p *packer) children(dir *os.File, as string) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		full := name
		if as != "" {
			full = strings.TrimSuffix(as, "/") + "/" + name
		}
		err := p.add(dir, name, full, true)
		if err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	return nil
}

// parent opens the folder of a change.
func (p *packer) parent(root *os.File, name string) (*os.File, error) {
	if name == "." {
		return root, nil
	}
	if p.dir != nil && p.dirName == name {
		return p.dir, nil
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, pathError("openat2", root, name, err)
		}
		p.dir.Close()
		p.dir, p.dirName = os.NewFile(uintptr(fd), name), name
		return p.dir, nil
	}
}

// add packs a name of a folder, and all below it if that is wanted.
func (p *packer) add(dir *os.File, base, name string, below bool) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if p.Skip != nil && p.Skip(name) {
		return nil
	}
	var st unix.Stat_t
	if err := fstatat(dir, base, &st); err != nil {
		return gone(err)
	}
	h := p.header(name, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFDIR:
		return p.addFolder(dir, base, h, below)
	case unix.S_IFREG:
		return p.addFile(dir, base, h, &st)
	case unix.S_IFLNK:
		target, err := readlink(dir, base)
		if err != nil {
			return gone(err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if p.isLink(h, &st) {
		return p.write(h)
	}
	xattrs, err := xattrsAt(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), base))
	if err != nil {
		return gone(err)
	}
	setXattrs(h, xattrs)
	return p.write(h)
}

func (p *packer) header(name string, st *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec),
	}
	if p.Owner != nil {
		h.Uid, h.Gid = p.Owner.UID, p.Owner.GID
	}
	if !p.NotAfter.IsZero() && h.ModTime.After(p.NotAfter) {
		h.ModTime = p.NotAfter
	}
	if p.Exact {
		h.Format = tar.FormatPAX
	} else {
		h.ModTime = h.ModTime.Truncate(time.Second)
	}
	return h
}

// isLink makes an entry a hard link to the name that the same file had before.
func (p *packer) isLink(h *tar.Header, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	id := inode{st.Dev, st.Ino}
	first, ok := p.links[id]
	if !ok {
		p.links[id] = h.Name
		return false
	}
	h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
	h.Devmajor, h.Devminor = 0, 0
	return true
}

func setXattrs(h *tar.Header, xattrs map[string]string) {
	for key, value := range xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+key] = value
	}
}

func (p *packer) addFolder(dir *os.File, base string, h *tar.Header, below bool) error {
	f, err := openFolder(dir, base)
	if err != nil {
		return gone(err)
	}
	defer f.Close()
	name := h.Name
	h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(name, "/")+"/"
	xattrs, err := xattrsOf(int(f.Fd()), name)
	if err != nil {
		return err
	}
	setXattrs(h, xattrs)
	if err := p.write(h); err != nil || !below {
		return err
	}
	return p.children(f, name)
}

func (p *packer) addFile(dir *os.File, base string, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if p.isLink(h, st) {
		return p.write(h)
	}
	fd, err := openFileFd(dir, base)
	if err != nil {
		return gone(err)
	}
	defer unix.Close(fd)
	xattrs, err := xattrsOf(fd, h.Name)
	if err != nil {
		return err
	}
	setXattrs(h, xattrs)
	if err := p.write(h); err != nil {
		return err
	}
	return p.content(fd, h.Size)
}

// content writes so many bytes of a file: should it have become shorter, zeros in their place.
func (p *packer) content(fd int, size int64) error {
	for left := size; left > 0; {
		room, err := p.out.space(left)
		if err != nil {
			return err
		}
		n, err := readFull(fd, room)
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		clear(room[n:])
		p.out.advance(len(room))
		left -= int64(len(room))
		if err := p.ctx.Err(); err != nil {
			return err
		}
	}
	_, err := p.out.Write(zeros[:-size&(blockBytes-1)])
	return err
}

func (p *packer) whiteout(name string) error {
	return p.write(&tar.Header{
		Typeflag: tar.TypeReg, Name: path.Join(path.Dir(name), whiteoutPrefix+path.Base(name)),
		Mode: 0o600, ModTime: time.Unix(0, 0),
	})
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	return err
}
