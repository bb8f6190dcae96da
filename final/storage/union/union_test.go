//go:build linux

package union_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"minidocker/final/storage/driver"
	"minidocker/final/storage/fuse"
	"minidocker/final/storage/storagetest"
	"minidocker/final/storage/union"
)

// serve makes the test program the server as well.
const serve = "union-serve"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serve {
		if union.Main() != nil {
			os.Exit(1)
		}
		return
	}
	storagetest.Main(m, func(string) (driver.Driver, error) { return nil, errors.ErrUnsupported })
}

// show mounts a union of folders "upper" (rw) and "lower" (ro) with these files in them, and gives
// the folder with all of them: mnt, upper, lower.
func show(t *testing.T, udba string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"mnt", "upper", "lower"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	for _, name := range files {
		path := dir + "/" + name
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if !strings.HasSuffix(name, "/") {
			must(t, os.WriteFile(path, []byte(name), 0o644))
		}
	}
	o := union.Options{UDBA: udba, Branches: []union.Branch{
		{Path: dir + "/upper", Writable: true}, {Path: dir + "/lower"},
	}}
	must(t, fuse.Show(o, dir+"/mnt", os.Args[0], serve))
	t.Cleanup(func() { must(t, unix.Unmount(dir+"/mnt", 0)) })
	return dir
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// What any file system does: the tests of the library's.
func TestPosix(t *testing.T) {
	for _, udba := range []string{"none", "reval"} {
		for name, test := range posixtest.All {
			if name == "FcntlFlockLocksFile" {
				continue // it wants a process to be in its own way: fcntl(2) says the contrary
			}
			t.Run(udba+"/"+name, func(t *testing.T) { test(t, show(t, udba)+"/mnt") })
		}
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	must(t, err)
	var list []string
	for _, e := range all {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestRename(t *testing.T) {
	dir := show(t, "none", "lower/file", "lower/folder/in", "lower/other/below", "upper/other/x",
		"lower/target", "lower/gone/below")
	at := func(name string) string { return filepath.Join(dir, "mnt", name) }
	must(t, os.Rename(at("file"), at("renamed")))
	want(t, "a file of a lower branch", names(t, dir+"/upper"), ".wh..wh.orph .wh.file other renamed")
	if err := os.Rename(at("folder"), at("moved")); !errors.Is(err, unix.EXDEV) {
		t.Errorf("a folder of a lower branch: %v, want EXDEV", err)
	}
	if err := os.Rename(at("other"), at("moved")); !errors.Is(err, unix.EXDEV) {
		t.Errorf("a folder in both: %v, want EXDEV", err)
	}
	must(t, os.Mkdir(at("mine"), 0o755), os.WriteFile(at("mine/x"), nil, 0o644),
		os.RemoveAll(at("gone")), os.Rename(at("mine"), at("gone")))
	want(t, "a folder in the place of one that is gone", names(t, at("gone")), "x")
	must(t, os.Rename(at("renamed"), at("target")))
	want(t, "all", names(t, dir+"/mnt"), "folder gone other target")
	data, err := os.ReadFile(at("target"))
	must(t, err)
	want(t, "the file", string(data), "lower/file")
	err = unix.Renameat2(unix.AT_FDCWD, at("target"), unix.AT_FDCWD, at("other"), unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EEXIST) {
		t.Errorf("without replacing: %v, want EEXIST", err)
	}
}

// A file keeps its number when it is copied up, and what is mapped or open goes on with it.
func TestCopyUp(t *testing.T) {
	for _, udba := range []string{"none", "reval"} {
		t.Run(udba, func(t *testing.T) {
			dir := show(t, udba, "lower/a/b/file")
			path := dir + "/mnt/a/b/file"
			must(t, os.Chmod(dir+"/lower/a", 0o711), os.Chown(dir+"/lower/a", 5, 6))
			reader, err := os.Open(path)
			must(t, err)
			defer reader.Close()
			mapped, err := unix.Mmap(int(reader.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
			must(t, err)
			defer unix.Munmap(mapped) //nolint:errcheck // the test is at its end
			var before, after, folder unix.Stat_t
			must(t, unix.Stat(path, &before))
			writer, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			_, err = writer.WriteAt([]byte("LOWER"), 0)
			must(t, err, writer.Close(), unix.Fstat(int(reader.Fd()), &after))
			if before.Ino != after.Ino {
				t.Errorf("its number was %d, and is %d", before.Ino, after.Ino)
			}
			data := make([]byte, 12)
			_, err = reader.ReadAt(data, 0)
			must(t, err)
			want(t, "who has it open reads", string(data), "LOWER/a/b/fi")
			want(t, "who has it mapped reads", string(mapped[:12]), "LOWER/a/b/fi")
			must(t, unix.Stat(dir+"/upper/a", &folder))
			want(t, "the folder above", fmt.Sprintf("%o %d:%d", folder.Mode, folder.Uid, folder.Gid),
				"40711 5:6")
			below, err := os.ReadFile(dir + "/lower/a/b/file")
			must(t, err)
			want(t, "the lower file", string(below), "lower/a/b/file")
		})
	}
}

// Names that begin with .wh. are nobody's, and a device 0/0 cannot be made.
func TestWhiteouts(t *testing.T) {
	dir := show(t, "reval", "lower/file", "upper/.wh.x", "lower/.wh.y", "lower/y")
	want(t, "the union", names(t, dir+"/mnt"), "file y")
	for _, name := range []string{".wh.file", ".wh..wh..opq"} {
		at := filepath.Join(dir, "mnt", name)
		for what, err := range map[string]error{
			"a file": os.WriteFile(at, nil, 0o644), "a folder": os.Mkdir(at, 0o755),
			"a link": os.Symlink("x", at), "a hard link": os.Link(dir+"/mnt/file", at),
			"renamed": os.Rename(dir+"/mnt/file", at),
		} {
			if !errors.Is(err, unix.EPERM) {
				t.Errorf("%s, %s: %v, want EPERM", name, what, err)
			}
		}
	}
	if err := unix.Mknod(dir+"/mnt/null", unix.S_IFCHR|0o666, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("a device 0/0: %v, want EPERM", err)
	}
	if _, err := os.Stat(dir + "/mnt/.wh.x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a whiteout is seen: %v", err)
	}
}

// Whoever makes a file owns it; in a folder with the setgid bit, its group does.
func TestOwner(t *testing.T) {
	dir := show(t, "none", "lower/group/")
	must(t, os.Chown(dir+"/lower/group", 0, 50), os.Chmod(dir+"/lower/group", 0o777|os.ModeSetgid),
		os.Chmod(dir+"/lower", 0o777))
	must(t, os.Mkdir(dir+"/mnt/group/sub", 0o755))
	var st unix.Stat_t
	must(t, unix.Stat(dir+"/mnt/group/sub", &st))
	want(t, "a folder in it", fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid), "42755 0:50")
	must(t, os.WriteFile(dir+"/mnt/group/suid", nil, 0o600),
		os.Chmod(dir+"/mnt/group/suid", 0o755|os.ModeSetuid), unix.Stat(dir+"/mnt/group/suid", &st))
	want(t, "a file in it", fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid), "104755 0:50")
}

// Many at once make, rename and delete, in folders of both branches.
func TestParallel(t *testing.T) {
	dir := show(t, "none", "lower/d/0", "lower/d/1", "lower/d/2", "lower/d/3")
	var wait sync.WaitGroup
	errs := make(chan error, 8)
	for i := range 8 {
		wait.Go(func() {
			for j := range 50 {
				name := fmt.Sprintf("%s/mnt/d/%d-%d", dir, i, j)
				errs <- errors.Join(os.WriteFile(name, []byte(name), 0o644), os.Rename(name, name+"x"),
					os.MkdirAll(name+"/sub", 0o755), os.WriteFile(name+"/sub/x", nil, 0o644),
					os.RemoveAll(name), os.Remove(name+"x"))
				if i < 4 && j == 25 {
					errs <- os.Remove(fmt.Sprintf("%s/mnt/d/%d", dir, i))
				}
			}
		})
	}
	go func() { wait.Wait(); close(errs) }()
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	want(t, "what is left", names(t, dir+"/mnt/d"), "")
	want(t, "in the upper branch", names(t, dir+"/upper/d"), ".wh.0 .wh.1 .wh.2 .wh.3")
}

func TestParse(t *testing.T) {
	got, err := union.Parse("/a:/b:/c=rw:/d=ro+wh:/e/../f=rr")
	must(t, err)
	all := []union.Branch{{Path: "/a", Writable: true}, {Path: "/b"}, {Path: "/c", Writable: true},
		{Path: "/d"}, {Path: "/f"}}
	if !slices.Equal(got, all) {
		t.Errorf("got %v, want %v", got, all)
	}
	for _, wrong := range []string{"", "a:", "a=rx", "=rw"} {
		if got, err := union.Parse(wrong); err == nil {
			t.Errorf("%q was taken for %v", wrong, got)
		}
	}
}
