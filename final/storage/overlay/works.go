//go:build linux

package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/storage/driver"
)

// Works says why overlayfs does not work with its folders below dir, or nil: it tries. A file
// that is below is deleted and one is written, which takes all that the upper folder needs.
func Works(dir string) error {
	test, err := os.MkdirTemp(dir, ".overlay-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(test)
	for _, sub := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(test, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(test, "lower", "file"), nil, 0o644); err != nil {
		return err
	}
	if err := try(test); err != nil {
		return explain(dir, err)
	}
	return nil
}

func try(test string) error {
	options := []string{
		"lowerdir=" + fsmount.Escape(filepath.Join(test, "lower")),
		"upperdir=" + fsmount.Escape(filepath.Join(test, "upper")),
		"workdir=" + fsmount.Escape(filepath.Join(test, "work")),
	}
	if inUserNamespace() {
		options = append(options, "userxattr")
	}
	tree, err := fsmount.New("overlay", "overlay", options)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := unix.Unlinkat(int(tree.Fd()), "file", 0); err != nil {
		return fmt.Errorf("delete a file on an overlay: %w", err)
	}
	if err := unix.Mkdirat(int(tree.Fd()), "file", 0o755); err != nil {
		return fmt.Errorf("make a folder in the place of a file on an overlay: %w", err)
	}
	return nil
}

// explain says what most often is the cause.
func explain(dir string, err error) error {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return err
	}
	name := driver.FilesystemName(st.Type)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("the kernel has no overlayfs (modprobe overlay, CONFIG_OVERLAY_FS): %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("mounting takes root, or a user namespace and Linux 5.11: %w", err)
	case st.Type == unix.OVERLAYFS_SUPER_MAGIC:
		return fmt.Errorf("%q is itself on an overlay, as in a container, and overlayfs cannot write "+
			"there: take a folder on a disk or a tmpfs (--data-root, a volume), "+
			"or the driver vfs or fuse: %w", dir, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("overlayfs cannot write on %s (it takes extended attributes, file types in "+
			"listings, whiteouts): take a folder on ext4, XFS, btrfs or tmpfs, or the driver vfs: %w",
			name, err)
	}
	return err
}
