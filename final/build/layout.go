//go:build linux

package build

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/archive"
)

// make makes the layer: an archive of the files at their places, which is written into the store
// and unpacked in one pass.
func (c *copying) make() (*layer, error) {
	if err := c.collect(); err != nil {
		return nil, err
	}
	b := c.s.b
	top := c.at.top()
	if c.link {
		top = "" // the folders below are not looked at
	}
	var made *layer
	err := b.withRoot(top, func(root *os.File) error {
		mode, err := parseMode(c.chmod)
		if err != nil {
			return err
		}
		owner, err := c.owner(root)
		if err != nil {
			return err
		}
		made, err = b.pack(c.at.top(), root, func(l *layout) error {
			l.owner, l.mode, l.keepLower = owner, mode, !c.link
			return c.pack(l)
		})
		return err
	})
	return made, err
}

// pack makes a layer of what f writes.
func (b *builder) pack(parent string, root *os.File, f func(*layout) error) (*layer, error) {
	r, w := io.Pipe()
	defer func() { _ = r.Close() }() // it gives none
	go func() {
		buffered := bufio.NewWriterSize(w, 1<<20)
		l := &layout{b: b, root: root, tar: tar.NewWriter(buffered), made: map[string]uint32{},
			keepLower: true}
		err := f(l)
		if err == nil {
			err = errors.Join(l.tar.Close(), buffered.Flush())
		}
		w.CloseWithError(err)
	}()
	return b.take(b.ctx, parent, r)
}

// layout writes files to their places in a layer.
type layout struct {
	b         *builder
	root      *os.File // what is below
	keepLower bool     // folders that are below stay as they are
	tar       *tar.Writer
	owner     *archive.Owner // of all that is copied; nil: as they are
	mode      modeChange
	made      map[string]uint32 // what has been written, by its path: the type
}

// pack writes all items.
func (c *copying) pack(l *layout) error {
	into := strings.HasSuffix(c.dest, "/")
	dest, err := l.resolve(c.dest)
	if err != nil {
		return err
	}
	if st, ok := l.lower(dest); ok && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		into = true
	}
	for _, it := range c.items {
		if c.unpacks(it) {
			done, err := l.unpack(it, dest)
			if done || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		at := dest
		if !it.isFolder() && into || c.parents {
			at = path.Join(dest, it.name)
			// A link that has the file's name leads to where it is written.
			if at, err = l.resolve(at); err != nil {
				return err
			}
		}
		if err := l.item(it, at); err != nil {
			return err
		}
	}
	return nil
}

// item writes a file, or what is in a folder.
func (l *layout) item(it *item, dest string) error {
	if err := l.folder(path.Dir(dest)); err != nil {
		return err
	}
	for _, n := range it.nodes {
		at := path.Join(dest, n.rel)
		if err := l.node(it, n, at, dest); err != nil {
			return fmt.Errorf("copy %q: %w", "/"+n.path, err)
		}
	}
	return nil
}

func (l *layout) node(it *item, n *node, at, dest string) error {
	if strings.HasPrefix(path.Base(at), ".wh.") {
		return fmt.Errorf("the name %q means in a layer that a file is deleted", path.Base(at))
	}
	if err := l.fits(at, n.kind() == unix.S_IFDIR); err != nil {
		return err
	}
	if n.kind() == unix.S_IFDIR && n.rel == "" {
		if st, ok := l.lower(at); l.made[at] != 0 || ok && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return l.folder(at) // it stays as it is
		}
	}
	if at == "/" {
		return nil
	}
	h := l.header(it, n, at)
	l.made[at] = n.kind()
	if n.same != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, strings.TrimPrefix(path.Join(dest, n.same), "/")
	}
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if h.Typeflag != tar.TypeReg {
		h.Size = 0
		return l.write(h)
	}
	f, err := it.open(n)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := l.write(h); err != nil {
		return err
	}
	copied, err := io.Copy(l.tar, io.LimitReader(f, h.Size))
	if err == nil && copied < h.Size {
		err = errors.New("it has become shorter while it was read")
	}
	return err
}

// write writes a header, unless the build has been given up.
func (l *layout) write(h *tar.Header) error {
	if err := l.b.ctx.Err(); err != nil {
		return err
	}
	if e := l.b.epoch; !e.IsZero() && h.ModTime.After(e) {
		h.ModTime = e
	}
	h.ModTime = h.ModTime.Truncate(time.Second)
	return l.tar.WriteHeader(h)
}

func (l *layout) header(it *item, n *node, at string) *tar.Header {
	h := &tar.Header{
		Name: strings.TrimPrefix(at, "/"), Mode: int64(n.st.Mode & 0o7777), Size: n.st.Size,
		ModTime: time.Unix(n.st.Mtim.Sec, n.st.Mtim.Nsec), Linkname: n.link,
	}
	if n.data != nil {
		h.ModTime = l.b.now()
	}
	if !it.from.context {
		h.Uid, h.Gid = int(n.st.Uid), int(n.st.Gid)
		h.PAXRecords = xattrsOf(it.from.root, n)
	}
	if l.owner != nil {
		h.Uid, h.Gid = l.owner.UID, l.owner.GID
	}
	switch n.kind() {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		return h
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if n.kind() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(n.st.Rdev)), int64(unix.Minor(n.st.Rdev))
	default:
		h.Typeflag = tar.TypeReg
	}
	h.Mode = l.mode.apply(h.Mode, h.Typeflag == tar.TypeDir)
	return h
}

// fits says whether something can be at a path: a folder does not take a file's place, nor a file a
// folder's.
func (l *layout) fits(at string, folder bool) error {
	kind, ok := l.made[at]
	if !ok {
		st, there := l.lower(at)
		if !there {
			return nil
		}
		kind = st.Mode & unix.S_IFMT
	}
	switch is := kind == unix.S_IFDIR; {
	case is && !folder:
		return fmt.Errorf("cannot replace to directory %s with file", at)
	case !is && folder:
		return fmt.Errorf("cannot copy to non-directory: %s", at)
	}
	return nil
}

// folder writes a folder, and those above it: as they are below, or new ones.
func (l *layout) folder(at string) error {
	if at == "/" || l.made[at] == unix.S_IFDIR {
		return nil
	}
	if err := l.folder(path.Dir(at)); err != nil {
		return err
	}
	if err := l.fits(at, true); err != nil {
		return err
	}
	l.made[at] = unix.S_IFDIR
	h := &tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(at, "/") + "/", Mode: 0o755,
		ModTime: l.b.now()}
	if l.owner != nil {
		h.Uid, h.Gid = l.owner.UID, l.owner.GID
	}
	if st, ok := l.lower(at); ok {
		h.Mode, h.Uid, h.Gid = int64(st.Mode&0o7777), int(st.Uid), int(st.Gid)
		h.ModTime = time.Unix(st.Mtim.Sec, st.Mtim.Nsec)
		h.PAXRecords = xattrsOf(l.root, &node{path: strings.TrimPrefix(at, "/")})
	}
	return l.write(h)
}

// lower is what the layers below have at a path; a link is not followed.
func (l *layout) lower(at string) (unix.Stat_t, bool) {
	var st unix.Stat_t
	if !l.keepLower {
		return st, false
	}
	f, err := openBelow(l.root, strings.TrimPrefix(at, "/"), unix.O_PATH)
	if err != nil {
		return st, false
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st) == nil
}

// maxLinks is how many links a path may lead through.
const maxLinks = 255

// resolve follows the links in a path, as the layers below have them: also to what is not there.
func (l *layout) resolve(name string) (string, error) {
	at, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		st, ok := l.lower(next)
		if !ok || st.Mode&unix.S_IFMT != unix.S_IFLNK || l.made[next] != 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
		}
		target, err := l.readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

func (l *layout) readlink(at string) (string, error) {
	f, err := openBelow(l.root, strings.TrimPrefix(at, "/"), unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buffer)
	if err != nil {
		return "", os.NewSyscallError("readlinkat", err)
	}
	return string(buffer[:n]), nil
}

// xattrsOf are a file's attributes, as an archive has them.
func xattrsOf(root *os.File, n *node) map[string]string {
	f, err := openBelow(root, n.path, unix.O_PATH)
	if err != nil {
		return nil
	}
	defer f.Close()
	at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	list := make([]byte, 64<<10)
	size, err := unix.Listxattr(at, list)
	if err != nil || size == 0 {
		return nil
	}
	var all map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if strings.Contains(name, ".overlay.") || strings.HasPrefix(name, "security.selinux") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(at, name, value)
		if err != nil {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all["SCHILY.xattr."+name] = string(value[:n])
	}
	return all
}

// makeFolder makes the layer of WORKDIR; nil if the folder is there.
func (b *builder) makeFolder(at *state, dir string) (made *layer, err error) {
	err = b.withRoot(at.top(), func(root *os.File) error {
		l := &layout{b: b, root: root, keepLower: true, made: map[string]uint32{}}
		place, err := l.resolve(dir)
		if err != nil {
			return err
		}
		if st, ok := l.lower(place); place == "/" || ok && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		made, err = b.pack(at.top(), root, func(l *layout) error { return l.folder(place) })
		return err
	})
	return made, err
}

// modeChange is what --chmod says; nil: nothing.
type modeChange []modeClause

// modeClause is one of "u+rw,go-w": who, what, how; or a number.
type modeClause struct {
	who  int64 // bits that are changed
	op   byte  // + - = or # for a number
	bits int64
	x    bool // X: to execute, where it is a folder or somebody may already
}

// parseMode reads --chmod: octal digits, or words as chmod(1) has them.
func parseMode(text string) (modeChange, error) {
	if text == "" {
		return nil, nil
	}
	if n, err := strconv.ParseUint(text, 8, 32); err == nil {
		if n > 0o7777 {
			return nil, badMode(text)
		}
		return modeChange{{op: '#', bits: int64(n)}}, nil
	}
	var all modeChange
	for word := range strings.SplitSeq(text, ",") {
		clauses, ok := parseClauses(word)
		if !ok {
			return nil, badMode(text)
		}
		all = append(all, clauses...)
	}
	return all, nil
}

func badMode(text string) error {
	return fmt.Errorf("invalid chmod parameter: '%s'. it should be octal string and between 0 and "+
		"07777, or as u=rwX,go-w", text)
}

func parseClauses(word string) ([]modeClause, bool) {
	end := strings.IndexAny(word, "+-=")
	if end < 0 {
		return nil, false
	}
	who := int64(0)
	for _, c := range word[:end] {
		bits, ok := map[rune]int64{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[c]
		if !ok {
			return nil, false
		}
		who |= bits
	}
	if end == 0 {
		who = 0o7777
	}
	var all []modeClause
	for _, c := range word[end:] {
		if strings.ContainsRune("+-=", c) {
			all = append(all, modeClause{who: who, op: byte(c)})
			continue
		}
		last := &all[len(all)-1]
		bits, ok := map[rune]int64{'r': 0o444, 'w': 0o222, 'x': 0o111, 's': 0o6000, 't': 0o1000,
			'X': 0}[c]
		if !ok {
			return nil, false
		}
		last.bits |= bits & who
		last.x = last.x || c == 'X'
	}
	return all, true
}

// apply changes a file's mode.
func (m modeChange) apply(mode int64, folder bool) int64 {
	for _, c := range m {
		bits := c.bits
		if c.x && (folder || mode&0o111 != 0) {
			bits |= 0o111 & c.who
		}
		switch c.op {
		case '#':
			mode = bits
		case '+':
			mode |= bits
		case '-':
			mode &^= bits
		case '=':
			mode = mode&^(c.who&0o777|bits) | bits
		}
	}
	return mode
}
