//go:build linux

// Package archivetest makes tar archives for tests, also such as no program makes, and lists trees.
package archivetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Stamp is the time of all files whose time is no matter.
var Stamp = time.Unix(1_600_000_000, 123456789)

// Entry is one of an archive. The mode 0 stands for 0o644, or 0o755 of a folder, the time 0 for
// Stamp.
type Entry struct {
	Name       string
	Kind       byte // tar.Type…; 0: by the name, a folder if it ends with a slash
	Data, Link string
	Mode       int64
	UID, GID   int
	Device     [2]int64
	Time       time.Time
	Xattrs     map[string]string
}

// File is a file of that content.
func File(name, data string) Entry { return Entry{Name: name, Data: data} }

// Folder is a folder.
func Folder(name string) Entry { return Entry{Name: name + "/"} }

// Link is a hard link.
func Link(name, to string) Entry { return Entry{Name: name, Kind: tar.TypeLink, Link: to} }

// Symlink is a symbolic link.
func Symlink(name, to string) Entry { return Entry{Name: name, Kind: tar.TypeSymlink, Link: to} }

// Whiteout hides the name that lower layers have.
func Whiteout(name string) Entry {
	return File(path.Join(path.Dir(name), ".wh."+path.Base(name)), "")
}

// Opaque hides what lower layers have in the folder.
func Opaque(folder string) Entry { return File(path.Join(folder, ".wh..wh..opq"), "") }

// Layer is an archive of the entries.
func Layer(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{
			Name: e.Name, Typeflag: e.Kind, Linkname: e.Link, Mode: e.Mode, Uid: e.UID, Gid: e.GID,
			Devmajor: e.Device[0], Devminor: e.Device[1], Size: int64(len(e.Data)),
			ModTime: e.Time, Format: tar.FormatPAX,
		}
		if e.Time.IsZero() {
			h.ModTime = Stamp
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.Name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		for key, value := range e.Xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+key] = value
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("entry %q: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Look lists a tree: a line for each file, with all that a layer keeps of it. Folders' times are
// left out, and so is the root.
func Look(t testing.TB, root *os.File) []string {
	t.Helper()
	l := &looker{t: t, names: map[[2]uint64]string{}}
	l.folder(root, "")
	slices.Sort(l.lines)
	return l.lines
}

type looker struct {
	t     testing.TB
	lines []string
	names map[[2]uint64]string
}

func (l *looker) folder(dir *os.File, at string) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		l.t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		l.entry(dir, name, at+"/"+name)
	}
}

func (l *looker) entry(dir *os.File, name, at string) {
	var st unix.Stat_t
	fd := int(dir.Fd())
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		l.t.Fatal(err)
	}
	line := fmt.Sprintf("%s %o %d:%d", at, st.Mode, st.Uid, st.Gid)
	if x := xattrs(l.t, fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)); x != "" {
		line += " " + x
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		l.lines = append(l.lines, line)
		sub := open(l.t, dir, name, unix.O_DIRECTORY)
		defer sub.Close()
		l.folder(sub, at)
		return
	}
	line += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	switch kind {
	case unix.S_IFLNK:
		buf := make([]byte, 4096)
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			l.t.Fatal(err)
		}
		line += " -> " + string(buf[:n])
	case unix.S_IFREG:
		line += " " + content(l.t, dir, name)
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" %d/%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	id := [2]uint64{st.Dev, st.Ino}
	if first, ok := l.names[id]; ok && st.Nlink > 1 {
		line += " = " + first
	}
	l.names[id] = at
	l.lines = append(l.lines, line)
}

func xattrs(t testing.TB, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return ""
	}
	if err != nil {
		t.Fatalf("llistxattr %q: %v", path, err)
	}
	all := map[string]string{}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if key == "" || strings.Contains(key, ".overlay.") || key == "security.selinux" {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, key, value)
		if err != nil {
			t.Fatalf("lgetxattr %q %s: %v", path, key, err)
		}
		all[key] = string(value[:n])
	}
	var list []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, fmt.Sprintf("%s=%q", key, all[key]))
	}
	return strings.Join(list, " ")
}

// content is a file's, or a digest of it if it is long.
func content(t testing.TB, dir *os.File, name string) string {
	t.Helper()
	f := open(t, dir, name, 0)
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 40 {
		return fmt.Sprintf("(%d bytes, %x)", len(data), sha256.Sum256(data))
	}
	return fmt.Sprintf("%q", data)
}

func open(t testing.TB, dir *os.File, name string, flags int) *os.File {
	t.Helper()
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %q: %v", name, err)
	}
	return os.NewFile(uintptr(fd), name)
}
