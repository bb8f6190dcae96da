//go:build linux

package union

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// fileID tells a file from all others there have ever been: an inode number is given again, but
// not to a file of the same birth.
type fileID struct {
	major, minor uint32
	inode        uint64
	born         uint64
}

func idOf(st *unix.Statx_t) fileID {
	return fileID{st.Dev_major, st.Dev_minor, st.Ino,
		uint64(st.Btime.Sec)*1_000_000_000 + uint64(st.Btime.Nsec)}
}

// ids knows which files are the same to those who use the union. A file that is copied up is
// another one on the disk: whoever has it open goes on with the copy.
type ids struct {
	lock    sync.Mutex
	origins map[fileID]fileID // of copies: what they were when they were first seen
	devices []uint64
	open    map[fileID]map[*file]bool
}

// id is what a file is to the users.
func (n *ids) id(st *unix.Statx_t) fileID {
	n.lock.Lock()
	defer n.lock.Unlock()
	id := idOf(st)
	if origin, ok := n.origins[id]; ok {
		return origin
	}
	return id
}

// copied notes that one file is now what another was.
func (n *ids) copied(id, origin fileID) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.origins == nil {
		n.origins = map[fileID]fileID{}
	}
	n.origins[id] = origin
}

// gone is for a file one of whose names is going to be deleted.
func (n *ids) gone(st *unix.Statx_t) {
	if st.Nlink > 1 && !isDir(st) {
		return
	}
	n.lock.Lock()
	delete(n.origins, idOf(st))
	n.lock.Unlock()
}

// stable is how the library knows a file: the number that users see, and the birth.
func (n *ids) stable(id fileID, mode uint16) fs.StableAttr {
	n.lock.Lock()
	defer n.lock.Unlock()
	device, at := unix.Mkdev(id.major, id.minor), 0
	for at < len(n.devices) && n.devices[at] != device {
		at++
	}
	if at == len(n.devices) {
		n.devices = append(n.devices, device)
	}
	return fs.StableAttr{
		Mode: uint32(mode) & unix.S_IFMT, Ino: id.inode ^ uint64(at)<<48, Gen: id.born | 1,
	}
}

func (n *ids) opened(id fileID, f *file) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.open == nil {
		n.open = map[fileID]map[*file]bool{}
	}
	if n.open[id] == nil {
		n.open[id] = map[*file]bool{}
	}
	n.open[id][f] = true
}

func (n *ids) closed(id fileID, f *file) {
	n.lock.Lock()
	defer n.lock.Unlock()
	delete(n.open[id], f)
	if len(n.open[id]) == 0 {
		delete(n.open, id)
	}
}

// anyOpen gives a descriptor of a file that perhaps has no name any more; it is -1 if nobody has
// it open.
func (n *ids) anyOpen(id fileID) int {
	n.lock.Lock()
	defer n.lock.Unlock()
	for f := range n.open[id] {
		if fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			return fd
		}
	}
	return -1
}

// reopen lets all that have a file open read another, which handle is of: its copy.
func (n *ids) reopen(id fileID, handle int) error {
	n.lock.Lock()
	defer n.lock.Unlock()
	for f := range n.open[id] {
		// They only read: else it would have been copied before.
		fd, err := unix.Open(proc(handle), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Dup3(fd, f.fd, unix.O_CLOEXEC)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
