//go:build linux

package driver

import (
	"fmt"

	"golang.org/x/sys/unix"
)

var filesystems = map[int64]string{
	unix.BTRFS_SUPER_MAGIC: "btrfs", unix.EXT4_SUPER_MAGIC: "extfs", unix.F2FS_SUPER_MAGIC: "f2fs",
	unix.FUSE_SUPER_MAGIC: "fuse", unix.NFS_SUPER_MAGIC: "nfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	unix.TMPFS_MAGIC:           "tmpfs", unix.V9FS_MAGIC: "9p", unix.XFS_SUPER_MAGIC: "xfs",
	unix.RAMFS_MAGIC: "ramfs", 0x2fc12fc1: "zfs", 0xca451a4e: "bcachefs", 0x786f4256: "vboxsf",
}

// FilesystemName is the name of a file system by the number that statfs(2) has for it.
func FilesystemName(magic int64) string {
	if name, ok := filesystems[magic]; ok {
		return name
	}
	return fmt.Sprintf("%#x", magic)
}
