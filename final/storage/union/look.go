//go:build linux

package union

import (
	"errors"
	"os"
	"path"
	"strings"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Paths are relative to the root, which is "".

// folder is a folder of the union.
type folder struct {
	path string
	in   []int // the branches that have it, and that show through, the uppermost first
	last int   // what is below this branch does not show through
}

// entry is a name in the union.
type entry struct {
	dir    folder
	name   string
	branch int
	stat   unix.Statx_t
}

// state is what a branch has of a name.
type state struct {
	there, hides bool // hides: what branches below have of that name
	stat         unix.Statx_t
}

func split(name string) (dir, base string) {
	dir, base = path.Split(name)
	return strings.TrimSuffix(dir, "/"), base
}

// maxPath is how long a path is that is opened at once; the kernel takes PATH_MAX.
const maxPath = 2048

// open opens a folder of a branch. No link is followed.
func (b *branch) open(dir string, flags int) (int, error) {
	at := b.root
	for len(dir) > maxPath {
		cut := strings.LastIndexByte(dir[:maxPath], '/')
		fd, err := openFolder(at, dir[:cut], unix.O_PATH)
		if at != b.root {
			unix.Close(at)
		}
		if err != nil {
			return fd, err
		}
		at, dir = fd, dir[cut+1:]
	}
	fd, err := openFolder(at, dir, flags)
	if at != b.root {
		unix.Close(at)
	}
	return fd, err
}

func openFolder(at int, dir string, flags int) (int, error) {
	if dir == "" {
		dir = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_DIRECTORY | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(at, dir, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// within calls f with a folder of a branch.
func (b *branch) within(dir string, f func(fd int) error) error {
	fd, err := b.open(dir, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

func statx(dir int, name string, st *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_SYNC_AS_STAT | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return unix.Statx(dir, name, flags, statMask, st)
}

func missing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// look asks a branch about a name in a folder that it has.
func (b *branch) look(dir, name string) (state, error) {
	var s state
	err := b.within(dir, func(fd int) error {
		err := statx(fd, name, &s.stat)
		if err == nil {
			// As overlayfs hides names, and layers of images sometimes have it.
			device := s.stat.Mode&unix.S_IFMT == unix.S_IFCHR &&
				s.stat.Rdev_major == 0 && s.stat.Rdev_minor == 0
			s.there, s.hides = !device, device
		} else if !missing(err) {
			return err
		}
		err = unix.Faccessat(fd, prefix+name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW)
		s.hides = s.hides || err == nil
		return nil
	})
	if missing(err) { // the folder has gone behind our back
		return state{}, nil
	}
	return s, err
}

func isDir(st *unix.Statx_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// isOpaque says whether a folder of a branch hides what is below.
func (b *branch) isOpaque(dir string) bool {
	found := false
	_ = b.within(dir, func(fd int) error { // one that is not there hides nothing
		found = unix.Faccessat(fd, opaque, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
		return nil
	})
	return found
}

// folder finds a folder.
func (u *Union) folder(dir string) (folder, error) {
	if !u.cached {
		return u.findFolder(dir)
	}
	u.known.Lock()
	f, ok := u.known.folders[dir]
	u.known.Unlock()
	if ok {
		return f, nil
	}
	f, err := u.findFolder(dir)
	if err == nil {
		u.known.Lock()
		if u.known.folders == nil || len(u.known.folders) > 10_000 {
			u.known.folders = map[string]folder{}
		}
		u.known.folders[dir] = f
		u.known.Unlock()
	}
	return f, err
}

// forget is for those who make a folder another one, or take it away. Whoever is known, all above
// are known, too.
func (u *Union) forget(dir string) {
	u.known.Lock()
	defer u.known.Unlock()
	if _, ok := u.known.folders[dir]; !ok {
		return
	}
	delete(u.known.folders, dir)
	for other := range u.known.folders {
		if strings.HasPrefix(other, dir+"/") {
			delete(u.known.folders, other)
		}
	}
}

// renew is for those who bring a folder to one more branch: what is in it is as before.
func (u *Union) renew(dir string) error {
	if !u.cached {
		return nil
	}
	f, err := u.findFolder(dir)
	u.known.Lock()
	defer u.known.Unlock()
	if _, ok := u.known.folders[dir]; ok && err == nil {
		u.known.folders[dir] = f
	}
	return err
}

func (u *Union) findFolder(dir string) (folder, error) {
	if dir == "" {
		f := folder{last: len(u.branches) - 1}
		for i := range u.branches {
			f.in = append(f.in, i)
			if u.branches[i].isOpaque("") {
				f.last = i
				break
			}
		}
		return f, nil
	}
	above, name := split(dir)
	parent, err := u.folder(above)
	if err != nil {
		return folder{}, err
	}
	f := folder{path: dir, last: parent.last}
	for _, i := range parent.in {
		b := &u.branches[i]
		s, err := b.look(above, name)
		switch {
		case err != nil:
			return f, err
		case s.there && !isDir(&s.stat) && len(f.in) == 0:
			return f, unix.ENOTDIR
		case s.there && !isDir(&s.stat), !s.there && s.hides:
			f.last = min(f.last, i-1)
		case s.there:
			f.in = append(f.in, i)
			if s.hides || b.isOpaque(dir) {
				f.last = min(f.last, i)
			}
		}
		if f.last <= i {
			break
		}
	}
	if len(f.in) == 0 {
		return f, unix.ENOENT
	}
	return f, nil
}

// find finds a name.
func (u *Union) find(name string) (entry, error) {
	if name == "" {
		root, err := u.folder("")
		if err != nil {
			return entry{}, err
		}
		e := entry{dir: root, branch: root.in[0]}
		return e, statx(u.branches[e.branch].root, "", &e.stat)
	}
	dir, base := split(name)
	if strings.HasPrefix(base, prefix) {
		return entry{}, unix.ENOENT
	}
	f, err := u.folder(dir)
	if err != nil {
		return entry{}, err
	}
	for _, i := range f.in {
		s, err := u.branches[i].look(dir, base)
		if err != nil {
			return entry{}, err
		}
		if s.there {
			return entry{dir: f, name: base, branch: i, stat: s.stat}, nil
		}
		if s.hides {
			break
		}
	}
	return entry{dir: f, name: base}, unix.ENOENT
}

// limit is the lowest branch in which a name would be seen, if it were made there.
func (u *Union) limit(f folder, name string) (int, error) {
	for _, i := range f.in {
		s, err := u.branches[i].look(f.path, name)
		if err != nil {
			return 0, err
		}
		if s.there || s.hides {
			return min(i, f.last), nil
		}
	}
	return f.last, nil
}

// below says whether a name would show through, were the entry not there.
func (u *Union) below(e entry) (bool, error) {
	for _, i := range e.dir.in {
		if i < e.branch {
			continue
		}
		s, err := u.branches[i].look(e.dir.path, e.name)
		if err != nil {
			return false, err
		}
		if s.there && i > e.branch {
			return true, nil
		}
		if s.hides {
			return false, nil
		}
	}
	return false, nil
}

// handle opens an entry, O_PATH: for its attributes, whatever it is.
func (u *Union) handle(e entry) (int, error) {
	b := &u.branches[e.branch]
	if e.name == "" {
		return b.open("", unix.O_PATH)
	}
	var file int
	err := b.within(e.dir.path, func(fd int) error {
		var err error
		file, err = unix.Openat(fd, e.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return file, err
}

// list gives the names in a folder.
func (u *Union) list(dir string) ([]fuse.DirEntry, error) {
	f, err := u.folder(dir)
	if err != nil {
		return nil, err
	}
	var all []fuse.DirEntry
	seen := map[string]bool{} // or hidden
	for _, i := range f.in {
		var hidden []string
		err := u.branches[i].each(dir, func(d fuse.DirEntry) {
			if name, ok := strings.CutPrefix(d.Name, prefix); ok {
				hidden = append(hidden, name)
				return
			}
			if seen[d.Name] || d.Name == "." || d.Name == ".." {
				return
			}
			seen[d.Name] = true
			if d.Mode != unix.S_IFCHR || u.there(i, dir, d.Name) {
				all = append(all, d)
			}
		})
		if err != nil && !missing(err) {
			return nil, err
		}
		for _, name := range hidden {
			seen[name] = true
		}
	}
	return all, nil
}

// there tells a device from one that hides a name.
func (u *Union) there(branch int, dir, name string) bool {
	s, err := u.branches[branch].look(dir, name)
	return err == nil && s.there
}

// each calls f with each name in a folder of a branch.
func (b *branch) each(dir string, f func(fuse.DirEntry)) error {
	fd, err := b.open(dir, unix.O_RDONLY)
	if err != nil {
		return err
	}
	stream, errno := fs.NewLoopbackDirStreamFd(fd)
	if errno != 0 {
		return errno
	}
	defer stream.Close()
	for stream.HasNext() {
		d, errno := stream.Next()
		if errno != 0 {
			return errno
		}
		f(d)
	}
	return nil
}

// proc is a path to what a descriptor is of, be it a link.
func proc(fd int) string { return "/proc/self/fd/" + itoa(fd) }

// file is a descriptor as package tree wants it, which it does not close.
func (b *branch) folder(dir string) (*os.File, error) {
	fd, err := b.open(dir, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir), nil
}
