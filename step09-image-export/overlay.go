//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// A whiteout hides a name that a lower layer has, an opaque folder everything that
// lower layers have in it. An archive spells them as empty files of these names, as
// AUFS did; overlayfs as a device 0/0 and an attribute of the folder.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	opaqueXattr    = "trusted.overlay.opaque"
)

// maxLower is how many folders overlayfs lays over each other: OVL_MAX_STACK.
const maxLower = 500

func makeWhiteout(fd int, name string) error {
	if err := unix.Mknodat(fd, name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("mknod a whiteout of %q: %w", name, err)
	}
	return nil
}

func makeOpaque(root *os.Root, folder string) error {
	f, err := root.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fsetxattr(int(f.Fd()), opaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("fsetxattr %s: %w", opaqueXattr, err)
	}
	return nil
}

func isWhiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

func isOpaque(path string) bool {
	var value [2]byte
	n, err := unix.Lgetxattr(path, opaqueXattr, value[:])
	return err == nil && string(value[:n]) == "y"
}

// mountOverlay mounts the union of the layers, lowest first, and the container's
// writable layer at cfg.Rootfs: Documentation/filesystems/overlayfs.rst. It does so in
// the container's mount namespace, so that the mount ends with the container.
func mountOverlay(cfg config) error {
	dir := filepath.Dir(cfg.Rootfs)
	return mountUnion(cfg.Rootfs, lowerDirs(cfg), []string{dir + "/upper", dir + "/work"})
}

// mountUnion mounts the union of the folders, uppermost first, and of the writable one
// (with overlayfs's own beside it), which comes on top, at target; without a writable
// one it can only be read.
func mountUnion(target string, lower, writable []string) error {
	// The options of mount(2) must fit into a page, 4096 bytes. So the folders are given
	// as descriptors, by short names, and there is room for hundreds of layers.
	var names []string
	var keep []*os.File
	for _, path := range slices.Concat(lower, writable) {
		f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		names = append(names, fmt.Sprint(f.Fd()))
		keep = append(keep, f)
	}
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return fmt.Errorf("chdir to the descriptors: %w", err)
	}
	// Off: what would leave things in the writable layer that an archive cannot tell.
	n := len(lower)
	data := "redirect_dir=off,metacopy=off,index=off,lowerdir=" + strings.Join(names[:n], ":")
	if writable != nil {
		data += ",upperdir=" + names[n] + ",workdir=" + names[n+1]
	}
	if n > maxLower || len(data) >= os.Getpagesize() {
		return fmt.Errorf("an overlay of %d folders: the kernel takes %d at most", n, maxLower)
	}
	err := mount("overlay", target, "overlay", 0, data)
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: is %s itself on an overlay? It must be on a disk or tmpfs", err, stateDir)
	}
	for _, f := range keep {
		f.Close()
	}
	return err
}

// lowerDirs are the folders that are only read, in overlayfs's order: uppermost first.
// A layer that is there twice counts where it is uppermost; overlayfs takes it once.
func lowerDirs(cfg config) []string {
	dirs := []string{filepath.Join(containerDir(cfg.ID), "init")}
	seen := map[string]bool{}
	for i := len(cfg.Layers) - 1; i >= 0; i-- {
		layer := cfg.Layers[i]
		if !seen[layer] {
			seen[layer] = true
			dirs = append(dirs, layerDir(layer))
		}
		if isOpaque(layerDir(layer)) {
			break // overlayfs heeds this attribute of every folder but a layer's root
		}
	}
	logrus.Debugf("init: lower folders %q", dirs)
	return dirs
}

// inLayers says whether the image has something at the path: what overlayfs does for
// every name that it looks up.
func inLayers(layers []string, path string) bool {
	for i := len(layers) - 1; i >= 0; i-- {
		at := layerDir(layers[i])
		hidden := false // what lower layers have here
		parts := strings.Split(path, "/")
		for n, part := range parts {
			hidden = hidden || isOpaque(at)
			at = filepath.Join(at, part)
			info, err := os.Lstat(at)
			if err != nil {
				break
			}
			if n == len(parts)-1 {
				return !isWhiteout(info)
			}
			if !info.IsDir() {
				return false
			}
		}
		if hidden {
			return false
		}
	}
	return false
}
