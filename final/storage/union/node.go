//go:build linux

package union

import (
	"context"
	"errors"
	"path"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file or folder that the kernel knows. Where it is in the union, the library keeps.
type node struct {
	fs.Inode
	u  *Union
	id fileID
}

// What the kernel can ask a node.
var (
	_ fs.NodeLookuper      = (*node)(nil)
	_ fs.NodeGetattrer     = (*node)(nil)
	_ fs.NodeSetattrer     = (*node)(nil)
	_ fs.NodeReaddirer     = (*node)(nil)
	_ fs.NodeReadlinker    = (*node)(nil)
	_ fs.NodeOpener        = (*node)(nil)
	_ fs.NodeCreater       = (*node)(nil)
	_ fs.NodeMkdirer       = (*node)(nil)
	_ fs.NodeMknoder       = (*node)(nil)
	_ fs.NodeSymlinker     = (*node)(nil)
	_ fs.NodeLinker        = (*node)(nil)
	_ fs.NodeUnlinker      = (*node)(nil)
	_ fs.NodeRmdirer       = (*node)(nil)
	_ fs.NodeRenamer       = (*node)(nil)
	_ fs.NodeGetxattrer    = (*node)(nil)
	_ fs.NodeSetxattrer    = (*node)(nil)
	_ fs.NodeRemovexattrer = (*node)(nil)
	_ fs.NodeListxattrer   = (*node)(nil)
	_ fs.NodeStatfser      = (*node)(nil)
	_ fs.NodeFsyncer       = (*node)(nil)
)

// errnoOf gives the number that the kernel wants.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err == nil || errors.As(err, &errno) {
		return errno
	}
	return unix.EIO
}

func (n *node) path() string { return n.Path(n.Root()) }

func (n *node) at(name string) string { return path.Join(n.path(), name) }

// child gives the kernel an entry.
func (n *node) child(ctx context.Context, e entry, out *fuse.EntryOut) *fs.Inode {
	fill(&out.Attr, &e.stat)
	id := n.u.id(&e.stat)
	return n.NewInode(ctx, &node{u: n.u, id: id}, n.u.stable(id, e.stat.Mode))
}

// fill gives attributes; the inode's number is the library's matter.
func fill(out *fuse.Attr, st *unix.Statx_t) {
	out.Mode, out.Nlink, out.Size, out.Blocks = uint32(st.Mode), st.Nlink, st.Size, st.Blocks
	out.Uid, out.Gid, out.Blksize = st.Uid, st.Gid, st.Blksize
	out.Rdev = uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor))
	out.Atime, out.Atimensec = uint64(st.Atime.Sec), st.Atime.Nsec
	out.Mtime, out.Mtimensec = uint64(st.Mtime.Sec), st.Mtime.Nsec
	out.Ctime, out.Ctimensec = uint64(st.Ctime.Sec), st.Ctime.Nsec
}

// caller is who makes the request.
func caller(ctx context.Context) owner {
	if c, ok := fuse.FromContext(ctx); ok {
		return owner{c.Uid, c.Gid}
	}
	return owner{}
}

// Lookup finds a name in the folder.
func (n *node) Lookup(
	ctx context.Context, name string, out *fuse.EntryOut,
) (*fs.Inode, syscall.Errno) {
	n.u.mu.RLock()
	defer n.u.mu.RUnlock()
	e, err := n.u.find(n.at(name))
	if err != nil {
		return nil, errnoOf(err)
	}
	return n.child(ctx, e, out), 0
}

// with calls f with a descriptor of the node: to be changed, it is copied up before. One that has
// no name any more is found by those who have it open.
func (n *node) with(change bool, f func(fd int) error) syscall.Errno {
	find := n.u.find
	if change {
		n.u.mu.Lock()
		defer n.u.mu.Unlock()
		find = n.u.copyUp
	} else {
		n.u.mu.RLock()
		defer n.u.mu.RUnlock()
	}
	e, err := find(n.path())
	var fd int
	if err == nil && (n.IsRoot() || n.u.id(&e.stat) == n.id) {
		fd, err = n.u.handle(e)
	} else if fd = n.u.anyOpen(n.id); fd >= 0 {
		err = nil
	} else if err == nil { // another has its name
		err = unix.ESTALE
	}
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Close(fd)
	return errnoOf(f(fd))
}

// Getattr gives the attributes.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.with(false, func(fd int) error {
		var st unix.Statx_t
		err := statx(fd, "", &st)
		fill(&out.Attr, &st)
		return err
	})
}

// Setattr changes attributes.
func (n *node) Setattr(
	_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut,
) syscall.Errno {
	return n.with(true, func(fd int) error {
		if err := setAttributes(fd, in); err != nil {
			return err
		}
		var st unix.Statx_t
		err := statx(fd, "", &st)
		fill(&out.Attr, &st)
		return err
	})
}

// setAttributes: the size first, since that takes bits of the mode away, and so does the owner.
func setAttributes(fd int, in *fuse.SetAttrIn) error {
	if size, ok := in.GetSize(); ok {
		if err := unix.Truncate(proc(fd), int64(size)); err != nil {
			return err
		}
	}
	uid, haveUID := in.GetUID()
	gid, haveGID := in.GetGID()
	if haveUID || haveGID {
		to := [2]int{-1, -1}
		if haveUID {
			to[0] = int(uid)
		}
		if haveGID {
			to[1] = int(gid)
		}
		if err := unix.Fchownat(fd, "", to[0], to[1], unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if mode, ok := in.GetMode(); ok {
		if err := unix.Chmod(proc(fd), mode&0o7777); err != nil {
			return err
		}
	}
	return setTimes(fd, in)
}

func setTimes(fd int, in *fuse.SetAttrIn) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	atime, haveA := in.GetATime()
	mtime, haveM := in.GetMTime()
	if !haveA && !haveM {
		return nil
	}
	if haveA {
		times[0] = unix.Timespec{Sec: atime.Unix(), Nsec: int64(atime.Nanosecond())}
	}
	if haveM {
		times[1] = unix.Timespec{Sec: mtime.Unix(), Nsec: int64(mtime.Nanosecond())}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, proc(fd), times, 0)
}

// Readdir lists the folder.
func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.u.mu.RLock()
	defer n.u.mu.RUnlock()
	all, err := n.u.list(n.path())
	if err != nil {
		return nil, errnoOf(err)
	}
	dots := []fuse.DirEntry{{Name: ".", Mode: unix.S_IFDIR}, {Name: "..", Mode: unix.S_IFDIR}}
	return fs.NewListDirStream(append(dots, all...)), 0
}

// Readlink gives where a link leads to.
func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	buf := make([]byte, unix.PathMax)
	errno := n.with(false, func(fd int) error {
		length, err := unix.Readlinkat(fd, "", buf)
		buf = buf[:max(length, 0)]
		return err
	})
	return buf, errno
}

// Mkdir makes a folder.
func (n *node) Mkdir(
	ctx context.Context, name string, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, syscall.Errno) {
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	e, err := n.u.mkdir(n.path(), name, mode&0o7777, caller(ctx))
	if err != nil {
		return nil, errnoOf(err)
	}
	return n.child(ctx, e, out), 0
}

// add makes what is no folder.
func (n *node) add(
	ctx context.Context, name string, out *fuse.EntryOut, do func(fd int, name string) error,
) (*fs.Inode, syscall.Errno) {
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	e, err := n.u.add(n.path(), name, caller(ctx), do)
	if err != nil {
		return nil, errnoOf(err)
	}
	return n.child(ctx, e, out), 0
}

// Mknod makes a device, FIFO, socket or empty file.
func (n *node) Mknod(
	ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut,
) (*fs.Inode, syscall.Errno) {
	if mode&unix.S_IFMT == unix.S_IFCHR && dev == 0 {
		return nil, unix.EPERM // it would hide what is below
	}
	return n.add(ctx, name, out, func(fd int, name string) error {
		return unix.Mknodat(fd, name, mode, int(dev))
	})
}

// Symlink makes a symbolic link.
func (n *node) Symlink(
	ctx context.Context, target, name string, out *fuse.EntryOut,
) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, out, func(fd int, name string) error {
		return unix.Symlinkat(target, fd, name)
	})
}

// Link makes a hard link.
func (n *node) Link(
	ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut,
) (*fs.Inode, syscall.Errno) {
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	from := target.EmbeddedInode()
	e, err := n.u.link(from.Path(from.Root()), n.at(name))
	if err != nil {
		return nil, errnoOf(err)
	}
	return n.child(ctx, e, out), 0
}

// Unlink deletes a file.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	return errnoOf(n.u.remove(n.at(name), false))
}

// Rmdir deletes a folder that is empty.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	return errnoOf(n.u.remove(n.at(name), true))
}

// Rename gives another name; two names cannot be exchanged.
func (n *node) Rename(
	_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32,
) syscall.Errno {
	if flags&^unix.RENAME_NOREPLACE != 0 {
		return unix.EINVAL
	}
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	to := parent.EmbeddedInode()
	return errnoOf(n.u.rename(n.at(name), path.Join(to.Path(to.Root()), newName), flags != 0))
}

// Getxattr gives an extended attribute.
func (n *node) Getxattr(_ context.Context, key string, dest []byte) (uint32, syscall.Errno) {
	return n.xattr(func(path string) (int, error) { return unix.Getxattr(path, key, dest) })
}

// Listxattr gives the names of the extended attributes.
func (n *node) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return n.xattr(func(path string) (int, error) { return unix.Listxattr(path, dest) })
}

func (n *node) xattr(get func(path string) (int, error)) (uint32, syscall.Errno) {
	size := 0
	errno := n.with(false, func(fd int) error {
		var err error
		size, err = get(proc(fd))
		return err
	})
	return uint32(max(size, 0)), errno
}

// Setxattr changes an extended attribute.
func (n *node) Setxattr(_ context.Context, key string, data []byte, flags uint32) syscall.Errno {
	return n.with(true, func(fd int) error {
		return unix.Setxattr(proc(fd), key, data, int(flags))
	})
}

// Removexattr deletes an extended attribute.
func (n *node) Removexattr(_ context.Context, key string) syscall.Errno {
	return n.with(true, func(fd int) error { return unix.Removexattr(proc(fd), key) })
}

// Statfs is about the uppermost writable branch.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	i, err := n.u.above(len(n.u.branches) - 1)
	if err != nil {
		i = 0
	}
	for j := range n.u.branches[:i] {
		if n.u.branches[j].Writable {
			i = j
			break
		}
	}
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(n.u.branches[i].root, &st); err != nil {
		return errnoOf(err)
	}
	out.FromStatfsT(&st)
	return 0
}

// Fsync of a folder has nothing to do; a file has its own.
func (n *node) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	if syncer, ok := f.(fs.FileFsyncer); ok {
		return syncer.Fsync(ctx, flags)
	}
	return 0
}
