//go:build linux

package main

import (
	"fmt"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// makeMountsPrivate cuts the tie between this mount namespace and the host's.
// A new mount namespace is a copy, and where the host's mounts are shared (systemd
// makes them so) the copies are peers of the originals: what is mounted here would
// be mounted there as well. See mount_namespaces(7), "Shared subtrees".
func makeMountsPrivate() error {
	return mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// mountProc mounts a new /proc: one that shows the pid namespace of its mounter.
func mountProc() error {
	return mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// mount is mount(2) with a log line and an error that says what was tried.
func mount(source, target, fstype string, flags uintptr, data string) error {
	logrus.Debugf("init: mount %q on %q (type %q, flags %#x, data %q)",
		source, target, fstype, flags, data)
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %q on %q (type %q, flags %#x, data %q): %w",
			source, target, fstype, flags, data, err)
	}
	return nil
}
