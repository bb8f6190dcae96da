//go:build linux

package btrfs_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/btrfs"
	"minidocker/final/storage/driver"
	"minidocker/final/storage/storagetest"
)

func open(dir string) (driver.Driver, error) { return btrfs.Open(dir) }

func TestMain(m *testing.M) { storagetest.Main(m, open) }

// disk is a folder on a btrfs of its own.
func disk(t *testing.T) string { return storagetest.Disk(t, "btrfs", 2<<30) }

func TestDriver(t *testing.T) {
	at := disk(t)
	folder := func(t testing.TB) string {
		dir, err := os.MkdirTemp(at, "test-")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	storagetest.Suite{Open: open, Dir: folder}.Run(t)
}

func TestWorks(t *testing.T) {
	at := disk(t)
	if err := btrfs.Works(at); err != nil {
		t.Errorf("on btrfs: %v", err)
	}
	if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
		t.Errorf("trying left %v, %v", left, err)
	}
	if err := btrfs.Works("/proc"); err == nil || !strings.Contains(err.Error(), "not on btrfs") {
		t.Errorf("on proc: %v", err)
	}
}

// with gives a driver with a layer "base" that has a file of some size.
func with(t *testing.T, bytes int64) *btrfs.Btrfs {
	t.Helper()
	d, err := btrfs.Open(filepath.Join(disk(t), "driver"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Create("base", "", driver.Options{}); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, bytes)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	if err := os.WriteFile(d.Path("base", "diff", "big"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return d
}

func used(t *testing.T, dir string) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// A layer takes no room until something in it is written to, and then only what is written.
func TestSnapshot_Shares(t *testing.T) {
	d := with(t, 64<<20)
	before := used(t, d.Dir)
	for _, id := range []string{"a", "b", "c"} {
		if err := d.Create(id, "base", driver.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(d.Path("a", "diff", "big"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("changed"), 1<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if more := used(t, d.Dir) - before; more > 4<<20 {
		t.Errorf("three snapshots of 64 MiB and a write of 7 bytes took %d bytes", more)
	}
}

// A layer of an image can be written to by nobody, not even beneath the mounts.
func TestApply_Seals(t *testing.T) {
	d := with(t, 0)
	empty := strings.NewReader(strings.Repeat("\x00", 1024)) // an archive of nothing
	if _, err := d.Apply(t.Context(), "image", "base", empty); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(d.Path("image", "diff", "x"), nil, 0o644)
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a layer of an image: %v, want EROFS", err)
	}
}

func TestCreate_Size(t *testing.T) {
	d := with(t, 32<<20)
	const size = 16 << 20
	if err := d.Create("small", "base", driver.Options{Size: size}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(d.Path("small", "diff", "new"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := io.CopyN(f, zeros{}, 3*size)
	if err == nil {
		err = f.Sync()
	}
	if !errors.Is(err, unix.EDQUOT) || n > 2*size {
		t.Errorf("wrote %d bytes to a layer of %d: %v, want EDQUOT", n, size, err)
	}
	// What is below does not count, nor do others' layers.
	if err := d.Create("large", "base", driver.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path("large", "diff", "new"), make([]byte, 2*size), 0o644); err != nil {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// What is in subvolumes that a container has made goes with the layer; what is mounted stays.
func TestRemove(t *testing.T) {
	d := with(t, 0)
	if err := d.Create("c", "", driver.Options{}); err != nil {
		t.Fatal(err)
	}
	inner, err := btrfs.Open(d.Path("c", "diff", "inner"))
	if err != nil {
		t.Fatal(err)
	}
	if err := inner.Create("c", "", driver.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inner.Path("c", "diff", "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	volume := t.TempDir()
	if err := os.WriteFile(volume+"/kept", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	at := d.Path("c", "diff", "a mount")
	if err := errors.Join(os.Mkdir(at, 0o755), unix.Mount(volume, at, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove("c"); err == nil || !strings.Contains(err.Error(), "unmount it first") {
		t.Errorf("remove a layer with a mount in it: %v", err)
	}
	if _, err := os.Stat(volume + "/kept"); err != nil || !d.Exists("c") {
		t.Errorf("after that: %v, exists %v", err, d.Exists("c"))
	}
	if err := errors.Join(unix.Unmount(at, 0), d.Remove("c")); err != nil || d.Exists("c") {
		t.Errorf("remove it then: %v", err)
	}
}
