//go:build linux

// Package vfs is the storage driver that needs nothing of the kernel: a layer is a folder with a
// full copy of its parent's, changed. It is slow and takes much room (less on btrfs and XFS,
// where copies share their blocks), and what it shows is always right: the others are measured
// against it.
//
//	layers/ID/diff        the files
package vfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"minidocker/final/storage/driver"
	"minidocker/final/storage/tree"
	"minidocker/final/storage/whole"
)

// VFS is the driver.
type VFS struct {
	whole.Layers
}

// Open opens the folder of the driver, and makes it if it is not there.
func Open(dir string) (*VFS, error) {
	store, err := driver.OpenStore(dir, nil)
	return &VFS{whole.Layers{Store: store, Trees: trees{}}}, err
}

// Name is "vfs".
func (v *VFS) Name() string { return "vfs" }

// Status has nothing to say.
func (v *VFS) Status() [][2]string { return nil }

// Close has nothing to do.
func (v *VFS) Close() error { return nil }

type trees struct{}

// Begin copies the files.
func (trees) Begin(path, parent string, o driver.Options) error {
	if o.Size != 0 {
		return fmt.Errorf("the driver vfs cannot hold a layer to a size: %w", errors.ErrUnsupported)
	}
	to := filepath.Join(path, "diff")
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	root, err := os.Open(to)
	if err != nil {
		return err
	}
	defer root.Close()
	if parent == "" {
		return root.Chmod(0o755)
	}
	from, err := os.Open(filepath.Join(parent, "diff"))
	if err != nil {
		return err
	}
	defer from.Close()
	return tree.Copy(from, root)
}

// Show opens the folder.
func (trees) Show(path string) (*os.File, func() error, error) {
	root, err := os.Open(filepath.Join(path, "diff"))
	return root, root.Close, err
}

// Seal has nothing to do.
func (trees) Seal(string) error { return nil }

// Mounts is a bind mount of the folder.
func (v *VFS) Mounts(id string, o driver.MountOptions) ([]driver.Mount, error) {
	if err := v.Check(id); err != nil {
		return nil, err
	}
	options := []string{"bind", "rw"}
	if o.ReadOnly || v.ReadOnly(id) {
		options[1] = "ro"
	}
	return []driver.Mount{{Type: "bind", Source: v.Path(id, "diff"), Options: options}}, nil
}

// Release has nothing to do.
func (v *VFS) Release(string) error { return nil }

// Metadata is where the files are.
func (v *VFS) Metadata(id string) (map[string]string, error) {
	if err := v.Check(id); err != nil {
		return nil, err
	}
	return map[string]string{"Dir": v.Path(id, "diff")}, nil
}
