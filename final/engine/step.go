//go:build linux

package engine

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/storage"
)

// Tree is something to be mounted in a container for as long as it runs: a mount that is attached
// nowhere, as fsmount.New makes it.
type Tree struct {
	Path     string // in the container
	File     *os.File
	ReadOnly bool
}

func closeTrees(trees []Tree) {
	for _, t := range trees {
		t.File.Close()
	}
}

// extraMounts are the trees as mounts of config.json; their sources come along.
func (s *starting) extraMounts() []specs.Mount {
	var all []specs.Mount
	for _, t := range s.extra {
		mode := "rw"
		if t.ReadOnly {
			mode = "ro"
		}
		all = append(all, bindMount(t.Path, t.Path, mode))
		if s.trees == nil {
			s.trees = map[string]*os.File{}
		}
		s.trees[t.Path] = t.File
	}
	return all
}

// atEnd calls f while a container that has ended is locked.
func (e *Engine) atEnd(id string, f func() error) error {
	lock, err := lockFolder(e.dir(id))
	if err != nil {
		return fmt.Errorf("container %s is gone: %w", id, err)
	}
	defer lock.Close()
	if !e.layers.Exists(id) {
		return fmt.Errorf("container %s was removed", id)
	}
	return f()
}

// LayerTree is a file or folder of a storage layer, with the layers below, as a mount: what links
// there are on the way lead to places in the layer. The layer must not be released while it is in
// use.
func (e *Engine) LayerTree(id, name string, readOnly bool) (*os.File, error) {
	mounts, err := e.layers.Mounts(id, storage.MountOptions{ReadOnly: readOnly, Volatile: !readOnly})
	if err != nil {
		return nil, err
	}
	var tree *os.File
	err = storage.With(mounts, func(root *os.File) error {
		tree, err = Subtree(root, name)
		return err
	})
	return tree, err
}

// Subtree is a file or folder of a mount that is attached nowhere, as a mount of its own.
func Subtree(root *os.File, name string) (*os.File, error) {
	var tree *os.File
	err := inMountNamespace(nil, root, func(placed *os.File) (err error) {
		tree, err = subtree(placed, name)
		return err
	})
	return tree, err
}

// subtree is a copy of the mount at a path in a root, which must be attached somewhere.
func subtree(root *os.File, name string) (*os.File, error) {
	at, err := openIn(root, name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	fd, err := unix.OpenTree(int(at.Fd()), "",
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// CollectImages deletes the layers and blobs that nobody needs.
func (e *Engine) CollectImages(context.Context) error {
	if err := e.open(); err != nil {
		return err
	}
	return e.images.Collect(e.removeOptions(false))
}
