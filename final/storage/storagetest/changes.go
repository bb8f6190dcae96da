//go:build linux

package storagetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testChanges(t *testing.T, b *bench) {
	b.apply("base", "",
		folder("a"), file("a/chmod", "x"), file("a/chown", "x"), file("a/touch", "x"),
		file("a/data", "x"), file("a/same-size-and-time", "x"), file("a/xattr", "x"),
		file("a/move", "x"), file("a/untouched", "x"),
		folder("empty"), folder("mode"), folder("gone"), file("gone/x", "x"), folder("gone/y"),
		folder("new-in"), folder("new-in/sub"), folder("untouched"), file("untouched/f", "x"),
		folder("temporary"), symlink("link", "a"), file("l1", "x"), link("l2", "l1"),
		folder("again"), file("again/x", "x"), file("again/y", "x"))
	b.create("c", "base")
	b.write("c", func(path string) {
		at := func(name string) string { return filepath.Join(path, name) }
		must(t, os.Chmod(at("a/chmod"), 0o600), os.Chown(at("a/chown"), 5, 5),
			os.Chtimes(at("a/touch"), stamp, stamp.Add(time.Second)),
			os.WriteFile(at("a/data"), []byte("other"), 0o644),
			os.WriteFile(at("a/same-size-and-time"), []byte("y"), 0o644),
			os.Chtimes(at("a/same-size-and-time"), stamp, stamp),
			unix.Setxattr(at("a/xattr"), "user.x", []byte("1"), 0),
			os.Rename(at("a/move"), at("a/moved")), os.Chmod(at("mode"), 0o700),
			os.RemoveAll(at("gone")), os.MkdirAll(at("new-in/sub/d/e"), 0o755),
			os.Remove(at("link")), os.Symlink("elsewhere", at("link")),
			os.WriteFile(at("temporary/x"), nil, 0o644), os.Remove(at("temporary/x")),
			os.RemoveAll(at("again")), os.Mkdir(at("again"), 0o755),
			os.WriteFile(at("again/y"), []byte("z"), 0o644))
	})
	same(t, "changes", b.changes("c"), []string{
		"C /a", "C /a/chmod", "C /a/chown", "C /a/data", "D /a/move", "A /a/moved",
		"C /a/same-size-and-time", "C /a/touch", "C /a/xattr", "C /again", "D /again/x", "C /again/y",
		"D /gone", "C /link", "C /mode", "C /new-in", "C /new-in/sub", "A /new-in/sub/d",
		"A /new-in/sub/d/e",
	})
}

// makeNull makes a device node, that of /dev/null.
func makeNull(path string) error {
	return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3)))
}

func testTypes(t *testing.T, b *bench) {
	kinds := map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, []byte("f"), 0o644) },
		"folder": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o755), os.WriteFile(path+"/in", nil, 0o644))
		},
		"link":   func(path string) error { return os.Symlink("/nowhere", path) },
		"fifo":   func(path string) error { return unix.Mkfifo(path, 0o644) },
		"device": makeNull,
	}
	b.create("base", "")
	b.write("base", func(path string) {
		for from, fill := range kinds {
			for to := range kinds {
				must(t, fill(filepath.Join(path, from+"-"+to)))
			}
		}
	})
	b.create("c", "base")
	var want []string
	b.write("c", func(path string) {
		for from := range kinds {
			for to, fill := range kinds {
				at := filepath.Join(path, from+"-"+to)
				if from != to {
					must(t, os.RemoveAll(at), fill(at))
					want = append(want, "C /"+from+"-"+to)
					if to == "folder" {
						want = append(want, "A /"+from+"-"+to+"/in")
					}
				}
			}
		}
	})
	byPath := func(a, b string) int { return strings.Compare(a[2:], b[2:]) }
	slices.SortFunc(want, byPath)
	same(t, "changes of types", b.changes("c"), want)
	after := b.look("c")
	b.again("c", "base", after)
}

// again applies what a layer differs by to its parent anew, and wants the same tree; times are
// whole seconds in a layer.
func (b *bench) again(id, parent string, want []string) {
	b.Helper()
	diff := b.diff(id)
	if !bytes.Equal(diff, b.diff(id)) {
		b.Error("two archives of the same layer differ")
	}
	copied := id + "-again"
	if _, err := b.Apply(context.Background(), copied, parent, bytes.NewReader(diff)); err != nil {
		b.Fatalf("apply the diff of %q: %v", id, err)
	}
	same(b, "the diff applied to the parent", seconds(b.look(copied)), seconds(want))
	same(b, "its changes", b.changes(copied), b.changes(id))
}

// seconds cuts the times.
func seconds(lines []string) []string {
	var all []string
	for _, line := range lines {
		words := strings.Split(line, " ")
		for i, word := range words {
			if s, n, ok := strings.Cut(word, "."); ok && len(n) == 9 && i > 1 {
				words[i] = s
			}
		}
		all = append(all, strings.Join(words, " "))
	}
	return all
}

func testDiff(t *testing.T, b *bench) {
	b.apply("base", "", folder("a"), file("a/x", "1"), file("a/y", "1"), file("gone", "1"),
		folder("old"), file("old/x", "1"), folder("again"), file("again/x", "1"), folder("full"))
	b.create("c", "base")
	b.write("c", func(path string) {
		at := func(name string) string { return filepath.Join(path, name) }
		must(t, os.WriteFile(at("a/x"), []byte("2"), 0o600), os.Remove(at("gone")),
			os.RemoveAll(at("old")), os.RemoveAll(at("again")), os.Mkdir(at("again"), 0o700),
			os.WriteFile(at("again/new"), nil, 0o644),
			os.WriteFile(at("l1"), []byte("linked"), 0o644), os.Link(at("l1"), at("a/l2")),
			os.Link(at("l1"), at("l3")),
			os.WriteFile(at("cap"), []byte("elf"), 0o755), os.Chown(at("cap"), 3, 4),
			unix.Setxattr(at("cap"), "security.capability", []byte(capability), 0),
			unix.Setxattr(at("full"), "user.note", []byte("n"), 0),
			makeNull(at("null")), unix.Mkfifo(at("fifo"), 0o600),
			os.Symlink("a", at("link")), os.WriteFile(at("suid"), nil, 0o755),
			os.Chmod(at("suid"), 0o755|fs.ModeSetuid), os.Truncate(at("suid"), 10_000_000))
		socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		must(t, err, os.Mkdir(at("s"), 0o755))
		must(t, unix.Bind(socket, &unix.SockaddrUnix{Name: at("s/ock")}), unix.Close(socket))
	})
	want := slices.DeleteFunc(b.look("c"), func(line string) bool {
		return strings.HasPrefix(line, "/s/ock") // tar has no sockets
	})
	diff := b.diff("c")
	var names []string
	r := tar.NewReader(bytes.NewReader(diff))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		names = append(names, h.Name)
	}
	same(t, "the archive's names", names, []string{"a/", "a/l2", "a/x", "again/", "again/new",
		"again/.wh.x", "cap", "fifo", "full/", ".wh.gone", "l1", "l3", "link", "null", ".wh.old",
		"s/", "suid"})
	copied := "again"
	_, err := b.Apply(context.Background(), copied, "base", bytes.NewReader(diff))
	must(t, err)
	same(t, "the diff applied", seconds(b.look(copied)), seconds(want))
	if !bytes.Equal(diff, b.diff("c")) {
		t.Error("two archives of the same layer differ")
	}
	// Whoever stops reading gets his goroutine back.
	before := runtime.NumGoroutine()
	reader, err := b.Diff("c")
	must(t, err)
	_, err = reader.Read(make([]byte, 10))
	must(t, err, reader.Close())
	for i := 0; runtime.NumGoroutine() > before && i < 100; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines after Close, %d before", n, before)
	}
}
