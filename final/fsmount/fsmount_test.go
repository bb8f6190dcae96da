package fsmount

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// layers makes n folders, each with a file of its own and one that they all have; the first is the
// uppermost.
func layers(t *testing.T, n int) []string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), `a,b:c\d`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("layer, with a long name: %03d", i))
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"all", fmt.Sprint(i)} {
			if err := os.WriteFile(filepath.Join(path, name), fmt.Append(nil, i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		paths = append(paths, path)
	}
	return paths
}

// see reads a file of a mount that is attached nowhere.
func see(t *testing.T, tree *os.File, name string) string {
	t.Helper()
	fd, err := unix.Openat(int(tree.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %q in the mount: %v", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	buf := make([]byte, 64)
	n, err := f.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func mounts(t *testing.T) string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(table)
}

func TestNew_OverlayOfManyLayers(t *testing.T) {
	for _, n := range []int{2, 200} {
		for _, way := range []string{"steps", "one string"} {
			t.Run(fmt.Sprintf("%d layers, %s", n, way), func(t *testing.T) {
				paths := layers(t, n)
				var names []string
				for _, path := range paths {
					names = append(names, Escape(path))
				}
				m, err := parse("overlay", "overlay", []string{"ro", "lowerdir=" + strings.Join(names, ":")})
				if err != nil {
					t.Fatal(err)
				}
				before := mounts(t)
				mount := m.inSteps
				if way == "one string" {
					mount = m.inOneString
				}
				tree, err := mount()
				if err != nil {
					t.Fatal(err)
				}
				defer tree.Close()
				if got := see(t, tree, "all"); got != "0" {
					t.Errorf("a file that all layers have says %q, want the uppermost layer's, 0", got)
				}
				if got := see(t, tree, fmt.Sprint(n-1)); got != fmt.Sprint(n-1) {
					t.Errorf("the lowest layer's file says %q", got)
				}
				if after := mounts(t); after != before {
					t.Errorf("the mount shows in this namespace:\n%s", after)
				}
			})
		}
	}
}

func TestMount_BindReadOnly(t *testing.T) {
	dir := layers(t, 1)[0]
	tree, err := New("bind", dir, []string{"ro", "nosuid"})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if got := see(t, tree, "all"); got != "0" {
		t.Errorf("got %q", got)
	}
	if err := unix.Mkdirat(int(tree.Fd()), "new", 0o755); err != unix.EROFS {
		t.Errorf("mkdir in a read-only mount: %v, want EROFS", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "new"), 0o755); err != nil {
		t.Errorf("the source itself is no longer writable: %v", err)
	}
}

func TestNew_SaysWhatTheKernelSays(t *testing.T) {
	_, err := New("tmpfs", "tmpfs", []string{"size=much"})
	if err == nil || !strings.Contains(err.Error(), "size") || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("got %v, want an error about size", err)
	}
}

func TestSplitLower(t *testing.T) {
	odd := []string{"/a:b,", `/c\d`, "/e"}
	var names []string
	for _, path := range odd {
		names = append(names, Escape(path))
	}
	got, err := splitLower(strings.Join(names, ":"))
	if err != nil || !slices.Equal(got, odd) {
		t.Errorf("got %q, %v, want %q", got, err, odd)
	}
}
