//go:build linux

// Package driver says what a storage driver is, and has what the drivers share: the folder with a
// folder for each layer, which is whole at every moment whatever is killed. It mounts nothing.
package driver

import (
	"context"
	"io"

	"minidocker/final/storage/archive"
)

// Mount is one mount to be made, as in an OCI config.json. It is said, not made, so that the
// runtime can make it in the container's own mount namespace: nothing appears on the host.
// Paths in overlay's options are escaped as mount(2) wants them.
type Mount struct {
	Type, Source string
	Options      []string
}

// Change is a difference between a layer and its parent; see archive.Change.
type Change = archive.Change

// Usage is what a layer takes by itself, without its parents: the sizes of its files, and how
// many files and folders there are.
type Usage struct {
	Bytes  int64 `json:"bytes"`
	Inodes int64 `json:"inodes"`
}

// Options is how a writable layer is made.
type Options struct {
	// Size is how many bytes it may take, 0: as many as there are. A driver that cannot hold a
	// layer to it says so by an error that is errors.ErrUnsupported.
	Size int64
}

// MountOptions is how a layer will be mounted.
type MountOptions struct {
	ReadOnly bool
	// Volatile promises that nobody needs the writable layer after a crash of the machine: then
	// unmounting it does not wait for the disk.
	Volatile bool
	// Label is SELinux's, for all files of the mount; "" for none.
	Label string
}

// Driver keeps layers: trees of files, each but the first on top of a parent. A layer is either
// read-only and made from an archive (Apply), or writable (Create).
//
// A layer's id is up to 128 of the letters a-z and A-Z, digits, and . _ - after the first. Every
// method can be called from several goroutines and several processes at once. Those of a layer
// that is not there give an error that is fs.ErrNotExist.
//
// IDs of owners are on the disk as in the archive. Where a container's user namespace maps them,
// it is the runtime that mounts the layers so (mount_setattr(2), MOUNT_ATTR_IDMAP), or everything
// runs in that namespace.
type Driver interface {
	// Name is "overlay", "vfs", "btrfs", "devicemapper" or "fuse".
	Name() string

	// Status is what info prints about the driver: pairs of a name and a value.
	Status() [][2]string

	// Apply makes the read-only layer id on top of parent ("" for none) from an OCI layer, a tar
	// archive that is not compressed, which it reads to the end. All or nothing: on an error,
	// and at whatever moment the process is killed, nothing is visible, and what was made goes
	// at the latest with the next Open. It is fs.ErrExist if there is such a layer. It returns
	// how many bytes of file content there are.
	Apply(ctx context.Context, id, parent string, layer io.Reader) (int64, error)

	// Independent says that Apply does not need the parent to be there yet, so that the layers
	// of an image may be applied side by side.
	Independent() bool

	// Create makes the writable layer id on top of parent, which may be "" for none.
	Create(id, parent string, o Options) error

	// Mounts are what to mount, in order, at one place to see the layer with all below it. Where
	// a device or a server must be ready for it, this makes it ready, until Release.
	Mounts(id string, o MountOptions) ([]Mount, error)

	// Release undoes what Mounts made ready, but what is mounted stays until it is unmounted. It
	// is nothing if nothing is.
	Release(id string) error

	// Changes are the differences from the parent, sorted by path.
	Changes(id string) ([]Change, error)

	// Diff is the same as an OCI layer, the same bytes each time. The caller closes it.
	Diff(id string) (io.ReadCloser, error)

	// Usage is what this layer alone takes.
	Usage(id string) (Usage, error)

	// Metadata is for inspect: GraphDriver.Data.
	Metadata(id string) (map[string]string, error)

	// Remove deletes a layer. It is nil if there is none. What is mounted in it is an error and
	// keeps what it has.
	Remove(id string) error

	// Parent is the layer below, "" for none.
	Parent(id string) (string, error)

	// Exists says whether there is such a layer.
	Exists(id string) bool

	// List are the ids of all layers, in no order.
	List() ([]string, error)

	// Close gives up what the driver holds. Layers that are mounted stay as they are.
	Close() error
}
