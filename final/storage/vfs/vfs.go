//go:build linux

// Package vfs is the storage driver that needs nothing of the kernel: a layer is a folder with a
// full copy of its parent's, changed. It is slow and takes much room (less on btrfs and XFS,
// where copies share their blocks), and what it shows is always right: the others are measured
// against it.
//
//	layers/ID/diff        the files
//	layers/ID/parents     the layer that it began as a copy of
package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/archive"
	"minidocker/final/storage/driver"
	"minidocker/final/storage/tree"
)

// VFS is the driver.
type VFS struct {
	*driver.Store
}

// Open opens the folder of the driver, and makes it if it is not there.
func Open(dir string) (*VFS, error) {
	store, err := driver.OpenStore(dir, nil)
	return &VFS{store}, err
}

// Name is "vfs".
func (v *VFS) Name() string { return "vfs" }

// Status has nothing to say.
func (v *VFS) Status() [][2]string { return nil }

// Close has nothing to do.
func (v *VFS) Close() error { return nil }

// Independent is false: a layer is its parent, changed.
func (v *VFS) Independent() bool { return false }

// Apply copies the parent and unpacks the layer over it.
func (v *VFS) Apply(ctx context.Context, id, parent string, layer io.Reader) (int64, error) {
	var done archive.Unpacked
	err := v.make(id, parent, func(d *driver.Draft, root *os.File) error {
		var err error
		done, err = archive.Unpack(ctx, root, layer,
			archive.UnpackOptions{Whiteouts: archive.WhiteoutsDelete})
		if err != nil {
			return err
		}
		return d.SetUsage(driver.Usage{Bytes: done.Bytes, Inodes: done.Entries})
	})
	return done.Bytes, err
}

// Create copies the parent.
func (v *VFS) Create(id, parent string, o driver.Options) error {
	if o.Size != 0 {
		return fmt.Errorf("the driver vfs cannot hold a layer to a size: %w", errors.ErrUnsupported)
	}
	return v.make(id, parent, func(*driver.Draft, *os.File) error { return nil })
}

// make makes a layer that is a copy of its parent's, and lets change change it.
func (v *VFS) make(id, parent string, change func(*driver.Draft, *os.File) error) error {
	if err := v.CheckNew(id, parent); err != nil {
		return err
	}
	draft, err := v.Draft()
	if err != nil {
		return err
	}
	err = v.fill(draft, parent, change)
	if err == nil {
		err = draft.Publish(id)
	}
	return errors.Join(err, draft.Discard())
}

func (v *VFS) fill(
	d *driver.Draft, parent string, change func(*driver.Draft, *os.File) error,
) error {
	if err := d.SetParents(parent); err != nil {
		return err
	}
	d.Spread()
	path := filepath.Join(d.Path, "diff")
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	root, err := os.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	if parent == "" {
		if err := root.Chmod(0o755); err != nil {
			return err
		}
	} else if err := v.copy(parent, root); err != nil {
		return err
	}
	// From now on, what has a later status change time has been touched.
	if err := os.WriteFile(filepath.Join(d.Path, "since"), nil, 0o600); err != nil {
		return err
	}
	return change(d, root)
}

func (v *VFS) copy(parent string, root *os.File) error {
	from, err := os.Open(v.Path(parent, "diff"))
	if err != nil {
		return err
	}
	defer from.Close()
	return tree.Copy(from, root)
}

// Mounts is a bind mount of the folder.
func (v *VFS) Mounts(id string, o driver.MountOptions) ([]driver.Mount, error) {
	if err := v.Check(id); err != nil {
		return nil, err
	}
	options := []string{"bind", "rw"}
	if o.ReadOnly || v.isReadOnly(id) {
		options[1] = "ro"
	}
	return []driver.Mount{{Type: "bind", Source: v.Path(id, "diff"), Options: options}}, nil
}

// isReadOnly: what a layer from an archive takes has been noted.
func (v *VFS) isReadOnly(id string) bool {
	_, err := os.Lstat(v.Path(id, "usage"))
	return err == nil
}

// Release has nothing to do.
func (v *VFS) Release(string) error { return nil }

// Changes compares the layer with its parent.
func (v *VFS) Changes(id string) ([]driver.Change, error) {
	if err := v.Check(id); err != nil {
		return nil, err
	}
	parent, err := v.Parent(id)
	if err != nil {
		return nil, err
	}
	var since unix.Stat_t
	if err := unix.Stat(v.Path(id, "since"), &since); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: v.Path(id, "since"), Err: err}
	}
	updated, err := os.Open(v.Path(id, "diff"))
	if err != nil {
		return nil, err
	}
	defer updated.Close()
	var old *os.File
	if parent != "" {
		if old, err = os.Open(v.Path(parent, "diff")); err != nil {
			return nil, err
		}
		defer old.Close()
	}
	return archive.TreeChanges(updated, old, since.Mtim)
}

// Diff is the changes as an archive.
func (v *VFS) Diff(id string) (io.ReadCloser, error) {
	changes, err := v.Changes(id)
	if err != nil {
		return nil, err
	}
	root, err := os.Open(v.Path(id, "diff"))
	if err != nil {
		return nil, err
	}
	return driver.Stream(func(ctx context.Context, w io.Writer) error {
		defer root.Close()
		return archive.PackChanges(ctx, w, root, changes, archive.PackOptions{})
	}), nil
}

// Usage is what was unpacked; of a writable layer, how much more there is than in its parent.
func (v *VFS) Usage(id string) (driver.Usage, error) {
	if err := v.Check(id); err != nil {
		return driver.Usage{}, err
	}
	u, err := v.Store.Usage(id)
	if !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	changes, err := v.Changes(id)
	if err != nil {
		return u, err
	}
	root, err := os.Open(v.Path(id, "diff"))
	if err != nil {
		return u, err
	}
	defer root.Close()
	u.Bytes, u.Inodes, err = archive.Size(root, changes)
	return u, err
}

// Metadata is where the files are.
func (v *VFS) Metadata(id string) (map[string]string, error) {
	if err := v.Check(id); err != nil {
		return nil, err
	}
	return map[string]string{"Dir": v.Path(id, "diff")}, nil
}
