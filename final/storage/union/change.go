//go:build linux

package union

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/tree"
)

// All of these want mu to be held for writing.

func itoa(n int) string { return strconv.Itoa(n) }

// above is the nearest writable branch, from this one up.
func (u *Union) above(branch int) (int, error) {
	for i := branch; i >= 0; i-- {
		if u.branches[i].Writable {
			return i, nil
		}
	}
	return 0, unix.EROFS
}

// bring makes a folder in a branch as it is in the union, with those that it is in.
func (u *Union) bring(to int, dir string) error {
	if dir == "" {
		return nil
	}
	b := &u.branches[to]
	if b.within(dir, func(int) error { return nil }) == nil {
		return nil
	}
	above, name := split(dir)
	if err := u.bring(to, above); err != nil {
		return err
	}
	e, err := u.find(dir)
	if err != nil {
		return err
	}
	from, err := u.branches[e.branch].folder(dir)
	if err != nil {
		return err
	}
	defer from.Close()
	err = b.within(above, func(fd int) error {
		if err := unix.Mkdirat(fd, name, 0o700); err != nil {
			return err
		}
		made, err := b.folder(dir)
		if err != nil {
			return err
		}
		defer made.Close()
		return tree.CopyAttributes(from, made)
	})
	if err != nil {
		return fmt.Errorf("bring %q up: %w", dir, err)
	}
	if err := u.renew(dir); err != nil {
		return err
	}
	return u.keep(e, to)
}

// keep lets an entry that was copied to a branch be the same file to those who know it.
func (u *Union) keep(e entry, to int) error {
	old := u.id(&e.stat)
	copied := e
	copied.branch = to
	fd, err := u.handle(copied)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := statx(fd, "", &st); err != nil {
		return err
	}
	u.copied(idOf(&st), old)
	return u.reopen(old, fd)
}

// copyUp makes an entry one that can be written to: it is copied, if it is in a branch that is
// only read.
func (u *Union) copyUp(name string) (entry, error) {
	e, err := u.find(name)
	if err != nil || u.branches[e.branch].Writable {
		return e, err
	}
	to, err := u.above(e.branch)
	if err != nil {
		return e, err
	}
	return u.copyTo(e, to)
}

// copyTo copies an entry to a branch above.
func (u *Union) copyTo(e entry, to int) (entry, error) {
	name := path.Join(e.dir.path, e.name)
	if isDir(&e.stat) {
		if err := u.bring(to, name); err != nil {
			return e, err
		}
		return u.find(name)
	}
	if err := u.bring(to, e.dir.path); err != nil {
		return e, err
	}
	from, err := u.branches[e.branch].open(e.dir.path, unix.O_PATH)
	if err != nil {
		return e, err
	}
	defer unix.Close(from)
	err = u.work(to, e.dir.path, e.name, func(work int, as string) error {
		return tree.CopyFile(from, e.name, work, as)
	})
	if err != nil {
		return e, err
	}
	if err := u.keep(e, to); err != nil {
		return e, err
	}
	return u.find(name)
}

// work has something made in a place of its own in a branch, and moves it to its name as a whole.
func (u *Union) work(branch int, dir, name string, do func(work int, as string) error) error {
	b := &u.branches[branch]
	if err := unix.Mkdirat(b.root, workDir, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	return b.within(workDir, func(work int) error {
		as := fmt.Sprintf("%016x", rand.Uint64())
		err := do(work, as)
		if err == nil {
			err = b.within(dir, func(fd int) error { return unix.Renameat(work, as, fd, name) })
		}
		if err != nil {
			return errors.Join(err, tree.RemoveAt(work, as))
		}
		return nil
	})
}

// place chooses the branch for a new name in a folder, and makes the folder there.
func (u *Union) place(f folder, name string) (int, error) {
	if strings.HasPrefix(name, prefix) {
		return 0, unix.EPERM
	}
	limit, err := u.limit(f, name)
	if err != nil {
		return 0, err
	}
	to, err := u.choose(f, limit)
	if err != nil {
		return 0, err
	}
	return to, u.bring(to, f.path)
}

// choose is the policy: it gives a writable branch that is not below limit.
func (u *Union) choose(f folder, limit int) (int, error) {
	var fit []int
	for i := range u.branches[:limit+1] {
		if u.branches[i].Writable {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		return 0, unix.EROFS
	}
	p := &u.create
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.name {
	case "rr":
		return p.turn(fit), nil
	case "mfs", "mfsrr":
		most, bytes := p.mostFree(u, fit)
		if p.name == "mfsrr" && bytes <= p.low {
			return p.turn(fit), nil
		}
		return most, nil
	}
	// The uppermost branch that has the folder, or else the nearest above that.
	return u.above(min(f.in[0], limit))
}

// turn is the next of the writable branches.
func (p *policy) turn(fit []int) int {
	p.next++
	return fit[(p.next-1)%len(fit)]
}

// mostFree is the branch with the most room. It is looked for anew after a while only.
func (p *policy) mostFree(u *Union, fit []int) (best int, bytes uint64) {
	room := func(i int) uint64 {
		var st unix.Statfs_t
		if unix.Fstatfs(u.branches[i].root, &st) != nil {
			return 0
		}
		return st.Bavail * uint64(st.Bsize)
	}
	if time.Now().Before(p.free.until) && len(fit) > 0 && fit[len(fit)-1] >= p.free.branch {
		return p.free.branch, room(p.free.branch)
	}
	best = fit[0]
	for _, i := range fit {
		if free := room(i); free > bytes {
			best, bytes = i, free
		}
	}
	p.free.branch, p.free.until = best, time.Now().Add(p.hold)
	return best, bytes
}

// owner is who a new file is to belong to.
type owner struct{ uid, gid uint32 }

// add makes a new name; do makes it in a folder of a branch, and own gives it to the caller.
func (u *Union) add(dir, name string, o owner, do func(fd int, name string) error) (entry, error) {
	f, err := u.folder(dir)
	if err != nil {
		return entry{}, err
	}
	to, err := u.place(f, name)
	if err != nil {
		return entry{}, err
	}
	b := &u.branches[to]
	err = b.within(dir, func(fd int) error {
		if err := do(fd, name); err != nil {
			return err
		}
		return o.own(fd, name)
	})
	if err == nil {
		err = u.unhide(to, dir, name)
	}
	if err != nil {
		return entry{}, err
	}
	return u.find(path.Join(dir, name))
}

// own gives a new file in a folder to its owner. In a folder with the setgid bit, the branch's
// file system has given it the folder's group already. A change of the owner takes bits away.
func (o owner) own(dir int, name string) error {
	var folder, st unix.Statx_t
	if err := errors.Join(statx(dir, "", &folder), statx(dir, name, &st)); err != nil {
		return err
	}
	gid := int(o.gid)
	if folder.Mode&unix.S_ISGID != 0 {
		gid = -1
	}
	if err := unix.Fchownat(dir, name, int(o.uid), gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return unix.Fchmodat(dir, name, uint32(st.Mode)&0o7777, 0)
}

// hide makes a whiteout.
func (u *Union) hide(branch int, dir, name string) error {
	u.forget(path.Join(dir, name))
	return u.branches[branch].within(dir, func(fd int) error { return mark(fd, prefix+name) })
}

func mark(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// unhide deletes a whiteout, if there is one.
func (u *Union) unhide(branch int, dir, name string) error {
	u.forget(path.Join(dir, name))
	err := u.branches[branch].within(dir, func(fd int) error {
		return unix.Unlinkat(fd, prefix+name, 0)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// mkdir makes a folder. What a lower one of that name had does not come back in it.
func (u *Union) mkdir(dir, name string, mode uint32, o owner) (entry, error) {
	return u.add(dir, name, o, func(fd int, name string) error {
		hidden := unix.Faccessat(fd, prefix+name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
		if err := unix.Mkdirat(fd, name, mode); err != nil {
			return err
		}
		if hidden {
			// The whiteout beside it does the same until it goes.
			return mark(fd, name+"/"+opaque)
		}
		return nil
	})
}

// remove deletes a file, or a folder that is empty.
func (u *Union) remove(name string, wantDir bool) error {
	e, err := u.find(name)
	if err != nil {
		return err
	}
	if isDir(&e.stat) != wantDir {
		if wantDir {
			return unix.ENOTDIR
		}
		return unix.EISDIR
	}
	if wantDir {
		all, err := u.list(name)
		if err != nil {
			return err
		}
		if len(all) > 0 {
			return unix.ENOTEMPTY
		}
	}
	below, err := u.below(e)
	if err != nil {
		return err
	}
	to, err := u.above(e.branch)
	if err != nil {
		return err
	}
	if below || to != e.branch {
		if err := u.bring(to, e.dir.path); err != nil {
			return err
		}
		if err := u.hide(to, e.dir.path, e.name); err != nil {
			return err
		}
	}
	if to != e.branch {
		return nil
	}
	return u.delete(e)
}

// delete takes a name out of its branch; a folder may have whiteouts in it.
func (u *Union) delete(e entry) error {
	u.gone(&e.stat)
	b := &u.branches[e.branch]
	if !isDir(&e.stat) {
		return b.within(e.dir.path, func(fd int) error { return unix.Unlinkat(fd, e.name, 0) })
	}
	u.forget(path.Join(e.dir.path, e.name))
	return b.within(e.dir.path, func(fd int) error {
		if err := unix.Unlinkat(fd, e.name, unix.AT_REMOVEDIR); err != unix.ENOTEMPTY {
			return err
		}
		if err := unix.Mkdirat(b.root, workDir, 0o700); err != nil && err != unix.EEXIST {
			return err
		}
		return b.within(workDir, func(work int) error {
			as := fmt.Sprintf("%016x", rand.Uint64())
			if err := unix.Renameat(fd, e.name, work, as); err != nil {
				return err
			}
			return tree.RemoveAt(work, as)
		})
	})
}

// rename gives an entry another name.
func (u *Union) rename(from, to string, noReplace bool) error {
	e, err := u.find(from)
	if err != nil {
		return err
	}
	dir, name := split(to)
	if strings.HasPrefix(name, prefix) {
		return unix.EPERM
	}
	target, err := u.find(to)
	there := err == nil
	switch {
	case err != nil && !missing(err):
		return err
	case there && noReplace:
		return unix.EEXIST
	case there && u.id(&target.stat) == u.id(&e.stat):
		return nil // two names of one file: rename(2)
	}
	f, err := u.folder(dir)
	if err != nil {
		return err
	}
	if e, err = u.movable(e, f, name); err != nil {
		return err
	}
	if err := u.bring(e.branch, dir); err != nil {
		return err
	}
	if there && isDir(&target.stat) {
		if err := u.remove(to, true); err != nil {
			return err
		}
	} else if there {
		u.gone(&target.stat)
	}
	return u.move(e, f, name)
}

// movable sees that an entry is in a branch where it can be renamed, and seen with its new name.
func (u *Union) movable(e entry, f folder, name string) (entry, error) {
	limit, err := u.limit(f, name)
	if err != nil {
		return e, err
	}
	if isDir(&e.stat) {
		old, err := u.folder(path.Join(e.dir.path, e.name))
		if err != nil {
			return e, err
		}
		if len(old.in) != 1 || !u.branches[e.branch].Writable || e.branch > limit {
			return e, unix.EXDEV
		}
		return e, nil
	}
	if u.branches[e.branch].Writable && e.branch <= limit {
		return e, nil
	}
	to, err := u.above(min(limit, e.branch))
	if err != nil {
		return e, unix.EXDEV
	}
	return u.copyTo(e, to)
}

// move renames within a branch. At each moment, one of both names is there or both are.
func (u *Union) move(e entry, f folder, name string) error {
	b := &u.branches[e.branch]
	covers, err := u.covers(e.branch, f, name)
	if err != nil {
		return err
	}
	if covers && isDir(&e.stat) {
		// It must not show what others of its new name have.
		old := path.Join(e.dir.path, e.name)
		if err := b.within(old, func(fd int) error { return mark(fd, opaque) }); err != nil {
			return err
		}
	}
	below, err := u.below(e)
	if err != nil {
		return err
	}
	if below {
		if err := u.hide(e.branch, e.dir.path, e.name); err != nil {
			return err
		}
	}
	err = b.within(e.dir.path, func(from int) error {
		return b.within(f.path, func(to int) error {
			return unix.Renameat(from, e.name, to, name)
		})
	})
	u.forget(path.Join(e.dir.path, e.name))
	if err != nil {
		return err
	}
	return u.unhide(e.branch, f.path, name)
}

// covers says whether a name in a branch hides another that is below, or would but for a whiteout.
func (u *Union) covers(branch int, f folder, name string) (bool, error) {
	for _, i := range f.in {
		if i < branch {
			continue
		}
		s, err := u.branches[i].look(f.path, name)
		if err != nil || s.hides || s.there && i > branch {
			return err == nil, err
		}
	}
	return false, nil
}

// link gives a file another name.
func (u *Union) link(from, to string) (entry, error) {
	e, err := u.copyUp(from)
	if err != nil {
		return e, err
	}
	dir, name := split(to)
	if strings.HasPrefix(name, prefix) {
		return e, unix.EPERM
	}
	f, err := u.folder(dir)
	if err != nil {
		return e, err
	}
	limit, err := u.limit(f, name)
	if err != nil {
		return e, err
	}
	if e.branch > limit {
		return e, unix.EXDEV
	}
	if err := u.bring(e.branch, dir); err != nil {
		return e, err
	}
	b := &u.branches[e.branch]
	err = b.within(e.dir.path, func(old int) error {
		return b.within(dir, func(fd int) error { return unix.Linkat(old, e.name, fd, name, 0) })
	})
	if err != nil {
		return e, err
	}
	if err := u.unhide(e.branch, dir, name); err != nil {
		return e, err
	}
	return u.find(to)
}

// openFile opens a file; for writing, it is copied up first.
func (u *Union) openFile(name string, flags int) (*os.File, entry, error) {
	find := u.find
	if flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0 {
		find = u.copyUp
	}
	e, err := find(name)
	if err != nil {
		return nil, e, err
	}
	// The kernel has worked out the place to write at.
	flags &^= unix.O_APPEND | unix.O_CREAT | unix.O_EXCL | unix.O_DIRECT
	var file *os.File
	err = u.branches[e.branch].within(e.dir.path, func(dir int) error {
		fd, err := unix.Openat(dir, e.name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), name)
		return statx(fd, "", &e.stat) // as it is now, perhaps cut
	})
	return file, e, err
}
