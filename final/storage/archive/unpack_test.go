//go:build linux

package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/archive"
	"minidocker/final/storage/archive/archivetest"
)

var background = context.Background()

// open makes a folder and opens it.
func open(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func unpack(t testing.TB, dir *os.File, o archive.UnpackOptions, entries ...archivetest.Entry) {
	t.Helper()
	data := archivetest.Layer(t, entries...)
	if _, err := archive.Unpack(background, dir, bytes.NewReader(data), o); err != nil {
		t.Fatal(err)
	}
}

// again opens a folder that has been listed anew.
func again(t testing.TB, dir *os.File) []string {
	t.Helper()
	f, err := os.Open(dir.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return archivetest.Look(t, f)
}

func contains(t *testing.T, lines []string, want ...string) {
	t.Helper()
	all := strings.Join(lines, "\n")
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("%q is not in\n%s", w, all)
		}
	}
}

func TestUnpack_NoLayer(t *testing.T) {
	dir := open(t)
	unpack(t, dir, archive.UnpackOptions{}, archivetest.File(".wh.a", "kept"),
		archivetest.File(".wh..wh..opq", ""), archivetest.File("b", "1"))
	contains(t, again(t, dir), "/.wh.a ", "/.wh..wh..opq ", "/b ")
}

func TestUnpack_IntoWhatIsThere(t *testing.T) {
	dir := open(t)
	at := func(name string) string { return filepath.Join(dir.Name(), name) }
	for _, err := range []error{
		os.Mkdir(at("shared"), 0o777), os.Chmod(at("shared"), 0o2777|os.ModeSetgid),
		os.Chown(at("shared"), 0, 50), os.WriteFile(at("shared/old"), []byte("old"), 0o600),
		os.WriteFile(at("replaced"), []byte("old"), 0o600), os.Symlink("shared", at("link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	unpack(t, dir, archive.UnpackOptions{}, archivetest.File("shared/new", "new"),
		archivetest.File("replaced", "new"), archivetest.File("link/through", "x"))
	contains(t, again(t, dir), "/shared 42777 0:50", `/shared/old 100600 0:50`,
		// In a setgid folder a file has the folder's group, unless the archive has another.
		`/shared/new 100644 0:0`, `"new"`, `/replaced 100644`, `/shared/through 100644`)
}

func TestUnpack_Owner(t *testing.T) {
	dir := open(t)
	unpack(t, dir, archive.UnpackOptions{Owner: &archive.Owner{UID: 33, GID: 44}},
		archivetest.Folder("d"), archivetest.Entry{Name: "d/f", Mode: 0o4755, UID: 1},
		archivetest.Symlink("l", "d"))
	contains(t, again(t, dir), "/d 40755 33:44", "/d/f 104755 33:44", "/l 120777 33:44")
}

func TestUnpack_Limits(t *testing.T) {
	for name, test := range map[string]struct {
		o       archive.UnpackOptions
		entries []archivetest.Entry
		want    string
	}{
		"too many bytes": {archive.UnpackOptions{MaxBytes: 100},
			[]archivetest.Entry{archivetest.File("a", strings.Repeat("x", 60)),
				archivetest.File("b", strings.Repeat("x", 60))}, "claims 60 bytes, and 40 are left"},
		"devices": {archive.UnpackOptions{NoDevices: true},
			[]archivetest.Entry{{Name: "sda", Kind: tar.TypeBlock, Device: [2]int64{8, 0}}}, "not allowed"},
		"an impossible device": {archive.UnpackOptions{},
			[]archivetest.Entry{{Name: "x", Kind: tar.TypeChar, Device: [2]int64{1 << 12, 0}}}, "no device"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := open(t)
			data := archivetest.Layer(t, test.entries...)
			_, err := archive.Unpack(background, dir, bytes.NewReader(data), test.o)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestUnpack_Umask: the modes are the archive's, whatever the process's umask; and many files,
// in batches, of all sizes.
func TestUnpack_Umask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := open(t)
	var entries []archivetest.Entry
	var want []string
	for i := range 300 {
		name := fmt.Sprintf("d%d/f%03d", i%7, i)
		data := strings.Repeat(fmt.Sprint(i), i*i%40_000)
		entries = append(entries, archivetest.Entry{Name: name, Data: data, Mode: 0o664 | int64(i&1)<<1})
		want = append(want, fmt.Sprintf("/%s 1006%o 0:0", name, 0o64|i&1<<1))
	}
	unpack(t, dir, archive.UnpackOptions{}, entries...)
	lines := again(t, dir)
	contains(t, lines, want...)
	for i, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir.Name(), e.Name))
		if err != nil || string(data) != e.Data {
			t.Errorf("file %d: %d bytes, %v; want %d", i, len(data), err, len(e.Data))
		}
	}
}

func TestUnpack_Warns(t *testing.T) {
	dir := open(t)
	var told []string
	unpack(t, dir, archive.UnpackOptions{Warn: func(message string) { told = append(told, message) }},
		// user. attributes are for files and folders alone: xattr(7).
		archivetest.Entry{Name: "l", Kind: tar.TypeSymlink, Link: "x",
			Xattrs: map[string]string{"user.a": "b"}})
	if len(told) != 1 || !strings.Contains(told[0], "user.a") {
		t.Errorf("told %q, want something about user.a", told)
	}
}

// TestUnpack_Waits: after an error in the middle, nobody reads from the reader any more.
func TestUnpack_Waits(t *testing.T) {
	r := &watched{r: io.MultiReader(bytes.NewReader(archivetest.Layer(t, archivetest.File("../x", ""))),
		endless{})}
	_, err := archive.Unpack(background, open(t), r, archive.UnpackOptions{})
	if err == nil {
		t.Fatal("no error")
	}
	before := r.reads
	time.Sleep(20 * time.Millisecond)
	if r.reads != before {
		t.Error("it reads on after it has returned")
	}
}

// TestUnpack_Broken: what is wrong with the reader after the archive's end is wrong, too: its
// checksum comes there.
func TestUnpack_Broken(t *testing.T) {
	data := archivetest.Layer(t, archivetest.File("a", "x"))
	r := io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrUnexpectedEOF))
	_, err := archive.Unpack(background, open(t), r, archive.UnpackOptions{})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

type watched struct {
	r     io.Reader
	reads int
}

func (w *watched) Read(p []byte) (int, error) {
	w.reads++
	return w.r.Read(p)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestPack_WholeTree(t *testing.T) {
	from, to := open(t), open(t)
	long := strings.Repeat("long/", 40) + "name"
	unpack(t, from, archive.UnpackOptions{}, archivetest.Folder("d"), archivetest.File("d/b", "2"),
		archivetest.File("d/a", "1"), archivetest.Link("c", "d/a"), archivetest.File(long, "x"),
		archivetest.Entry{Name: "capable", Xattrs: map[string]string{"user.x": "y"}, UID: 3000000},
		archivetest.Entry{Name: "null", Kind: tar.TypeChar, Device: [2]int64{1, 3}},
		archivetest.Symlink("s", "d"), archivetest.File("zeros", strings.Repeat("\x00", 3<<20)),
		archivetest.Entry{Name: "old", Time: time.Unix(-5, 7)})
	var first, second bytes.Buffer
	o := archive.PackOptions{Exact: true}
	if err := errors.Join(archive.Pack(background, &first, reopen(t, from), o),
		archive.Pack(background, &second, reopen(t, from), o)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of the same tree differ")
	}
	_, err := archive.Unpack(background, to, &first, archive.UnpackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, want := again(t, to), again(t, from)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func reopen(t testing.TB, dir *os.File) *os.File {
	t.Helper()
	f, err := os.Open(dir.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// names are those of an archive's entries.
func names(t *testing.T, r io.Reader) string {
	t.Helper()
	var all []string
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return strings.Join(all, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
	}
}

func TestPackAt(t *testing.T) {
	from := open(t)
	unpack(t, from, archive.UnpackOptions{}, archivetest.Folder("d"), archivetest.File("d/a", "1"),
		archivetest.File("d/skip/x", "1"), archivetest.Symlink("l", "d"))
	skip := archive.PackOptions{Skip: func(name string) bool { return name == "new/skip" }}
	for _, test := range []struct {
		name, as, want string
		o              archive.PackOptions
	}{
		{"d", "new", "new/ new/a new/skip/ new/skip/x", archive.PackOptions{}},
		{"d", "new", "new/ new/a", skip},
		{"d", ".", "./ ./a ./skip/ ./skip/x", archive.PackOptions{}},
		{"d", "/", "/ /a /skip/ /skip/x", archive.PackOptions{}},
		{"l", "l", "l", archive.PackOptions{}},
	} {
		var buf bytes.Buffer
		if err := archive.PackAt(background, &buf, from, test.name, test.as, test.o); err != nil {
			t.Fatal(err)
		}
		if got := names(t, &buf); got != test.want {
			t.Errorf("%q as %q: got %q, want %q", test.name, test.as, got, test.want)
		}
	}
	err := archive.PackAt(background, io.Discard, from, "none", "x", archive.PackOptions{})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pack what is not there: %v", err)
	}
}

func TestPack_FullDisk(t *testing.T) {
	from := open(t)
	unpack(t, from, archive.UnpackOptions{}, archivetest.File("big", strings.Repeat("x", 8<<20)))
	full := errors.New("the disk is full")
	err := archive.Pack(background, failing{full}, from, archive.PackOptions{})
	if !errors.Is(err, full) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestPack_NotAfter(t *testing.T) {
	from := open(t)
	unpack(t, from, archive.UnpackOptions{}, archivetest.File("a", ""),
		archivetest.Entry{Name: "b", Time: time.Unix(5, 0)})
	var buf bytes.Buffer
	o := archive.PackOptions{NotAfter: time.Unix(100, 0), Owner: &archive.Owner{UID: 1, GID: 2}}
	if err := archive.Pack(background, &buf, from, o); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() > 100 || h.Uid != 1 || h.Gid != 2 {
			t.Errorf("%s: %v, %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
	}
}

// hostile are archives that want to get out.
func hostile(t testing.TB) [][]byte {
	up := strings.Repeat("../", 10)
	return [][]byte{
		archivetest.Layer(t, archivetest.File("../outside", "evil")),
		archivetest.Layer(t, archivetest.Symlink("l", ".."), archivetest.File("l/outside", "evil")),
		archivetest.Layer(t, archivetest.Symlink("l", up), archivetest.File("l/tmp/outside", "evil")),
		archivetest.Layer(t, archivetest.Link("l", "../outside"), archivetest.File("l", "evil")),
		archivetest.Layer(t, archivetest.Symlink("a", "."), archivetest.Symlink("a/b", "../.."),
			archivetest.Whiteout("a/b/outside"), archivetest.Opaque("a/b")),
		archivetest.Layer(t, archivetest.Folder("d"), archivetest.File("d/f", "x"),
			archivetest.Symlink("d", "../.."), archivetest.Folder("d"), archivetest.Opaque("d")),
		archivetest.Layer(t, archivetest.Folder(".wh..wh.plnk"), archivetest.Symlink(".wh..wh.plnk/1", ".."),
			archivetest.Link("x", ".wh..wh.plnk/1/outside"), archivetest.File(".wh...", "")),
		archivetest.Layer(t, archivetest.Entry{Name: "c", Kind: tar.TypeChar}, archivetest.Folder("c"),
			archivetest.File("c/x", ""), archivetest.Whiteout("c")),
	}
}

// FuzzUnpack: whatever the archive, nothing outside of the folder changes.
func FuzzUnpack(f *testing.F) {
	for _, data := range hostile(f) {
		for mode := range uint8(3) {
			f.Add(mode, data)
		}
	}
	f.Fuzz(func(t *testing.T, mode uint8, data []byte) {
		top := t.TempDir()
		outside, inside := filepath.Join(top, "outside"), filepath.Join(top, "inside")
		if err := errors.Join(os.WriteFile(outside, []byte("untouched"), 0o640),
			os.Mkdir(inside, 0o755), os.WriteFile(inside+"/there", []byte("x"), 0o644)); err != nil {
			t.Fatal(err)
		}
		root, err := os.Open(inside)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		archive.Mend(data)
		_, _ = archive.Unpack(background, root, bytes.NewReader(data), archive.UnpackOptions{
			Whiteouts: archive.Whiteouts(mode % 3), MaxBytes: 1 << 20,
		})
		var st unix.Stat_t
		if err := unix.Lstat(outside, &st); err != nil || st.Nlink != 1 || st.Mode&0o7777 != 0o640 ||
			st.Uid != 0 {
			t.Errorf("outside: %+v, %v", st, err)
		}
		if text, err := os.ReadFile(outside); err != nil || string(text) != "untouched" {
			t.Errorf("outside: %q, %v", text, err)
		}
		if entries, err := os.ReadDir(top); err != nil || len(entries) != 2 {
			t.Errorf("outside: %v, %v", entries, err)
		}
	})
}
