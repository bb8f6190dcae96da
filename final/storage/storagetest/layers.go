//go:build linux

package storagetest

import (
	"archive/tar"
	"slices"
	"strings"
	"testing"
)

func testLayers(t *testing.T, b *bench) {
	b.apply("one", "", folder("a"), file("a/x", "1"), file("a/y", "1"), file("b", "1"), folder("c"),
		file("c/z", "1"))
	b.apply("two", "one", folder("a"), file("a/x", "22"), file("a/new", "2"), folder("b"),
		file("b/in", "2"), file("c", "2"))
	b.apply("other", "one", folder("a"), file("a/x", "3"))
	same(t, "the first", short(b.look("one")),
		[]string{"/a/", `/a/x "1"`, `/a/y "1"`, `/b "1"`, "/c/", `/c/z "1"`})
	same(t, "the second", short(b.look("two")),
		[]string{"/a/", `/a/new "2"`, `/a/x "22"`, `/a/y "1"`, "/b/", `/b/in "2"`, `/c "2"`})
	same(t, "another on the first", short(b.look("other")),
		[]string{"/a/", `/a/x "3"`, `/a/y "1"`, `/b "1"`, "/c/", `/c/z "1"`})
	same(t, "its changes", b.changes("two"),
		[]string{"C /a", "A /a/new", "C /a/x", "C /b", "A /b/in", "C /c"})
	if parent, err := b.Parent("two"); parent != "one" || err != nil {
		t.Errorf("parent: %q, %v", parent, err)
	}
	all, err := b.List()
	slices.Sort(all)
	if !slices.Equal(all, []string{"one", "other", "two"}) || err != nil {
		t.Errorf("list: %q, %v", all, err)
	}
}

func testWhiteouts(t *testing.T, b *bench) {
	b.apply("base", "",
		folder("dir"), file("dir/a", "1"), file("dir/b", "1"), folder("dir/sub"), file("dir/sub/c", "1"),
		folder("keep"), file("keep/a", "1"), file("file", "1"), file("file2", "1"),
		folder("opq"), file("opq/old", "1"), folder("opq/sub"), file("opq/sub/old", "1"),
		folder("late"), file("late/old", "1"), folder("again"), file("again/old", "1"))
	b.apply("hides", "base",
		folder("dir"), whiteout("dir/a"), whiteout("dir/sub"), whiteout("file"), whiteout("not-there"),
		folder("opq"), opaque("opq"), file("opq/new", "2"), folder("opq/sub"), file("opq/sub/new", "2"),
		// The marker may come after what it must not hide.
		folder("late"), file("late/new", "2"), opaque("late"),
		// A folder that was deleted and made again does not have what was in it.
		whiteout("again"), folder("again"), file("again/new", "2"),
		// A whiteout is about lower layers, whatever the order.
		file("file2", "2"), whiteout("file2"))
	want := []string{"/again/", `/again/new "2"`, "/dir/", `/dir/b "1"`, `/file2 "2"`, "/keep/",
		`/keep/a "1"`, "/late/", `/late/new "2"`, "/opq/", `/opq/new "2"`, "/opq/sub/",
		`/opq/sub/new "2"`}
	same(t, "with whiteouts", short(b.look("hides")), want)
	same(t, "the changes", b.changes("hides"), []string{
		"C /again", "A /again/new", "D /again/old", "C /dir", "D /dir/a", "D /dir/sub", "D /file",
		"C /file2", "C /late", "A /late/new", "D /late/old", "C /opq", "A /opq/new", "D /opq/old",
		"C /opq/sub", "A /opq/sub/new", "D /opq/sub/old"})
	// They come back in a further layer.
	b.apply("back", "hides", file("file", "3"), folder("dir/sub"), file("dir/sub/d", "3"))
	same(t, "made again", short(b.look("back"))[:8], []string{"/again/", `/again/new "2"`, "/dir/",
		`/dir/b "1"`, "/dir/sub/", `/dir/sub/d "3"`, `/file "3"`, `/file2 "2"`})
	// The whole of what is below.
	b.apply("all", "back", opaque("."), file("only", "4"))
	same(t, "opaque root", short(b.look("all")), []string{`/only "4"`})
	b.create("top", "all")
	same(t, "above an opaque root", short(b.look("top")), []string{`/only "4"`})
	// In overlayfs's own spelling, as some tools write it.
	b.apply("device", "base", entry{Name: "file", Kind: tar.TypeChar})
	if all := strings.Join(short(b.look("device")), " "); strings.Contains(all, "/file ") {
		t.Errorf("a device 0/0 does not hide: %s", all)
	}
}

func testAUFS(t *testing.T, b *bench) {
	b.apply("base", "",
		folder(".wh..wh.plnk"), file(".wh..wh.plnk/12.34", "linked"), file(".wh..wh.aufs", ""),
		folder(".wh..wh.orph"), link("a", ".wh..wh.plnk/12.34"), link("b", ".wh..wh.plnk/12.34"),
		file("c", "1"))
	same(t, "AUFS's own names", short(b.look("base")),
		[]string{`/a "linked"`, `/b "linked" = /a`, `/c "1"`})
}
