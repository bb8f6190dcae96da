//go:build linux

package devicemapper_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/storage/devicemapper"
	"minidocker/final/storage/driver"
	"minidocker/final/storage/storagetest"
)

func open(dir string) (driver.Driver, error) { return devicemapper.Open(dir) }

func TestMain(m *testing.M) { storagetest.Main(m, open) }

// needed says that this machine cannot show it, if so.
func needed(t *testing.T) {
	t.Helper()
	if err := devicemapper.Works(t.TempDir()); err != nil {
		t.Skipf("%v: make vm-test runs this test", err)
	}
	before := devices(t)
	t.Cleanup(func() {
		// What is closed last goes at once, but for what udev looks at.
		var now string
		for range 500 {
			if now = devices(t); now == before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("devices before: %s\nand now: %s", before, now)
	})
}

// devices are those of device-mapper, and the loop devices that have a file.
func devices(t *testing.T) string {
	t.Helper()
	mapped, err := filepath.Glob("/sys/block/dm-*")
	must(t, err)
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	return strings.Join(append(mapped, loops...), " ")
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestDriver(t *testing.T) {
	needed(t)
	storagetest.Suite{Open: open, Many: 20}.Run(t)
}

// with calls f with a path to a layer's files.
func with(t *testing.T, d driver.Driver, id string, f func(path string)) {
	t.Helper()
	mounts, err := d.Mounts(id, driver.MountOptions{})
	must(t, err)
	at := t.TempDir()
	must(t, fsmount.Mount(mounts[0].Type, mounts[0].Source, at, mounts[0].Options))
	f(at)
	must(t, unix.Unmount(at, 0), d.Release(id))
}

// A volume, a snapshot of it and a snapshot of that: what is written to one is in it alone, and
// takes what was written.
func TestSnapshots(t *testing.T) {
	needed(t)
	dir := t.TempDir()
	d, err := devicemapper.Open(dir)
	must(t, err)
	write := func(id, name, text string) {
		with(t, d, id, func(path string) {
			f, err := os.OpenFile(path+"/"+name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
			must(t, err)
			_, err = f.WriteString(text)
			must(t, err, f.Close())
		})
	}
	read := func(id, want string) {
		t.Helper()
		with(t, d, id, func(path string) {
			all, err := os.ReadDir(path)
			must(t, err)
			got := ""
			for _, e := range all {
				data, err := os.ReadFile(path + "/" + e.Name())
				must(t, err)
				got += e.Name() + ": " + string(data) + "\n"
			}
			if got != want {
				t.Errorf("%s has\n%s, want\n%s", id, got, want)
			}
		})
	}
	must(t, d.Create("base", "", driver.Options{}))
	write("base", "id.txt", "I am a base")
	must(t, d.Create("snap1", "base", driver.Options{}))
	write("snap1", "id.txt", ", and I am snap1")
	write("snap1", "snap1.txt", "new")
	must(t, d.Create("snap2", "snap1", driver.Options{}))
	write("snap2", "snap2.txt", "newer")
	read("base", "id.txt: I am a base\n")
	read("snap1", "id.txt: I am a base, and I am snap1\nsnap1.txt: new\n")
	read("snap2", "id.txt: I am a base, and I am snap1\nsnap1.txt: new\nsnap2.txt: newer\n")

	var st unix.Stat_t
	must(t, unix.Stat(dir+"/data", &st))
	if st.Size < 100<<30 || st.Blocks*512 > 64<<20 {
		t.Errorf("the pool's file has %d bytes, of which %d are on the disk", st.Size, st.Blocks*512)
	}
	// A snapshot of what is mounted has all that was written.
	with(t, d, "base", func(path string) {
		must(t, os.WriteFile(path+"/late", []byte("x"), 0o644), d.Create("snap3", "base", driver.Options{}))
	})
	read("snap3", "id.txt: I am a base\nlate: x\n")
	// What is mounted is not deleted, and stays when the driver is closed.
	mounts, err := d.Mounts("snap1", driver.MountOptions{})
	must(t, err)
	at := t.TempDir()
	must(t, fsmount.Mount(mounts[0].Type, mounts[0].Source, at, mounts[0].Options))
	if err := d.Remove("snap1"); !errors.Is(err, unix.EBUSY) || !d.Exists("snap1") {
		t.Errorf("remove what is mounted: %v", err)
	}
	must(t, d.Release("snap1"), d.Close())
	_, err = os.ReadFile(at + "/snap1.txt")
	must(t, err, unix.Unmount(at, 0))
	d, err = devicemapper.Open(dir)
	must(t, err)
	for _, id := range []string{"snap1", "snap2", "snap3", "base"} {
		must(t, d.Remove(id))
	}
	must(t, d.Close())
}
