//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// volume is one -v SRC:DST[:ro].
type volume struct {
	// Source is a file or folder of the host, Target a path in the container; both absolute.
	Source, Target string
	ReadOnly       bool
}

// parseVolume reads SRC:DST[:ro].
func parseVolume(spec string) (volume, error) {
	parts := strings.Split(spec, ":")
	if len(parts) == 2 {
		parts = append(parts, "rw")
	}
	if len(parts) != 3 || (parts[2] != "ro" && parts[2] != "rw") {
		return volume{}, fmt.Errorf("-v %q: want SRC:DST or SRC:DST:ro", spec)
	}
	if !strings.ContainsRune(parts[0], '/') && parts[0] != "." {
		return volume{}, fmt.Errorf("-v %q: SRC is a path: write ./%s", spec, parts[0])
	}
	if !filepath.IsAbs(parts[1]) || filepath.Clean(parts[1]) == "/" {
		return volume{}, fmt.Errorf("-v %q: DST is an absolute path other than /", spec)
	}
	source, err := filepath.Abs(parts[0])
	if err != nil {
		return volume{}, err
	}
	if _, err := os.Stat(source); err != nil {
		return volume{}, fmt.Errorf("-v %q: %w", spec, err)
	}
	return volume{Source: source, Target: filepath.Clean(parts[1]), ReadOnly: parts[2] == "ro"}, nil
}

// openVolumes takes hold of the sources while they can be reached, before the root
// changes. open_tree(2) (since Linux 5.2) makes a copy of the mounts at a path that
// is attached nowhere yet: a bind mount in the hand. In the order of vols.
func openVolumes(vols []volume) ([]*os.File, error) {
	var trees []*os.File
	for _, v := range vols {
		fd, err := unix.OpenTree(unix.AT_FDCWD, v.Source,
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return nil, fmt.Errorf("open_tree %q: %w", v.Source, err)
		}
		trees = append(trees, os.NewFile(uintptr(fd), v.Source))
		if v.ReadOnly { // before it is attached: it is never seen writable
			attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
			err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
		}
		if err != nil {
			return nil, fmt.Errorf("mount_setattr %q read-only: %w", v.Source, err)
		}
	}
	return trees, nil
}

// attachVolumes mounts what openVolumes opened, at the targets in the new root.
func attachVolumes(vols []volume, trees []*os.File) error {
	for i, v := range vols {
		info, err := trees[i].Stat()
		if err != nil {
			return err
		}
		if err := makeMountPoint(v.Target, info.IsDir()); err != nil {
			return err
		}
		logrus.Debugf("init: move_mount %q to %q", v.Source, v.Target)
		err = unix.MoveMount(int(trees[i].Fd()), "", unix.AT_FDCWD, v.Target,
			unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
		if err != nil {
			return fmt.Errorf("move_mount %q to %q (is one a folder, the other a file?): %w",
				v.Source, v.Target, err)
		}
	}
	return nil
}
