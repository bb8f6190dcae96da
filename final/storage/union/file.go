//go:build linux

package union

import (
	"context"
	"os"
	"path"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// file is an open file: the branch's. When that is copied up, the descriptor becomes the copy's.
type file struct {
	*fs.LoopbackFile
	u  *Union
	id fileID
	fd int
}

func (u *Union) newFile(f *os.File, e entry) *file {
	opened := &file{u: u, id: u.id(&e.stat), fd: int(f.Fd())}
	opened.LoopbackFile = fs.NewLoopbackFileFromOS(f)
	u.opened(opened.id, opened)
	return opened
}

// Release closes it.
func (f *file) Release(ctx context.Context) syscall.Errno {
	f.u.closed(f.id, f)
	return f.LoopbackFile.Release(ctx)
}

// PassthroughFd: the kernel must ask us, as what a file is may change while it is open.
func (f *file) PassthroughFd() (int, bool) { return -1, false }

// Ioctl is none of a union's.
func (f *file) Ioctl(context.Context, uint32, uint64, []byte, []byte) (int32, syscall.Errno) {
	return 0, unix.ENOTTY
}

// Open opens the file.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if int(flags)&(unix.O_ACCMODE|unix.O_TRUNC) == unix.O_RDONLY {
		n.u.mu.RLock()
		defer n.u.mu.RUnlock()
	} else {
		n.u.mu.Lock()
		defer n.u.mu.Unlock()
	}
	f, e, err := n.u.openFile(n.path(), int(flags))
	if err != nil {
		return nil, 0, errnoOf(err)
	}
	return n.u.newFile(f, e), n.keepCache(), 0
}

// keepCache lets the kernel keep what it has read, when nobody else writes to the branches.
func (n *node) keepCache() uint32 {
	if n.u.cached {
		return fuse.FOPEN_KEEP_CACHE
	}
	return 0
}

// Create makes a file and opens it.
func (n *node) Create(
	ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	at := path.Join(n.path(), name)
	_, err := n.u.find(at)
	if err == nil && flags&unix.O_EXCL != 0 {
		return nil, nil, 0, unix.EEXIST
	}
	if missing(err) {
		_, err = n.u.add(n.path(), name, caller(ctx), func(fd int, name string) error {
			const create = unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
			made, err := unix.Openat(fd, name, create, mode&0o7777)
			if err != nil {
				return err
			}
			return unix.Close(made)
		})
	}
	if err != nil {
		return nil, nil, 0, errnoOf(err)
	}
	f, e, err := n.u.openFile(at, int(flags))
	if err != nil {
		return nil, nil, 0, errnoOf(err)
	}
	return n.child(ctx, e, out), n.u.newFile(f, e), n.keepCache(), 0
}
