//go:build linux

// Package fuse is the storage driver that needs no union of the kernel's: one in user space, with
// AUFS's names, which the kernel asks through FUSE. A process serves each mount, and ends with it:
// see package union. It is not linked into this one, for the library that speaks FUSE is large,
// and a command starts faster without.
//
//	layers/ID/diff        the files of a layer; .wh.NAME hides what lower layers have
//
// See fuse(4), Documentation/filesystems/fuse/.
package fuse

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/storage/archive"
	"minidocker/final/storage/driver"
	"minidocker/final/storage/stacked"
)

// Fuse is the driver.
type Fuse struct {
	stacked.Layers
	servers
}

// Open opens the folder of the driver, and makes it if it is not there. server is the command that
// serves a union; without one it is the program minidockerd beside this one.
func Open(dir string, server ...string) (*Fuse, error) {
	store, err := driver.OpenStore(dir, nil)
	if err != nil {
		return nil, err
	}
	f := &Fuse{servers: servers{command: server}}
	f.Layers = stacked.Layers{
		Store: store, Name: f.Name(),
		Unpack: archive.UnpackOptions{Whiteouts: archive.WhiteoutsAUFS},
	}
	return f, nil
}

// Works says why the driver does not work, or nil: it mounts a union of one folder.
func Works(dir string, server ...string) error {
	s := &servers{command: server}
	defer s.Close() //nolint:errcheck // nothing was written
	tree, err := s.mount(options{Branches: []branch{{Path: dir}}}, driver.MountOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	return tree.Close()
}

// Show mounts a union at a folder; it is a union.Options. It is there until it is unmounted.
func Show(union any, at string, server ...string) error {
	s := &servers{command: server}
	defer s.Close() //nolint:errcheck // nothing was written
	tree, err := s.mount(union, driver.MountOptions{})
	if err != nil {
		return err
	}
	defer tree.Close()
	target, err := os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	return fsmount.Attach(tree, target)
}

// mount mounts a union nowhere, and waits until it is served.
func (s *servers) mount(union any, o driver.MountOptions) (*os.File, error) {
	mount, server, err := s.start(union, o)
	if err != nil {
		return nil, err
	}
	tree, err := fsmount.New(mount.Type, mount.Source, mount.Options)
	if err != nil {
		return nil, err
	}
	<-server.answered
	if server.answer != "mounted" {
		tree.Close()
		return nil, fmt.Errorf("the server of the union: %s", server.answer)
	}
	return tree, nil
}

// Name is "fuse".
func (f *Fuse) Name() string { return "fuse" }

// Status is what info prints.
func (f *Fuse) Status() [][2]string {
	return [][2]string{{"Server", strings.Join(f.commandLine(), " ")}, {"Whiteouts", "AUFS's, .wh.*"}}
}

// Mounts is one mount of FUSE. A process is there to serve it, until it is mounted no more; or
// until this one closes the driver, if it has not mounted it. The mount names a descriptor of this
// process and is to be made by it.
func (f *Fuse) Mounts(id string, o driver.MountOptions) ([]driver.Mount, error) {
	o.ReadOnly = o.ReadOnly || !f.Writable(id)
	branches, err := f.branches(id, !o.ReadOnly)
	if err != nil {
		return nil, err
	}
	mount, _, err := f.start(options{Branches: branches, UDBA: "none"}, o)
	return []driver.Mount{mount}, err
}

// branches are a layer's folder and those below.
func (f *Fuse) branches(id string, writable bool) ([]branch, error) {
	chain, err := f.Chain(id)
	if err != nil {
		return nil, err
	}
	branches := []branch{{Path: f.Path(id, "diff"), Writable: writable}}
	for _, below := range chain {
		branches = append(branches, branch{Path: f.Path(below, "diff")})
	}
	for _, b := range branches {
		if _, err := os.Lstat(b.Path); err != nil {
			return nil, fmt.Errorf("layer %q, or one below: %w", id, err)
		}
	}
	return branches, nil
}

// Release has nothing to do: the server ends when the last mount is gone.
func (f *Fuse) Release(string) error { return nil }

// Changes are what is in the layer's folder, beside what is below.
func (f *Fuse) Changes(id string) ([]driver.Change, error) {
	upper, err := os.Open(f.Path(id, "diff"))
	if err != nil {
		return nil, errors.Join(f.Check(id), err)
	}
	defer upper.Close()
	parent, err := f.Parent(id)
	if err != nil {
		return nil, err
	}
	if parent == "" {
		return archive.UnionChanges(upper, nil)
	}
	branches, err := f.branches(parent, false)
	if err != nil {
		return nil, err
	}
	mount, err := f.mount(options{branches, "none"}, driver.MountOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	lower, err := fsmount.Root(mount)
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	return archive.UnionChanges(upper, lower)
}

// Diff is the layer's folder as an archive.
func (f *Fuse) Diff(id string) (io.ReadCloser, error) {
	changes, err := f.Changes(id)
	if err != nil {
		return nil, err
	}
	return f.Pack(id, changes)
}

// Metadata is where the files are.
func (f *Fuse) Metadata(id string) (map[string]string, error) {
	chain, err := f.Chain(id)
	if err != nil {
		return nil, err
	}
	branches := []string{f.Path(id, "diff") + "=rw"}
	for _, below := range chain {
		branches = append(branches, f.Path(below, "diff")+"=ro")
	}
	return map[string]string{"Branches": strings.Join(branches, ":")}, nil
}
