//go:build linux

// Package devicemapper is the storage driver on block devices: a layer is a volume of a thin pool
// with an ext4 on it, and begins as a snapshot of its parent's volume. The kernel's device-mapper
// does it, beneath the file system, which knows nothing of it. It needs mkfs.ext4 and no dmsetup.
//
//	container ─ mount ─ ext4 ─ volume 3 ─┐
//	                           volume 2 ─┼─ thin pool ─ loop devices ─ files data, metadata
//	                           volume 1 ─┘              (sparse: they take what was written)
//
//	layers/ID/device      the number of the volume
//
// A volume is 10 GiB large and has only those blocks of 64 KiB that were written to; a snapshot has
// its origin's, until either of them writes to one: then it gets a copy of its own.
//
// Docker had a driver of the same name up to version 24. On loop devices it was never for more than
// to try it: each block goes through two file systems.
//
// See Documentation/admin-guide/device-mapper/thin-provisioning.rst, dmsetup(8), loop(4).
package devicemapper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/storage/driver"
	"minidocker/final/storage/whole"
)

// DeviceMapper is the driver.
type DeviceMapper struct {
	whole.Layers
	pool *pool
	mu   sync.Mutex
	held map[string]*os.File // devices that are going to be mounted, by layers
}

// Works says why the driver does not work, or nil.
func Works(string) error {
	c, err := openControl()
	if err != nil {
		return err
	}
	c.Close()
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("no loop devices (modprobe loop): %w", err)
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return fmt.Errorf("no mkfs.ext4 (apt-get install e2fsprogs): %w", err)
	}
	return nil
}

// Open opens the folder of the driver, and makes it if it is not there.
func Open(dir string) (*DeviceMapper, error) {
	p, err := newPool(dir)
	if err != nil {
		return nil, err
	}
	d := &DeviceMapper{pool: p, held: map[string]*os.File{}}
	store, err := driver.OpenStore(dir, d.undo)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	d.Layers = whole.Layers{Store: store, Trees: trees{p}}
	return d, nil
}

// Name is "devicemapper".
func (d *DeviceMapper) Name() string { return "devicemapper" }

// Status is what info prints.
func (d *DeviceMapper) Status() [][2]string {
	status := [][2]string{
		{"Pool Name", d.pool.poolName()}, {"Pool Blocksize", "64 KiB"}, {"Base Device Size", "10 GiB"},
		{"Backing Filesystem", "ext4"},
		{"Data loop file", d.pool.path("data")}, {"Metadata loop file", d.pool.path("metadata")},
	}
	var words []string
	err := d.pool.locked(func() error {
		text, err := d.pool.control.report(d.pool.poolName())
		words = strings.Fields(text)
		return err
	})
	if err != nil || len(words) < 3 {
		return status
	}
	// Transaction, metadata used/total in blocks of 4 KiB, data used/total.
	var used, total int64
	if _, err := fmt.Sscanf(words[2], "%d/%d", &used, &total); err != nil {
		return status
	}
	space := fmt.Sprintf("%d of %d MiB", used*blockSectors*sector>>20, total*blockSectors*sector>>20)
	return append(status, [2]string{"Data Space Used", space})
}

// Close gives up the pool, which stays while a volume of it is mounted.
func (d *DeviceMapper) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for id, f := range d.held {
		errs = append(errs, f.Close(), d.hide(id))
	}
	d.held = nil
	return errors.Join(append(errs, d.pool.close())...)
}

type trees struct{ *pool }

// volume reads the number of a layer's volume.
func volume(path string) (int, error) {
	text, err := os.ReadFile(filepath.Join(path, "device"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Begin makes a snapshot.
func (t trees) Begin(path, parent string, o driver.Options) error {
	if o.Size != 0 {
		return fmt.Errorf("the driver devicemapper cannot hold a layer to a size other than 10 GiB: %w",
			errors.ErrUnsupported)
	}
	origin := baseVolume
	if parent != "" {
		var err error
		if origin, err = volume(parent); err != nil {
			return err
		}
	}
	return t.locked(func() error {
		return t.snapshot(origin, func(id int) error {
			return os.WriteFile(filepath.Join(path, "device"), fmt.Appendln(nil, id), 0o600)
		})
	})
}

// isImage says whether a layer is finished, and is not written to.
func isImage(path string) bool {
	return unix.Access(filepath.Join(path, "sealed"), unix.F_OK) == nil
}

// Show mounts the volume, for nobody else to see. Where it is mounted already, this is one more
// mount of the same file system.
func (t trees) Show(path string) (*os.File, func() error, error) {
	id, err := volume(path)
	if err != nil {
		return nil, nil, err
	}
	var device *os.File
	err = t.locked(func() error {
		device, err = t.open(id, isImage(path))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	end := func() error {
		return errors.Join(device.Close(), t.locked(func() error { return t.hide(id) }))
	}
	tree, err := fsmount.New("ext4", device.Name(), mountOptions(isImage(path)))
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	root, err := fsmount.Root(tree)
	if err != nil {
		return nil, nil, errors.Join(err, tree.Close(), end())
	}
	return root, func() error { return errors.Join(root.Close(), tree.Close(), end()) }, nil
}

// Seal notes that the volume is never written to again.
func (t trees) Seal(path string) error {
	return os.WriteFile(filepath.Join(path, "sealed"), nil, 0o600)
}

// undo deletes the volume of a folder that is going to be deleted.
func (d *DeviceMapper) undo(path string) error {
	id, err := volume(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, strconv.ErrSyntax) { // killed before
		return nil
	}
	if err != nil {
		return err
	}
	return d.pool.locked(func() error { return d.pool.delete(id) })
}

// Mounts is an ext4. Its device is there until Release, and stays while it is mounted.
func (d *DeviceMapper) Mounts(id string, o driver.MountOptions) ([]driver.Mount, error) {
	if err := d.Check(id); err != nil {
		return nil, err
	}
	number, err := volume(d.Path(id))
	if err != nil {
		return nil, err
	}
	image := isImage(d.Path(id))
	var device *os.File
	err = d.pool.locked(func() error {
		device, err = d.pool.open(number, image)
		return err
	})
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if old := d.held[id]; old != nil {
		old.Close()
	}
	d.held[id] = device
	d.mu.Unlock()
	options := mountOptions(o.ReadOnly || image)
	if o.Label != "" {
		options = append(options, fmt.Sprintf("context=%q", o.Label))
	}
	return []driver.Mount{{Type: "ext4", Source: device.Name(), Options: options}}, nil
}

// Release has the device go when it is mounted no more.
func (d *DeviceMapper) Release(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.held[id]; f != nil {
		f.Close()
		delete(d.held, id)
	}
	return d.hide(id)
}

func (d *DeviceMapper) hide(id string) error {
	if !d.Exists(id) {
		return nil
	}
	number, err := volume(d.Path(id))
	if err != nil {
		return err
	}
	return d.pool.locked(func() error { return d.pool.hide(number) })
}

// Metadata is Docker's for its driver of this name.
func (d *DeviceMapper) Metadata(id string) (map[string]string, error) {
	if err := d.Check(id); err != nil {
		return nil, err
	}
	number, err := volume(d.Path(id))
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"DeviceId": strconv.Itoa(number), "DeviceName": d.pool.volumeName(number),
		"DeviceSize": strconv.Itoa(volumeSize),
	}, nil
}
