//go:build linux

package archive

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ChangeKind is what became of a path, by the letter that docker diff prints.
type ChangeKind byte

// The kinds of changes.
const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

// Change is a path that differs between a layer and what is below it. A folder has changed when
// its mode or owner has, or anything in it. A path that is of another type now has changed; what
// was in a folder that is gone is not named one by one.
type Change struct {
	Kind ChangeKind
	Path string // absolute, as in the container
}

// OverlayChanges are the changes in the upper folder of an overlay, sorted by path. lower is the
// union of the layers below, or nil if there is none; user says that overlay's attributes begin
// with user.
//
// Whoever opens a file for writing has overlayfs copy it up, and so it counts as changed.
func OverlayChanges(upper, lower *os.File, user bool) ([]Change, error) {
	c := &changes{opaque: OverlayXattr("opaque", user), whiteout: OverlayXattr("whiteout", user)}
	if err := c.overlay(upper, lower, "/", false); err != nil {
		return nil, err
	}
	return c.sorted(), nil
}

// UnionChanges are those in the upper folder of a union that has AUFS's names: see union. lower is
// the union of the layers below, or nil if there is none.
func UnionChanges(upper, lower *os.File) ([]Change, error) {
	c := &changes{names: true}
	if err := c.overlay(upper, lower, "/", false); err != nil {
		return nil, err
	}
	return c.sorted(), nil
}

// TreeChanges are the changes between two whole trees, sorted by path; old may be nil. A file
// has changed when its type, mode, owner, size, time or an attribute has; with the status change
// time to be trusted since (see ctime in inode(7)), also when its content alone has: since is
// when new began as a copy of old.
func TreeChanges(updated, old *os.File, since unix.Timespec) ([]Change, error) {
	c := &changes{since: since}
	if _, err := c.tree(updated, old, "/"); err != nil {
		return nil, err
	}
	return c.sorted(), nil
}

type changes struct {
	all              []Change
	opaque, whiteout string // attributes
	names            bool   // whiteouts are names instead
	since            unix.Timespec
}

func (c *changes) add(kind ChangeKind, path string) {
	c.all = append(c.all, Change{Kind: kind, Path: path})
}

func (c *changes) sorted() []Change {
	slices.SortFunc(c.all, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return c.all
}

// overlay compares a folder of the upper layer with the one below, which may be nil. An opaque
// folder hides what is below, and so does all that is in it.
func (c *changes) overlay(upper, lower *os.File, at string, hides bool) error {
	entries, err := list(upper)
	if err != nil {
		return err
	}
	var hidden []string
	if c.names {
		entries, hidden = cutWhiteouts(entries)
		hides = hides || slices.Contains(hidden, opaqueName)
	}
	hides = lower != nil && (hides || !c.names && hasXattr(upper, c.opaque, "y"))
	// "x" says that whiteouts in here may be files with an attribute: since Linux 6.7.
	files := !c.names && hasXattr(upper, c.opaque, "x")
	for _, name := range entries {
		here := hides || slices.Contains(hidden, whiteoutPrefix+name)
		if err := c.overlayEntry(upper, lower, at, name, here, files); err != nil {
			return err
		}
	}
	if lower == nil {
		return nil
	}
	if !hides {
		return c.whiteouts(lower, at, entries, hidden)
	}
	below, err := list(lower)
	if err != nil {
		return err
	}
	for _, name := range below {
		if _, found := slices.BinarySearch(entries, name); !found {
			c.add(Deleted, path.Join(at, name))
		}
	}
	return nil
}

// cutWhiteouts takes AUFS's names out of a folder's, which are sorted.
func cutWhiteouts(all []string) (entries, hidden []string) {
	for _, name := range all {
		if strings.HasPrefix(name, whiteoutPrefix) {
			hidden = append(hidden, name)
		} else {
			entries = append(entries, name)
		}
	}
	return entries, hidden
}

// whiteouts adds what AUFS's names hide of a lower folder.
func (c *changes) whiteouts(lower *os.File, at string, entries, hidden []string) error {
	for _, mark := range hidden {
		name := strings.TrimPrefix(mark, whiteoutPrefix)
		_, found := slices.BinarySearch(entries, name)
		if found || strings.HasPrefix(mark, metaPrefix) {
			continue
		}
		var st unix.Stat_t
		err := fstatat(lower, name, &st)
		if err == nil {
			c.add(Deleted, path.Join(at, name))
		}
		if ignoreMissing(err) != nil {
			return err
		}
	}
	return nil
}

func (c *changes) overlayEntry(upper, lower *os.File, at, name string, hides, files bool) error {
	var st, below unix.Stat_t
	if err := fstatat(upper, name, &st); err != nil {
		return ignoreMissing(err)
	}
	there := lower != nil
	if there {
		err := fstatat(lower, name, &below)
		if there = err == nil; ignoreMissing(err) != nil {
			return err
		}
	}
	full := path.Join(at, name)
	if isWhiteout(&st) || files && isEmptyFile(&st) && hasXattrAt(upper, name, c.whiteout) {
		if there {
			c.add(Deleted, full)
		}
		return nil
	}
	if !isFolder(&st) {
		c.add(kind(there), full)
		return nil
	}
	sub, err := openFolder(upper, name)
	if err != nil {
		return ignoreMissing(err)
	}
	defer sub.Close()
	var subLower *os.File
	if there && isFolder(&below) {
		if subLower, err = openFolder(lower, name); err != nil {
			return err
		}
		defer subLower.Close()
	}
	before := len(c.all)
	if err := c.overlay(sub, subLower, full, hides); err != nil {
		return err
	}
	if subLower == nil || len(c.all) > before || !sameMeta(&st, &below) || !sameXattrs(sub, subLower) {
		c.add(kind(there), full)
	}
	return nil
}

// tree compares two folders, old may be nil; it says whether anything in them differs.
func (c *changes) tree(updated, old *os.File, at string) (bool, error) {
	before := len(c.all)
	entries, err := list(updated)
	if err != nil {
		return false, err
	}
	var below []string
	if old != nil {
		if below, err = list(old); err != nil {
			return false, err
		}
	}
	for _, name := range entries {
		_, there := slices.BinarySearch(below, name)
		if err := c.treeEntry(updated, old, at, name, there); err != nil {
			return false, err
		}
	}
	for _, name := range below {
		if _, found := slices.BinarySearch(entries, name); !found {
			c.add(Deleted, path.Join(at, name))
		}
	}
	return len(c.all) > before, nil
}

func (c *changes) treeEntry(updated, old *os.File, at, name string, there bool) error {
	var st, was unix.Stat_t
	if err := fstatat(updated, name, &st); err != nil {
		return ignoreMissing(err)
	}
	full := path.Join(at, name)
	if there {
		if err := fstatat(old, name, &was); err != nil {
			return err
		}
	}
	if !isFolder(&st) {
		same := false
		if there {
			var err error
			if same, err = c.sameFile(updated, old, name, &st, &was); err != nil {
				return err
			}
		}
		if !same {
			c.add(kind(there), full)
		}
		return nil
	}
	sub, err := openFolder(updated, name)
	if err != nil {
		return ignoreMissing(err)
	}
	defer sub.Close()
	var subOld *os.File
	if there && isFolder(&was) {
		if subOld, err = openFolder(old, name); err != nil {
			return err
		}
		defer subOld.Close()
	}
	differs, err := c.tree(sub, subOld, full)
	if err != nil {
		return err
	}
	if subOld == nil || differs || !sameMeta(&st, &was) || !sameXattrs(sub, subOld) {
		c.add(kind(there), full)
	}
	return nil
}

// sameFile says whether two files that are no folders are the same in all that a layer keeps.
func (c *changes) sameFile(updated, old *os.File, name string, st, was *unix.Stat_t) (bool, error) {
	if !sameMeta(st, was) || st.Rdev != was.Rdev || st.Mtim != was.Mtim {
		return false, nil
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFLNK {
		a, errA := readlink(updated, name)
		b, errB := readlink(old, name)
		return a == b && errA == nil && errB == nil, nil
	}
	if kind != unix.S_IFREG {
		return true, nil
	}
	if st.Size != was.Size {
		return false, nil
	}
	if earlier(st.Ctim, c.since) {
		return true, nil // nobody has touched it
	}
	a, err := openFileFd(updated, name)
	if err != nil {
		return false, ignoreMissing(err)
	}
	defer unix.Close(a)
	b, err := openFileFd(old, name)
	if err != nil {
		return false, err
	}
	defer unix.Close(b)
	x, errX := xattrsOf(a, name)
	y, errY := xattrsOf(b, name)
	if errX != nil || errY != nil || !maps.Equal(x, y) {
		return false, nil
	}
	same, err := sameContent(a, b)
	return same, pathError("read", updated, name, err)
}

func earlier(a, b unix.Timespec) bool {
	return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec
}

func sameContent(a, b int) (bool, error) {
	bufA, bufB := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		n, err := readFull(a, bufA)
		if err != nil {
			return false, err
		}
		m, err := readFull(b, bufB)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if n < len(bufA) {
			return true, nil
		}
	}
}

// readFull fills a buffer, or as much of it as there is.
func readFull(fd int, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if m <= 0 || err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

func sameMeta(a, b *unix.Stat_t) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid
}

func sameXattrs(a, b *os.File) bool {
	x, errX := xattrsOf(int(a.Fd()), a.Name())
	y, errY := xattrsOf(int(b.Fd()), b.Name())
	return errX == nil && errY == nil && maps.Equal(x, y)
}

func kind(there bool) ChangeKind {
	if there {
		return Changed
	}
	return Added
}

func isFolder(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

func isEmptyFile(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
}

func hasXattr(f *os.File, key, value string) bool {
	var buf [2]byte
	n, err := unix.Fgetxattr(int(f.Fd()), key, buf[:])
	return err == nil && string(buf[:n]) == value
}

func hasXattrAt(dir *os.File, name, key string) bool {
	at := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
	_, err := unix.Lgetxattr(at, key, nil)
	return err == nil
}

// Size adds up the sizes of the files that were added or changed, and counts them and the
// folders. A file with several names counts once.
func Size(root *os.File, all []Change) (bytes, inodes int64, err error) {
	seen := map[inode]bool{}
	for _, c := range all {
		if c.Kind == Deleted {
			continue
		}
		var st unix.Stat_t
		if err := fstatat(root, strings.TrimPrefix(c.Path, "/"), &st); err != nil {
			if ignoreMissing(err) != nil {
				return 0, 0, err
			}
			continue
		}
		id := inode{st.Dev, st.Ino}
		if !isFolder(&st) && seen[id] {
			continue
		}
		seen[id] = true
		inodes++
		if !isFolder(&st) {
			bytes += st.Size
		}
	}
	return bytes, inodes, nil
}
