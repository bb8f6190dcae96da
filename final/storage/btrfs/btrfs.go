//go:build linux

// Package btrfs is the storage driver for a folder on btrfs: a layer is a subvolume, and begins as
// a snapshot of its parent's, which takes no time and no room. It needs no btrfs-progs.
//
//	layers/ID/diff        the subvolume; of an image's layer, one that nobody can write to
//
// A snapshot shares all blocks with what it was made of, until one of both writes to a block: then
// it gets a new one for itself. So there are no layers to look through when a file is opened, and
// of a large file that is changed only the block is copied.
//
// See btrfs-subvolume(8), btrfs-qgroup(8), linux/btrfs.h.
package btrfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/driver"
	"minidocker/final/storage/whole"
)

// Btrfs is the driver.
type Btrfs struct {
	whole.Layers
}

// Works says why the driver does not work below dir, or nil: it makes a subvolume and deletes it.
func Works(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return fmt.Errorf("%q is on %s and not on btrfs: take a folder that is (--data-root)",
			dir, driver.FilesystemName(st.Type))
	}
	test := filepath.Join(dir, fmt.Sprintf(".btrfs-test-%d", os.Getpid()))
	if err := createSubvolume(test); err != nil {
		return err
	}
	if err := destroySubvolume(test); err != nil {
		// An empty one can be deleted as a folder, since Linux 4.18, also by who may not do this.
		return errors.Join(fmt.Errorf("it takes root, or the mount option user_subvol_rm_allowed: %w",
			err), os.Remove(test))
	}
	return nil
}

// Open opens the folder of the driver, and makes it if it is not there.
func Open(dir string) (*Btrfs, error) {
	store, err := driver.OpenStore(dir, destroy)
	return &Btrfs{whole.Layers{Store: store, Trees: trees{}}}, err
}

// Name is "btrfs".
func (b *Btrfs) Name() string { return "btrfs" }

// Status is what info prints.
func (b *Btrfs) Status() [][2]string {
	status := [][2]string{{"Backing Filesystem", "btrfs"}}
	var st unix.Statfs_t
	if unix.Statfs(b.Dir, &st) == nil {
		free := fmt.Sprintf("%d of %d MiB", int64(st.Bavail)*st.Bsize>>20, int64(st.Blocks)*st.Bsize>>20)
		status = append(status, [2]string{"Free Space", free})
	}
	return status
}

// Close has nothing to do.
func (b *Btrfs) Close() error { return nil }

type trees struct{}

// Begin makes a snapshot.
func (trees) Begin(path, parent string, o driver.Options) error {
	root := filepath.Join(path, "diff")
	var err error
	if parent == "" {
		if err = createSubvolume(root); err == nil {
			err = os.Chmod(root, 0o755) // whatever the umask
		}
	} else {
		err = snapshot(filepath.Join(parent, "diff"), root)
	}
	if err == nil && o.Size > 0 {
		err = limit(root, o.Size)
	}
	return err
}

// Show opens the subvolume.
func (trees) Show(path string) (*os.File, func() error, error) {
	root, err := os.Open(filepath.Join(path, "diff"))
	return root, root.Close, err
}

// Seal makes it read-only.
func (trees) Seal(path string) error { return setReadOnly(filepath.Join(path, "diff")) }

// destroy deletes the subvolume in a folder that is going to be deleted.
func destroy(path string) error {
	root := filepath.Join(path, "diff")
	if !isSubvolume(root) {
		return nil // killed before it was there
	}
	// The kernel would take away what is mounted in it.
	if at, err := mountedIn(root); at != "" || err != nil {
		if err == nil {
			err = fmt.Errorf("%q is mounted there, unmount it first: %w", at, unix.EBUSY)
		}
		return err
	}
	err := destroySubvolume(root)
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil // a container has made subvolumes in it: they go file by file
	}
	return err
}

// mountedIn finds a mount point in a folder.
func mountedIn(dir string) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	// Blanks and such are written as \040: proc_pid_mountinfo(5).
	escape := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`)
	dir = escape.Replace(dir)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			return fields[4], nil
		}
	}
	return "", nil
}

// Mounts is a bind mount of the subvolume.
func (b *Btrfs) Mounts(id string, o driver.MountOptions) ([]driver.Mount, error) {
	if err := b.Check(id); err != nil {
		return nil, err
	}
	options := []string{"bind", "rw"}
	if o.ReadOnly || b.ReadOnly(id) {
		options[1] = "ro"
	}
	return []driver.Mount{{Type: "bind", Source: b.Path(id, "diff"), Options: options}}, nil
}

// Release has nothing to do.
func (b *Btrfs) Release(string) error { return nil }

// Metadata is where the files are.
func (b *Btrfs) Metadata(id string) (map[string]string, error) {
	if err := b.Check(id); err != nil {
		return nil, err
	}
	return map[string]string{"Subvolume": b.Path(id, "diff")}, nil
}
