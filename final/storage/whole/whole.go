//go:build linux

// Package whole is what those drivers share that keep each layer as a whole tree, which begins as
// a copy of its parent's: what makes the copy is the driver's matter, and how one comes to the
// files. It mounts nothing.
//
//	layers/ID/parents     the layer that it began as a copy of
//	layers/ID/since       its time: what has been touched later has changed
package whole

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/archive"
	"minidocker/final/storage/driver"
)

// Trees is how a driver keeps its trees. Paths are the folders of layers, and of drafts.
type Trees interface {
	// Begin makes the tree of the layer at path as that of the layer at parent is, or an empty
	// one if parent is "".
	Begin(path, parent string, o driver.Options) error

	// Show gives the root folder of a tree. Only what Begin has made is written to. hide ends it
	// and closes the folder.
	Show(path string) (root *os.File, hide func() error, err error)

	// Seal is called for a layer of an image, when all is in it.
	Seal(path string) error
}

// Layers are the layers of a driver.
type Layers struct {
	*driver.Store
	Trees Trees
}

// Independent is false: a layer is its parent, changed.
func (l *Layers) Independent() bool { return false }

// Apply copies the parent and unpacks the layer over it.
func (l *Layers) Apply(ctx context.Context, id, parent string, layer io.Reader) (int64, error) {
	var done archive.Unpacked
	change := func(d *driver.Draft, root *os.File) error {
		var err error
		done, err = archive.Unpack(ctx, root, layer,
			archive.UnpackOptions{Whiteouts: archive.WhiteoutsDelete})
		if err != nil {
			return err
		}
		return d.SetUsage(driver.Usage{Bytes: done.Bytes, Inodes: done.Entries})
	}
	err := l.make(id, parent, driver.Options{}, change)
	return done.Bytes, err
}

// Create copies the parent.
func (l *Layers) Create(id, parent string, o driver.Options) error {
	return l.make(id, parent, o, nil)
}

// make makes a layer that is a copy of its parent's, and lets change change it. Without change,
// it is one that can be written.
func (l *Layers) make(
	id, parent string, o driver.Options, change func(*driver.Draft, *os.File) error,
) error {
	if err := l.CheckNew(id, parent); err != nil {
		return err
	}
	draft, err := l.Draft()
	if err != nil {
		return err
	}
	err = l.fill(draft, parent, o, change)
	if err == nil {
		err = draft.Publish(id)
	}
	return errors.Join(err, draft.Discard())
}

func (l *Layers) fill(
	d *driver.Draft, parent string, o driver.Options, change func(*driver.Draft, *os.File) error,
) error {
	if err := d.SetParents(parent); err != nil {
		return err
	}
	d.Spread()
	below := ""
	if parent != "" {
		below = l.Path(parent)
	}
	if err := l.Trees.Begin(d.Path, below, o); err != nil {
		return err
	}
	// From now on, what has a later status change time has been touched.
	if err := os.WriteFile(filepath.Join(d.Path, "since"), nil, 0o600); err != nil {
		return err
	}
	if change == nil {
		return nil
	}
	root, hide, err := l.Trees.Show(d.Path)
	if err != nil {
		return err
	}
	if err := errors.Join(change(d, root), hide()); err != nil {
		return err
	}
	return l.Trees.Seal(d.Path)
}

// ReadOnly says whether a layer is one of an image: what it takes has been noted.
func (l *Layers) ReadOnly(id string) bool {
	return unix.Access(l.Path(id, "usage"), unix.F_OK) == nil
}

// with calls f with the changes of a layer and its root.
func (l *Layers) with(id string, f func(all []driver.Change, root *os.File) error) (err error) {
	if err := l.Check(id); err != nil {
		return err
	}
	parent, err := l.Parent(id)
	if err != nil {
		return err
	}
	var since unix.Stat_t
	if err := unix.Stat(l.Path(id, "since"), &since); err != nil {
		return &fs.PathError{Op: "stat", Path: l.Path(id, "since"), Err: err}
	}
	updated, hide, err := l.Trees.Show(l.Path(id))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hide()) }()
	all, err := l.compare(updated, parent, since.Mtim)
	if err != nil {
		return err
	}
	return f(all, updated)
}

func (l *Layers) compare(
	updated *os.File, parent string, since unix.Timespec,
) ([]driver.Change, error) {
	if parent == "" {
		return archive.TreeChanges(updated, nil, since)
	}
	old, hide, err := l.Trees.Show(l.Path(parent))
	if err != nil {
		return nil, err
	}
	all, err := archive.TreeChanges(updated, old, since)
	return all, errors.Join(err, hide())
}

// Changes compares the layer with its parent.
func (l *Layers) Changes(id string) ([]driver.Change, error) {
	var changes []driver.Change
	err := l.with(id, func(all []driver.Change, _ *os.File) error {
		changes = all
		return nil
	})
	return changes, err
}

// Diff is the changes as an archive.
func (l *Layers) Diff(id string) (io.ReadCloser, error) {
	if err := l.Check(id); err != nil {
		return nil, err
	}
	return driver.Stream(func(ctx context.Context, w io.Writer) error {
		if err := ctx.Err(); err != nil {
			return err // closed before it was read
		}
		return l.with(id, func(all []driver.Change, root *os.File) error {
			return archive.PackChanges(ctx, w, root, all, archive.PackOptions{})
		})
	}), nil
}

// Usage is what was unpacked; of a writable layer, what was added or changed.
func (l *Layers) Usage(id string) (driver.Usage, error) {
	if err := l.Check(id); err != nil {
		return driver.Usage{}, err
	}
	u, err := l.Store.Usage(id)
	if !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	err = l.with(id, func(all []driver.Change, root *os.File) error {
		u.Bytes, u.Inodes, err = archive.Size(root, all)
		return err
	})
	return u, err
}
