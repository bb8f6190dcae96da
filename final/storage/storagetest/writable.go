//go:build linux

package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/driver"
)

func testCreate(t *testing.T, b *bench) {
	b.apply("base", "", folder("etc"), file("etc/hosts", "old"), file("etc/keep", "old"))
	b.create("one", "base")
	b.create("two", "base")
	same(t, "a new layer", b.look("one"), b.look("base"))
	same(t, "changes of a new layer", b.changes("one"), nil)
	b.write("one", func(path string) {
		must(t, os.WriteFile(path+"/etc/hosts", []byte("new"), 0o644),
			os.WriteFile(path+"/file", []byte("mine"), 0o600), os.Remove(path+"/etc/keep"))
	})
	same(t, "a layer that was written", short(b.look("one")),
		[]string{"/etc/", `/etc/hosts "new"`, `/file "mine"`})
	same(t, "another layer", b.look("two"), b.look("base"))
	same(t, "changes", b.changes("one"), []string{"C /etc", "C /etc/hosts", "D /etc/keep", "A /file"})
	b.reopen()
	same(t, "after it is opened anew", short(b.look("one")),
		[]string{"/etc/", `/etc/hosts "new"`, `/file "mine"`})
	// A writable layer may be the parent of another: what the engine puts below a container.
	b.create("on-one", "one")
	same(t, "on a writable layer", b.look("on-one"), b.look("one"))
	b.create("empty", "")
	b.write("empty", func(path string) { must(t, os.WriteFile(path+"/a", nil, 0o644)) })
	same(t, "on nothing", b.changes("empty"), []string{"A /a"})
}

func testRoot(t *testing.T, b *bench) {
	root := func(id string) string {
		var st unix.Stat_t
		b.with(id, driver.MountOptions{ReadOnly: true}, func(f *os.File, _ string) {
			must(t, unix.Fstat(int(f.Fd()), &st))
		})
		return fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	}
	b.apply("plain", "", file("a", ""))
	b.create("on-plain", "plain")
	b.apply("own", "plain", entry{Name: "./", Mode: 0o1777, UID: 5, GID: 6})
	b.apply("silent", "own", file("b", ""))
	b.create("on-silent", "silent")
	for _, want := range [][2]string{
		{"on-plain", "40755 0:0"}, {"own", "41777 5:6"}, {"on-silent", "41777 5:6"},
	} {
		if got := root(want[0]); got != want[1] {
			t.Errorf("root of %q: %s, want %s", want[0], got, want[1])
		}
	}
	b.write("on-silent", func(path string) { must(t, os.Chmod(path, 0o700)) })
	b.create("further", "on-silent")
	if got := root("further"); got != "40700 5:6" {
		t.Errorf("root on a changed root: %s", got)
	}
}

func testMounts(t *testing.T, b *bench) {
	b.apply("base", "", file("a", "1"))
	b.create("c", "base")
	for _, id := range []string{"base", "c"} {
		b.with(id, driver.MountOptions{ReadOnly: true}, func(_ *os.File, path string) {
			if err := os.WriteFile(path+"/b", nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("write to %q, mounted read-only: %v", id, err)
			}
		})
	}
	// A read-only layer is read-only, whoever asks.
	b.with("base", driver.MountOptions{}, func(_ *os.File, path string) {
		if err := os.WriteFile(path+"/b", nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write to a layer of an image: %v", err)
		}
	})
	for i := range 3 { // volatile and not, again and again
		b.with("c", driver.MountOptions{Volatile: i%2 == 0}, func(_ *os.File, path string) {
			must(t, os.WriteFile(fmt.Sprintf("%s/%d", path, i), []byte("x"), 0o644))
		})
	}
	b.write("c", func(path string) { // what is mounted does not go with it
		must(t, b.Release("c"), os.WriteFile(path+"/2", []byte("released"), 0o644))
	})
	same(t, "after some mounts", b.changes("c"), []string{"A /0", "A /1", "A /2"})
	must(t, b.Release("c"), b.Release("c"))
	meta, err := b.Metadata("c")
	if err != nil || len(meta) == 0 {
		t.Errorf("metadata: %v, %v", meta, err)
	}
}

func testErrors(t *testing.T, b *bench) {
	b.apply("base", "", file("a", "1"))
	b.create("c", "base")
	ctx := context.Background()
	empty := func() io.Reader { return bytes.NewReader(layer(t)) }
	for _, err := range []error{
		second(b.Apply(ctx, "base", "", empty())), b.Create("base", "", driver.Options{}),
		b.Create("c", "base", driver.Options{}), second(b.Apply(ctx, "c", "", empty())),
	} {
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("make a layer again: %v, want ErrExist", err)
		}
	}
	missing := []error{
		b.Create("d", "none", driver.Options{}), second(b.Mounts("none", driver.MountOptions{})),
		second(b.Changes("none")), second(b.Diff("none")), second(b.Usage("none")),
		second(b.Metadata("none")), second(b.Parent("none")),
	}
	if !b.Independent() {
		missing = append(missing, second(b.Apply(ctx, "d", "none", empty())))
	}
	for i, err := range missing {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d: of a layer that is not there: %v, want ErrNotExist", i, err)
		}
	}
	if b.Exists("none") || b.Exists("d") || !b.Exists("c") {
		t.Error("exists is wrong")
	}
	must(t, b.Remove("none"), b.Release("none"))
	long := strings.Repeat("x", 200)
	for _, id := range []string{"", ".", "..", "../base", "a/b", "a\x00", long, ".x"} {
		if b.Create(id, "", driver.Options{}) == nil || b.Remove(id) == nil || b.Exists(id) ||
			second(b.Apply(ctx, id, "", empty())) == nil ||
			second(b.Mounts(id, driver.MountOptions{})) == nil {
			t.Errorf("%q was taken for an id", id)
		}
	}
	for _, parent := range []string{"..", "a/b"} {
		if second(b.Apply(ctx, "e", parent, empty())) == nil {
			t.Errorf("%q was taken for a parent", parent)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func testRemove(t *testing.T, b *bench) {
	b.create("c", "")
	b.write("c", func(path string) {
		dir, err := os.Open(path)
		must(t, err)
		defer dir.Close()
		// Deeper than a path can be long, and than there are descriptors.
		fd := int(dir.Fd())
		for i := range 1500 {
			must(t, unix.Mkdirat(fd, "deep", 0o755))
			next, err := unix.Openat(fd, "deep", unix.O_PATH|unix.O_CLOEXEC, 0)
			must(t, err)
			if i > 0 {
				unix.Close(fd)
			}
			fd = next
		}
		unix.Close(fd)
		must(t, os.WriteFile(path+"/.deep-1", nil, 0o644))
		must(t, os.MkdirAll(path+"/a/b", 0o755), os.Chmod(path+"/a/b", 0), os.Chmod(path+"/a", 0))
	})
	must(t, b.Remove("c"))
	if b.Exists("c") {
		t.Error("it is there after it was removed")
	}
	b.create("c", "")
	same(t, "made anew", b.look("c"), nil)
}

func testUsage(t *testing.T, b *bench) {
	b.apply("base", "", folder("a"), file("a/x", strings.Repeat("x", 100_000)))
	b.create("c", "base")
	u, err := b.Usage("base")
	if err != nil || u.Bytes != 100_000 || u.Inodes != 2 {
		t.Errorf("usage of a layer with a file of 100000 bytes: %+v, %v", u, err)
	}
	if u, err = b.Usage("c"); err != nil || u.Bytes != 0 || u.Inodes != 0 {
		t.Errorf("usage of a new layer: %+v, %v", u, err)
	}
	b.write("c", func(path string) {
		must(t, os.WriteFile(path+"/a/new", make([]byte, 5000), 0o644), os.Link(path+"/a/new", path+"/b"))
	})
	if u, err = b.Usage("c"); err != nil || u.Bytes != 5000 || u.Inodes != 2 {
		t.Errorf("usage with a new file of two names in a folder: %+v, %v", u, err)
	}
}

func testMany(t *testing.T, b *bench) {
	n := b.many
	if n == 0 {
		n = 130
	}
	parent := ""
	for i := range n {
		id := fmt.Sprintf("layer-%03d-%050d", i, i)
		b.apply(id, parent, file("last", fmt.Sprint(i)), file(fmt.Sprintf("of/%d", i), ""))
		parent = id
	}
	b.create("c", parent)
	b.with("c", driver.MountOptions{}, func(_ *os.File, path string) {
		data, err := os.ReadFile(path + "/last")
		if err != nil || string(data) != fmt.Sprint(n-1) {
			t.Errorf("the uppermost of %d layers: %q, %v", n, data, err)
		}
		names, err := os.ReadDir(path + "/of")
		if err != nil || len(names) != n {
			t.Errorf("%d files of %d layers, %v", len(names), n, err)
		}
	})
}

func testParallel(t *testing.T, b *bench) {
	b.apply("base", "", file("a", "1"))
	other, err := b.open(b.dir)
	must(t, err)
	defer func() { must(t, other.Close()) }()
	done := make(chan error)
	for i := range 8 {
		go func() {
			d := b.Driver
			if i%2 == 1 {
				d = other
			}
			data := layer(t, file("x", strings.Repeat("x", 300_000)))
			_, err := d.Apply(context.Background(), fmt.Sprint("layer", i/2), "base", bytes.NewReader(data))
			if errors.Is(err, fs.ErrExist) {
				err = nil // two at once: one of them
			}
			err = errors.Join(err, d.Create(fmt.Sprint("c", i), "base", driver.Options{}))
			done <- errors.Join(err, d.Remove(fmt.Sprint("c", i)))
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	all, err := b.List()
	slices.Sort(all)
	if err != nil || !slices.Equal(all, []string{"base", "layer0", "layer1", "layer2", "layer3"}) {
		t.Errorf("list: %q, %v", all, err)
	}
	b.noLeftovers()
}
