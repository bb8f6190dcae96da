//go:build linux

// Package storage keeps the files of images and containers: layers, each on top of another, and
// the storage drivers that make a tree of them. It knows no images and no containers, only the
// ids of layers.
//
//	         layers of an image (read-only)        a container's (writable)
//	Apply:   [ A ] <- [ B on A ] <- [ C on B ]     Create: [ X on C ], [ Y on C ], …
//	                                               Mounts: what to mount to see X, C, B, A as one
//	                                               Diff:   X alone, as the archive of a new layer
//
// The drivers:
//
//	overlay       the kernel shows folders as one           the default
//	btrfs         a snapshot of a subvolume                  where the state is on btrfs
//	devicemapper  a snapshot in a thin pool, with ext4 on it
//	fuse          a union like AUFS, in a process of its own where there is no overlay
//	vfs           a full copy                                works everywhere
//
// See package driver for what each of them does, archive for layers as tar archives.
package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"minidocker/final/fsmount"
	"minidocker/final/rawfd"
	"minidocker/final/storage/btrfs"
	"minidocker/final/storage/devicemapper"
	"minidocker/final/storage/driver"
	"minidocker/final/storage/fuse"
	"minidocker/final/storage/overlay"
	"minidocker/final/storage/vfs"
)

// The words of package driver, for those who use layers and make no drivers.
type (
	// Driver is driver.Driver.
	Driver = driver.Driver
	// Mount is driver.Mount.
	Mount = driver.Mount
	// Change is driver.Change.
	Change = driver.Change
	// Usage is driver.Usage.
	Usage = driver.Usage
	// Options is driver.Options.
	Options = driver.Options
	// MountOptions is driver.MountOptions.
	MountOptions = driver.MountOptions
)

// choice is a driver that can be had.
type choice struct {
	name string
	// works says why the driver does not work at a folder, or nil.
	works func(dir string) error
	open  func(dir string) (Driver, error)
	// chosen: it is taken only if somebody chooses it.
	chosen bool
}

// choices are the drivers, those first that are taken first where nobody has chosen.
var choices = []choice{
	{"overlay", overlay.Works, func(dir string) (Driver, error) { return overlay.Open(dir) }, false},
	{"btrfs", btrfs.Works, func(dir string) (Driver, error) { return btrfs.Open(dir) }, false},
	{"fuse", func(dir string) error { return fuse.Works(dir) },
		func(dir string) (Driver, error) { return fuse.Open(dir) }, false},
	{"vfs", nil, func(dir string) (Driver, error) { return vfs.Open(dir) }, false},
	{"devicemapper", devicemapper.Works,
		func(dir string) (Driver, error) { return devicemapper.Open(dir) }, true},
}

// Open opens the storage at the folder root with the driver of that name. Without a name it is
// the one that the root was first opened with, or else the first that works there; Status says
// why.
// Each driver has a folder of its own below root. Open deletes what a process that was killed
// has left half made.
func Open(root, name string) (Driver, error) {
	reason := chosen
	if name == "" {
		var err error
		if name, reason, err = pick(root); err != nil {
			return nil, err
		}
	}
	i := slices.IndexFunc(choices, func(c choice) bool { return c.name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no storage driver %q: take one of %s", name, names())
	}
	dir := filepath.Join(root, name)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := begin(root, dir, choices[i]); err != nil {
			return nil, err
		}
	}
	d, err := choices[i].open(dir)
	if err != nil {
		return nil, fmt.Errorf("storage driver %s: %w", name, err)
	}
	if reason == chosen {
		if err := remember(root, name, reason); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return &reasoned{Driver: d, reason: reason}, nil
}

const chosen = "chosen"

// remember keeps a choice in the file "driver", so that it is the same the next time; the first
// one counts.
func remember(root, name, reason string) error {
	file := filepath.Join(root, "driver")
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeNew(file, fmt.Sprintf("%s: %s\n", name, strings.ReplaceAll(reason, "\n", " ")))
}

// begin makes the folder of a driver, if it works here.
func begin(root, dir string, c choice) error {
	if err := os.MkdirAll(root, 0o711); err != nil {
		return err
	}
	if c.works == nil {
		return nil
	}
	if err := c.works(root); err != nil {
		return fmt.Errorf("storage driver %s does not work at %q: %w", c.name, dir, err)
	}
	return nil
}

// pick chooses a driver, and says why this one.
func pick(root string) (name, reason string, err error) {
	text, err := rawfd.ReadFile(filepath.Join(root, "driver"))
	if err == nil {
		name, reason, _ = strings.Cut(strings.TrimSpace(string(text)), ": ")
		return name, reason, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	if err := os.MkdirAll(root, 0o711); err != nil {
		return "", "", err
	}
	var not []string
	for _, c := range choices {
		if c.chosen {
			continue
		}
		if c.works != nil {
			if err := c.works(root); err != nil {
				not = append(not, fmt.Sprintf("%s: %v", c.name, err))
				continue
			}
		}
		reason = "the first that works here"
		if not != nil {
			reason += "; not " + strings.Join(not, "; not ")
		}
		return c.name, reason, remember(root, c.name, reason)
	}
	return "", "", fmt.Errorf("no storage driver works at %q: %s", root, strings.Join(not, "; "))
}

// writeNew writes a file that is whole whenever it is there.
func writeNew(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".driver-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it has gone when all is well
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func names() string {
	var all []string
	for _, c := range choices {
		all = append(all, c.name)
	}
	return strings.Join(all, ", ")
}

// reasoned is a driver with the reason why it was taken.
type reasoned struct {
	Driver
	reason string
}

// Status begins with the reason.
func (r *reasoned) Status() [][2]string {
	return append([][2]string{{"Reason", r.reason}}, r.Driver.Status()...)
}

// With calls f with the root of what the mounts show. They are attached nowhere: no process sees
// them, and they end with f. The last of them is what is seen.
//
// Do not write through it to the layer of a container that runs: two overlays with the same
// writable layer are undefined. Its files are at /proc/PID/root.
func With(mounts []Mount, f func(root *os.File) error) error {
	if len(mounts) == 0 {
		return errors.New("there is nothing to mount")
	}
	m := mounts[len(mounts)-1]
	tree, err := fsmount.New(m.Type, m.Source, m.Options)
	if err != nil {
		return err
	}
	defer tree.Close()
	root, err := fsmount.Root(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	return f(root)
}
