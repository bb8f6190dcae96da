//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// rootfsOptions reads --rootfs, --chroot and -v into cfg.
func rootfsOptions(c *cli.Context, cfg *config) error {
	var err error
	if c.IsSet("rootfs") {
		if cfg.Rootfs, err = rootfsPath(c.String("rootfs")); err != nil {
			return err
		}
	}
	if cfg.Rootfs == "" {
		if c.Bool("chroot") || c.IsSet("volume") {
			return errors.New("--chroot and -v need --rootfs or an image")
		}
		return nil
	}
	cfg.Chroot = c.Bool("chroot")
	// The new /proc of step 03 comes along, as the first volume.
	cfg.Volumes = []volume{{Source: "/proc", Target: "/proc"}}
	for _, spec := range c.StringSlice("volume") {
		v, err := parseVolume(spec)
		if err != nil {
			return err
		}
		cfg.Volumes = append(cfg.Volumes, v)
	}
	resolvConf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cfg.ResolvConf = string(resolvConf)
	// The host's environment stays outside; this is docker's.
	cfg.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + cfg.Hostname, "TERM=" + os.Getenv("TERM"), "HOME=/root",
	}
	return nil
}

// rootfsPath checks the folder given as --rootfs and returns its absolute path.
func rootfsPath(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("--rootfs is empty: is $ROOTFS set?")
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("--rootfs: %w", err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", fmt.Errorf("--rootfs: %w", err)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return "", fmt.Errorf("--rootfs %q is not a folder", dir)
	}
	if path == "/" {
		return "", errors.New("--rootfs / is the host's own root: leave it out, or give a folder")
	}
	return path, nil
}

// enterRootfs makes cfg.Rootfs the root and gives it what programs expect to find there.
func enterRootfs(cfg config) error {
	if cfg.Image != "" {
		if err := mountOverlay(cfg); err != nil {
			return err
		}
	}
	changeRoot := pivotRoot
	if cfg.Chroot {
		changeRoot = chroot
	}
	if err := changeRoot(cfg.Rootfs); err != nil {
		return err
	}
	// From here on every path is one in the container: not even a symbolic link
	// of a hostile image leads out.
	unix.Umask(0) // the modes below are meant as they stand
	for _, m := range standardMounts {
		if cfg.UIDMap != nil {
			if m.fstype == "sysfs" { // a volume: see hostDevices
				continue
			}
			// The group tty is there only if the map has it.
			m.data = strings.TrimSuffix(m.data, ",gid=5")
		}
		if err := makeMountPoint(m.target, true); err != nil {
			return err
		}
		if err := mount(m.fstype, m.target, m.fstype, m.flags, m.data); err != nil {
			return err
		}
	}
	if cfg.UIDMap == nil { // else volumes: see hostDevices
		if err := makeDevices(); err != nil {
			return err
		}
	}
	if err := makeDeviceLinks(); err != nil {
		return err
	}
	unix.Umask(0o022)
	return bindEtcFiles(cfg)
}

// pivotRoot makes rootfs the root of this mount namespace and lets go of the old
// one, so that no path leads to the host any more: pivot_root(2).
func pivotRoot(rootfs string) error {
	// The new root must be a mount point. A folder bound onto itself is one.
	if err := mount(rootfs, rootfs, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Chdir(rootfs); err != nil {
		return fmt.Errorf("chdir %q: %w", rootfs, err)
	}
	// With "." for both, the old root comes to lie on top of the new one, and
	// needs no folder in it.
	logrus.Debugf("init: pivot_root %q", rootfs)
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root %q (is / an initramfs?): %w", rootfs, err)
	}
	// "." is now the topmost mount, the old root. Its mounts under it are busy:
	// MNT_DETACH takes the whole tree away at once.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("umount the old root: %w", err)
	}
	return nil
}

// chroot is how not to do it: it moves this process's root, and the old one stays
// mounted, for whoever finds the way there. The lesson does.
func chroot(rootfs string) error {
	logrus.Debugf("init: chroot %q", rootfs)
	if err := unix.Chroot(rootfs); err != nil {
		return fmt.Errorf("chroot %q: %w", rootfs, err)
	}
	return unix.Chdir("/")
}
