//go:build linux

// Package storagetest is what every storage driver must do, seen from outside: layers go in as
// archives, trees are looked at as a container would, changes come out.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"minidocker/final/fsmount"
	"minidocker/final/storage/driver"
)

// Open opens the driver in a folder, which it makes if it is not there.
type Open func(dir string) (driver.Driver, error)

// Suite is a driver to be tested.
type Suite struct {
	Open Open
	// Dir, if set, makes the folder that the driver gets.
	Dir func(t testing.TB) string
	// Many is how many layers are laid over each other, 130 unless it says.
	Many int
}

// Run runs the whole suite.
func (s Suite) Run(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"Apply", testApply},
		{"Apply on a parent", testLayers},
		{"Apply whiteouts", testWhiteouts},
		{"Apply whiteouts of AUFS", testAUFS},
		{"Apply all or nothing", testAllOrNothing},
		{"Apply hostile", testHostile},
		{"Create", testCreate},
		{"Create root", testRoot},
		{"Changes", testChanges},
		{"Changes of types", testTypes},
		{"Diff", testDiff},
		{"Mounts", testMounts},
		{"Errors", testErrors},
		{"Remove", testRemove},
		{"Usage", testUsage},
		{"Many layers", testMany},
		{"Side by side", testParallel},
		{"Killed", testKilled},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := s.Dir
			if folder == nil {
				folder = testing.TB.TempDir
			}
			b := &bench{T: t, dir: filepath.Join(folder(t), "driver"), open: s.Open, many: s.Many}
			b.reopen()
			t.Cleanup(func() { b.end() })
			test.run(t, b)
		})
	}
}

// bench is a driver in a folder of its own, with what the tests do with it.
type bench struct {
	*testing.T
	driver.Driver
	dir  string
	open Open
	many int
}

func (b *bench) reopen() {
	b.Helper()
	if b.Driver != nil {
		if err := b.Close(); err != nil {
			b.Fatal(err)
		}
	}
	var err error
	if b.Driver, err = b.open(b.dir); err != nil {
		b.Fatalf("open: %v", err)
	}
}

// end sees that all layers can be deleted, the upper ones first, and closes.
func (b *bench) end() {
	all, err := b.List()
	if err != nil {
		b.Error(err)
	}
	depths := map[string]int{"": 0}
	var depth func(id string) int
	depth = func(id string) int {
		if _, ok := depths[id]; !ok {
			parent, err := b.Parent(id)
			if err != nil {
				b.Error(err)
			}
			depths[id] = depth(parent) + 1
		}
		return depths[id]
	}
	slices.SortFunc(all, func(a, c string) int { return depth(c) - depth(a) })
	for _, id := range all {
		if err := errors.Join(b.Release(id), b.Remove(id)); err != nil {
			b.Errorf("remove %q: %v", id, err)
		}
	}
	if all, err = b.List(); err != nil || len(all) > 0 {
		b.Errorf("left when all is removed: %q, %v", all, err)
	}
	if err := b.Close(); err != nil {
		b.Errorf("close: %v", err)
	}
	b.noLeftovers()
}

// noLeftovers sees that nothing half made is in the driver's folder.
func (b *bench) noLeftovers() {
	b.Helper()
	entries, err := os.ReadDir(filepath.Join(b.dir, "tmp"))
	if err != nil || len(entries) > 0 {
		b.Errorf("left behind in tmp: %v, %v", entries, err)
	}
}

func (b *bench) apply(id, parent string, entries ...entry) int64 {
	b.Helper()
	n, err := b.Apply(context.Background(), id, parent, bytes.NewReader(layer(b, entries...)))
	if err != nil {
		b.Fatalf("apply %q: %v", id, err)
	}
	return n
}

func (b *bench) create(id, parent string) {
	b.Helper()
	if err := b.Create(id, parent, driver.Options{}); err != nil {
		b.Fatalf("create %q: %v", id, err)
	}
}

// with shows a layer, and calls f with its root and a path to it.
func (b *bench) with(id string, o driver.MountOptions, f func(root *os.File, path string)) {
	b.Helper()
	mounts, err := b.Mounts(id, o)
	if err != nil {
		b.Fatalf("mounts of %q: %v", id, err)
	}
	if len(mounts) != 1 {
		b.Fatalf("mounts of %q: %v, want one", id, mounts)
	}
	tree, err := fsmount.New(mounts[0].Type, mounts[0].Source, mounts[0].Options)
	if err != nil {
		b.Fatalf("mount %q: %v", id, err)
	}
	root, err := fsmount.Root(tree)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		root.Close()
		tree.Close()
		if err := b.Release(id); err != nil {
			b.Errorf("release %q: %v", id, err)
		}
	}()
	f(root, fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
}

// write shows a layer that can be written, without waiting for the disk.
func (b *bench) write(id string, f func(path string)) {
	b.Helper()
	b.with(id, driver.MountOptions{Volatile: true}, func(_ *os.File, path string) { f(path) })
}

func (b *bench) look(id string) []string {
	b.Helper()
	var lines []string
	b.with(id, driver.MountOptions{ReadOnly: true}, func(root *os.File, _ string) {
		lines = look(b, root)
	})
	return lines
}

func (b *bench) changes(id string) []string {
	b.Helper()
	all, err := b.Changes(id)
	if err != nil {
		b.Fatalf("changes of %q: %v", id, err)
	}
	var lines []string
	for _, c := range all {
		lines = append(lines, string(c.Kind)+" "+c.Path)
	}
	return lines
}

func (b *bench) diff(id string) []byte {
	b.Helper()
	r, err := b.Diff(id)
	if err != nil {
		b.Fatalf("diff of %q: %v", id, err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		b.Fatalf("diff of %q: %v", id, err)
	}
	return data
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
