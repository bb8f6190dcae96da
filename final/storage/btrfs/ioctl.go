//go:build linux

package btrfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of ioctl(2) to a folder on btrfs, and their arguments: linux/btrfs.h.
const (
	iocSubvolCreate = ioW | 4096<<16 | magic<<8 | 14 // BTRFS_IOC_SUBVOL_CREATE
	iocSnapDestroy  = ioW | 4096<<16 | magic<<8 | 15
	iocSnapCreateV2 = ioW | 4096<<16 | magic<<8 | 23
	iocSubvolFlags  = ioW | 8<<16 | magic<<8 | 26 // BTRFS_IOC_SUBVOL_SETFLAGS
	iocQuotaCtl     = ioW | ioR | 16<<16 | magic<<8 | 40
	iocQgroupLimit  = ioR | 48<<16 | magic<<8 | 43
	iocRescanWait   = magic<<8 | 46 // BTRFS_IOC_QUOTA_RESCAN_WAIT
	subvolReadOnly  = 1 << 1        // BTRFS_SUBVOL_RDONLY
	quotaEnable     = 1             // BTRFS_QUOTA_CTL_ENABLE
	limitMaxExcl    = 1 << 1        // BTRFS_QGROUP_LIMIT_MAX_EXCL
	magic           = 0x94          // BTRFS_IOCTL_MAGIC
	ioW, ioR        = 1 << 30, 2 << 30
	firstInode      = 256 // BTRFS_FIRST_FREE_OBJECTID: the inode of a subvolume's root
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	_    int64
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	fd   int64
	_    [6]uint64
	name [4040]byte
}

type quotaCtl struct{ command, _ uint64 } // struct btrfs_ioctl_quota_ctl_args

// qgroupLimit is struct btrfs_ioctl_qgroup_limit_args. Its first field, the group, is 0: the
// subvolume's own.
type qgroupLimit struct {
	_, flags, _, maxExclusive, _, _ uint64
}

func ioctl[T any](f *os.File, name string, request uint, argument *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request),
		uintptr(unsafe.Pointer(argument)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return &os.PathError{Op: "ioctl " + name, Path: f.Name(), Err: errno}
	}
	return nil
}

// createSubvolume makes an empty subvolume.
func createSubvolume(path string) error {
	return inFolder(path, func(dir *os.File, name string) error {
		var args volArgs
		copy(args.name[:len(args.name)-1], name)
		return ioctl(dir, "BTRFS_IOC_SUBVOL_CREATE", iocSubvolCreate, &args)
	})
}

// snapshot makes a subvolume at path that has the files of the subvolume at from, and shares
// their blocks with it. What is in subvolumes within that one is not in it.
func snapshot(from, path string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	return inFolder(path, func(dir *os.File, name string) error {
		args := volArgsV2{fd: int64(source.Fd())}
		copy(args.name[:len(args.name)-1], name)
		return ioctl(dir, "BTRFS_IOC_SNAP_CREATE_V2", iocSnapCreateV2, &args)
	})
}

// destroySubvolume deletes a subvolume at once, however much is in it; the blocks are freed later.
// It is ENOTEMPTY if another subvolume is in it.
func destroySubvolume(path string) error {
	return inFolder(path, func(dir *os.File, name string) error {
		var args volArgs
		copy(args.name[:len(args.name)-1], name)
		return ioctl(dir, "BTRFS_IOC_SNAP_DESTROY", iocSnapDestroy, &args)
	})
}

// inFolder calls f with the folder that path is in, and the last part of it.
func inFolder(path string, f func(dir *os.File, name string) error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := f(dir, filepath.Base(path)); err != nil {
		return fmt.Errorf("subvolume %q: %w", path, err)
	}
	return nil
}

// setReadOnly makes a subvolume one that nobody can write to.
func setReadOnly(path string) error {
	root, err := os.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	flags := uint64(subvolReadOnly)
	return ioctl(root, "BTRFS_IOC_SUBVOL_SETFLAGS", iocSubvolFlags, &flags)
}

// limit holds a new subvolume to so many bytes that it does not share with others. It turns
// quotas on for the whole file system, where they are not; that reads all of its metadata once.
func limit(path string, bytes int64) error {
	root, err := os.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	l := qgroupLimit{flags: limitMaxExcl, maxExclusive: uint64(bytes)}
	err = ioctl(root, "BTRFS_IOC_QGROUP_LIMIT", iocQgroupLimit, &l)
	if !errors.Is(err, unix.ENOTCONN) { // which is what it says without quotas
		return err
	}
	on := quotaCtl{command: quotaEnable}
	if err := ioctl(root, "BTRFS_IOC_QUOTA_CTL", iocQuotaCtl, &on); err != nil {
		return err
	}
	var nothing uint64
	if err := ioctl(root, "BTRFS_IOC_QUOTA_RESCAN_WAIT", iocRescanWait, &nothing); err != nil {
		return err
	}
	return ioctl(root, "BTRFS_IOC_QGROUP_LIMIT", iocQgroupLimit, &l)
}

// isSubvolume says whether there is a subvolume.
func isSubvolume(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Ino == firstInode && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
