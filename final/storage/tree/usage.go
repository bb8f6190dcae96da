//go:build linux

package tree

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Usage adds up the sizes of all files below the folder at path, and counts the files and
// folders, not the topmost. A file with several names counts once. What goes meanwhile does not.
func Usage(path string) (bytes, inodes int64, err error) {
	dir, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	u := usage{seen: map[[2]uint64]bool{}}
	err = u.add(dir)
	return u.bytes, u.inodes, err
}

type usage struct {
	bytes, inodes int64
	seen          map[[2]uint64]bool
}

func (u *usage) add(dir *os.File) error {
	defer runtime.KeepAlive(dir)
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return pathError("fstatat", name, err)
		}
		if isDir(&st) {
			u.inodes++
			sub, err := openFolder(int(dir.Fd()), name)
			if err == nil {
				err = u.add(sub)
				sub.Close()
			}
			if ignoreMissing(pathError("open", name, err)) != nil {
				return err
			}
			continue
		}
		if st.Nlink > 1 {
			id := [2]uint64{st.Dev, st.Ino}
			if u.seen[id] {
				continue
			}
			u.seen[id] = true
		}
		u.inodes++
		u.bytes += st.Size
	}
	return nil
}
