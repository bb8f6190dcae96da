//go:build linux

// Package overlay is the storage driver on overlayfs: a layer is a folder, and the kernel shows
// several of them as one.
//
//	what the container sees      /bin/sh  /etc/hosts*  /new*
//	                                 ^        ^          ^
//	layers/CONTAINER/diff  upper     |    etc/hosts     new     written here (work is the kernel's)
//	layers/IMAGE-2/diff    lower     |    etc/hosts             hidden by the one above
//	layers/IMAGE-1/diff    lower   bin/sh                       shared by all containers
//
// Of each layer there is besides:
//
//	parents              the layers below
//	root                 it says itself what the root folder's mode and owner are
//	usage                what it takes
//
// The folder l has a short name for each read-only layer's files, as the options of a mount that
// has many layers are long: l/NAME -> ../layers/ID/diff.
//
// Files and folders are few, as ext4 takes 0.1 ms to make one and more to delete it, and a
// container has a layer each time.
//
// What overlayfs could do and must not here, so that an archive of the upper folder alone is the
// container's changes: redirect_dir (a renamed folder would be a pointer to its old name; and one
// that a hostile layer has could point anywhere: nofollow), metacopy (a file whose mode was
// changed would have no content in the upper folder), index (a layer could have one container).
//
// See Documentation/filesystems/overlayfs.rst.
package overlay

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/rawfd"
	"minidocker/final/storage/archive"
	"minidocker/final/storage/driver"
	"minidocker/final/storage/stacked"
	"minidocker/final/storage/tree"
)

// maxLower is how many folders overlayfs lays over each other: OVL_MAX_STACK.
const maxLower = 500

// Overlay is the driver.
type Overlay struct {
	stacked.Layers
	user bool // in a user namespace: overlayfs's attributes are user.overlay.…
}

// Open opens the folder of the driver, and makes it if it is not there.
func Open(dir string) (*Overlay, error) {
	store, err := driver.OpenStore(dir, nil)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"l", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	o := &Overlay{user: inUserNamespace()}
	o.Layers = stacked.Layers{
		Store: store, Name: o.Name(), Publish: o.link,
		Unpack: archive.UnpackOptions{Whiteouts: archive.WhiteoutsOverlay, UserXattr: o.user},
		Begin:  func(path string) error { return os.Mkdir(filepath.Join(path, "work"), 0o700) },
	}
	return o, nil
}

// inUserNamespace says whether ours is not the machine's first user namespace, which has all IDs
// as they are. See user_namespaces(7).
func inUserNamespace() bool {
	text, err := rawfd.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}

// Name is "overlay".
func (o *Overlay) Name() string { return "overlay" }

// Close has nothing to do.
func (o *Overlay) Close() error { return nil }

// Status is what info prints.
func (o *Overlay) Status() [][2]string {
	var st unix.Statfs_t
	backing := "unknown"
	if unix.Statfs(o.Dir, &st) == nil {
		backing = driver.FilesystemName(st.Type)
	}
	return [][2]string{
		{"Backing Filesystem", backing},
		{"Attributes", archive.OverlayXattr("", o.user) + "*"},
		{"Metacopy, Index, Redirect", "off, so that the upper folder alone is the layer"},
	}
}

// shortName is a layer's name in the folder l: 80 bits of a digest of its id. Should two layers
// ever have the same, the second is refused.
func shortName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

func (o *Overlay) link(id string) error {
	target, name := "../layers/"+id+"/diff", filepath.Join(o.Dir, "l", shortName(id))
	err := os.Symlink(target, name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if there, err := os.Readlink(name); err != nil || there != target {
		return fmt.Errorf("layer %q: its short name is taken by %q", id, there)
	}
	return nil
}

// lower are the folders to mount below a layer, uppermost first, by their short names.
func (o *Overlay) lower(chain []string) ([]string, error) {
	opaque := archive.OverlayXattr("opaque", o.user)
	var paths []string
	for _, id := range chain {
		path := filepath.Join(o.Dir, "l", shortName(id))
		var buf [2]byte
		n, err := unix.Getxattr(path, opaque, buf[:])
		if errors.Is(err, fs.ErrNotExist) { // a writable one, which has no short name
			path = o.Path(id, "diff")
			n, err = unix.Getxattr(path, opaque, buf[:])
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("layer %q: %w", id, fs.ErrNotExist)
		}
		paths = append(paths, path)
		if err == nil && string(buf[:n]) == "y" {
			break // overlayfs heeds this attribute of every folder but a layer's root
		}
	}
	if len(paths) > maxLower {
		return nil, fmt.Errorf("%d layers: overlayfs takes %d at most", len(paths), maxLower)
	}
	return paths, nil
}

// Mounts is one overlay.
func (o *Overlay) Mounts(id string, opts driver.MountOptions) ([]driver.Mount, error) {
	chain, err := o.Chain(id)
	if err != nil {
		return nil, err
	}
	var writable []string
	if opts.ReadOnly || !o.Has(id, "work") {
		chain = append([]string{id}, chain...)
	} else if writable, err = o.writable(id, opts.Volatile); err != nil {
		return nil, err
	}
	lower, err := o.lower(chain)
	if err != nil {
		return nil, err
	}
	options := writable
	if writable == nil {
		options = []string{"ro"}
		if len(lower) == 1 { // without a writable folder, overlayfs wants two
			lower = append(lower, filepath.Join(o.Dir, "empty"))
		}
	}
	if len(lower) == 0 {
		lower = append(lower, filepath.Join(o.Dir, "empty"))
	}
	for i, path := range lower {
		lower[i] = fsmount.Escape(path)
	}
	options = append(options, "lowerdir="+strings.Join(lower, ":"),
		"redirect_dir=nofollow", "metacopy=off", "index=off")
	if o.user {
		options = append(options, "userxattr") // since Linux 5.11
	}
	if opts.Label != "" {
		options = append(options, fmt.Sprintf("context=%q", opts.Label))
	}
	return []driver.Mount{{Type: "overlay", Source: "overlay", Options: options}}, nil
}

// writable are the options for the layer that is written to.
func (o *Overlay) writable(id string, volatile bool) ([]string, error) {
	options := []string{
		"upperdir=" + fsmount.Escape(o.Path(id, "diff")), "workdir=" + fsmount.Escape(o.Path(id, "work")),
	}
	if volatile {
		options = append(options, "volatile") // since Linux 5.10
	}
	// The mark of an earlier volatile mount, which the kernel takes for a sign that data may be
	// lost. It was promised that this is no matter.
	if !o.Has(id, "work/work/incompat/volatile") {
		return options, nil
	}
	return options, removeAll(o.Path(id, "work", "work"), "incompat")
}

func removeAll(dir, name string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return tree.Remove(f, name)
}

// Release has nothing to do.
func (o *Overlay) Release(string) error { return nil }

// Changes are what is in the layer's folder, beside what is below.
func (o *Overlay) Changes(id string) ([]driver.Change, error) {
	upper, err := os.Open(o.Path(id, "diff"))
	if err != nil {
		return nil, errors.Join(o.Check(id), err)
	}
	defer upper.Close()
	parent, err := o.Parent(id)
	if err != nil {
		return nil, err
	}
	if parent == "" {
		return archive.OverlayChanges(upper, nil, o.user)
	}
	mounts, err := o.Mounts(parent, driver.MountOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	// The kernel itself says what the layers below have.
	mount, err := fsmount.New(mounts[0].Type, mounts[0].Source, mounts[0].Options)
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	lower, err := fsmount.Root(mount)
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	return archive.OverlayChanges(upper, lower, o.user)
}

// Diff is the layer's folder as an archive.
func (o *Overlay) Diff(id string) (io.ReadCloser, error) {
	changes, err := o.Changes(id)
	if err != nil {
		return nil, err
	}
	return o.Pack(id, changes)
}

// Metadata is docker's for its driver overlay2, without MergedDir: it is mounted nowhere outside
// of the container.
func (o *Overlay) Metadata(id string) (map[string]string, error) {
	chain, err := o.Chain(id)
	if err != nil {
		return nil, err
	}
	all := map[string]string{
		"UpperDir": o.Path(id, "diff"), "WorkDir": o.Path(id, "work"),
	}
	var lower []string
	for _, below := range chain {
		lower = append(lower, o.Path(below, "diff"))
	}
	if lower != nil {
		all["LowerDir"] = strings.Join(lower, ":")
	}
	return all, nil
}

// Remove deletes a layer, and then its short name.
func (o *Overlay) Remove(id string) error {
	if err := o.Store.Remove(id); err != nil {
		return err
	}
	name := filepath.Join(o.Dir, "l", shortName(id))
	if err := unix.Unlink(name); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: name, Err: err}
	}
	return nil
}
