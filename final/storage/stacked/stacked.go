//go:build linux

// Package stacked is what those drivers share that keep of each layer only what differs, in a
// folder, and have all of them shown as one. It mounts nothing.
//
//	layers/ID/diff        the files; what hides lower ones is the driver's matter
//	layers/ID/parents     of an image's layer its parent, of a writable one all that are below
//	layers/ID/root        there if the layer says something about the root folder itself
package stacked

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

// Layers are the layers of a driver.
type Layers struct {
	*driver.Store
	// Name is the driver's.
	Name string
	// Unpack is how a layer's archive becomes its folder.
	Unpack archive.UnpackOptions
	// Publish, if set, is called before an image's layer appears.
	Publish func(id string) error
	// Begin, if set, makes what a writable layer has in its folder besides.
	Begin func(path string) error
}

// Independent is true: a layer is a folder of its own until it is shown.
func (l *Layers) Independent() bool { return true }

// Apply makes a read-only layer from an archive; it waits for the name of a driver.Named.
func (l *Layers) Apply(ctx context.Context, id, parent string, layer io.Reader) (int64, error) {
	if _, late := layer.(driver.Named); !late || id != "" {
		if err := l.CheckNew(id, ""); err != nil {
			return 0, err
		}
	}
	if parent != "" {
		if err := driver.CheckID(parent); err != nil {
			return 0, err
		}
	}
	draft, err := l.Draft()
	if err != nil {
		return 0, err
	}
	bytes, err := l.apply(ctx, draft, id, parent, layer)
	return bytes, errors.Join(err, draft.Discard())
}

func (l *Layers) apply(
	ctx context.Context, d *driver.Draft, id, parent string, layer io.Reader,
) (int64, error) {
	if err := d.SetParents(parent); err != nil {
		return 0, err
	}
	d.Spread()
	diff := filepath.Join(d.Path, "diff")
	if err := mkdir(diff, 0o755); err != nil {
		return 0, err
	}
	root, err := os.Open(diff)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	done, err := archive.Unpack(ctx, root, layer, l.Unpack)
	if err != nil {
		return 0, err
	}
	if done.Root {
		if err := os.WriteFile(filepath.Join(d.Path, "root"), nil, 0o600); err != nil {
			return 0, err
		}
	}
	if err := d.SetUsage(driver.Usage{Bytes: done.Bytes, Inodes: done.Entries}); err != nil {
		return 0, err
	}
	if named, late := layer.(driver.Named); late && id == "" {
		if id, err = named.LayerID(); err != nil {
			return 0, err
		}
		if err := l.CheckNew(id, ""); err != nil {
			return 0, err
		}
	}
	if l.Publish != nil {
		if err := l.Publish(id); err != nil {
			return 0, err
		}
	}
	return done.Bytes, d.Publish(id)
}

// Create makes a writable layer.
func (l *Layers) Create(id, parent string, o driver.Options) error {
	if err := l.CheckNew(id, parent); err != nil {
		return err
	}
	if o.Size != 0 {
		return fmt.Errorf("the driver %s cannot hold a layer to a size: %w",
			l.Name, errors.ErrUnsupported)
	}
	draft, err := l.Draft()
	if err != nil {
		return err
	}
	return errors.Join(l.create(draft, id, parent), draft.Discard())
}

func (l *Layers) create(d *driver.Draft, id, parent string) error {
	var chain []string
	if parent != "" {
		below, err := l.Chain(parent)
		if err != nil {
			return err
		}
		chain = append([]string{parent}, below...)
	}
	if err := d.SetParents(chain...); err != nil {
		return err
	}
	root, err := l.rootOf(chain)
	if err != nil {
		return err
	}
	diff := filepath.Join(d.Path, "diff")
	if err := mkdir(diff, root.Mode&0o7777); err != nil {
		return err
	}
	if int(root.Uid) != os.Geteuid() || int(root.Gid) != os.Getegid() {
		if err := os.Chown(diff, int(root.Uid), int(root.Gid)); err != nil {
			return err
		}
	}
	if l.Begin != nil {
		if err := l.Begin(d.Path); err != nil {
			return err
		}
	}
	return d.Publish(id)
}

// mkdir makes a folder of that very mode, whatever the umask.
func mkdir(path string, mode uint32) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.NewSyscallError("chmod", unix.Chmod(path, mode))
}

// rootOf finds the mode and owner of the root folder as it is with these layers, the uppermost
// first: that one's counts that has something to say about it.
func (l *Layers) rootOf(chain []string) (unix.Stat_t, error) {
	st := unix.Stat_t{Mode: 0o755}
	for i, id := range chain {
		// A writable layer took its own from those below, and may have changed it.
		says := i == len(chain)-1 || l.Has(id, "root") || l.Writable(id)
		if says {
			return st, os.NewSyscallError("stat", unix.Stat(l.Path(id, "diff"), &st))
		}
	}
	return st, nil
}

// Has says whether there is that name in a layer's folder.
func (l *Layers) Has(id, name string) bool {
	return unix.Access(l.Path(id, name), unix.F_OK) == nil
}

// Writable says whether a layer can be written to: what one takes that is an image's was noted.
func (l *Layers) Writable(id string) bool { return !l.Has(id, "usage") }

// Pack is a layer as an archive, with these changes.
func (l *Layers) Pack(id string, changes []driver.Change) (io.ReadCloser, error) {
	upper, err := os.Open(l.Path(id, "diff"))
	if err != nil {
		return nil, err
	}
	return driver.Stream(func(ctx context.Context, w io.Writer) error {
		defer upper.Close()
		return archive.PackChanges(ctx, w, upper, changes, archive.PackOptions{})
	}), nil
}

// Usage is what is in the layer's folder.
func (l *Layers) Usage(id string) (driver.Usage, error) {
	if err := l.Check(id); err != nil {
		return driver.Usage{}, err
	}
	u, err := l.Store.Usage(id)
	if !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	u.Bytes, u.Inodes, err = tree.Usage(l.Path(id, "diff"))
	return u, err
}
