//go:build linux

package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
	"minidocker/final/storage/tree"
)

// Store is a folder of layers:
//
//	DIR/layers/ID/        a layer, as a whole; what is in it is its driver's matter, but for
//	    parents             the layers below, a line each: the parent, and perhaps its parents
//	    usage               of a read-only layer, as JSON: it will not change
//	DIR/tmp/RANDOM/       a layer while it is made or deleted
//
// A layer is made below tmp and appears by a rename; it goes by a rename, and is deleted below
// tmp. Whoever works there holds a lock on the folder (flock(2)), which the kernel takes away
// should he be killed. So what lies there unlocked is nobody's, and Open deletes it.
type Store struct {
	Dir  string
	undo func(path string) error
}

// OpenStore opens the folder of layers, makes it if it is not there, and cleans it. undo, if set,
// is called for each folder below tmp before it is deleted, be it a layer that was removed, a
// draft or what is left of one: it takes away what is not in the folder, or what goes faster than
// file by file.
func OpenStore(dir string, undo func(path string) error) (*Store, error) {
	s := &Store{Dir: dir, undo: undo}
	names, err := readNames(s.tmp(""))
	if errors.Is(err, fs.ErrNotExist) {
		for _, sub := range []string{"layers", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := s.clean(name); err != nil {
			return nil, fmt.Errorf("clean up %q: %w", s.tmp(name), err)
		}
	}
	return s, nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (s *Store) tmp(name string) string { return filepath.Join(s.Dir, "tmp", name) }

// clean deletes a folder below tmp, if it is nobody's.
func (s *Store) clean(name string) error {
	lease, err := lock(s.tmp(name))
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lease.Close()
	return s.delete(name)
}

func (s *Store) delete(name string) error {
	if s.undo != nil {
		if err := s.undo(s.tmp(name)); err != nil {
			return err
		}
	}
	dir, err := os.Open(s.tmp(""))
	if err != nil {
		return err
	}
	defer dir.Close()
	return tree.Remove(dir, name)
}

// lock opens a folder and takes the lock on it.
func lock(path string) (*os.File, error) {
	// Not os.Open, which would ask first whether it can wait for it (epoll): this is done for
	// each container.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return f, nil
}

// Draft is a layer while it is made.
type Draft struct {
	Path  string
	store *Store
	lease *os.File
}

// Draft begins a layer. It must come to Publish or Discard.
func (s *Store) Draft() (*Draft, error) {
	for {
		name := fmt.Sprintf("%016x", rand.Uint64())
		path := s.tmp(name)
		if err := os.Mkdir(path, 0o700); err != nil {
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			return nil, err
		}
		lease, err := lock(path)
		// Between the two calls, another process may have taken it for a leftover.
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, s.delete(name))
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(lease.Fd()), &st); err != nil || st.Nlink == 0 {
			lease.Close()
			continue
		}
		return &Draft{Path: path, store: s, lease: lease}, nil
	}
}

// Spread tells ext4 that the folders in this one have nothing to do with what is near: "chattr
// +T", ext4(5). It looks for room for them in another part of the disk. Else it would look where
// layers have been deleted, and there it passes over each inode that was deleted in the last
// minutes, one by one: an image that was removed and is pulled again would take ten times as
// long. Other file systems know no such thing, and do well without.
func (d *Draft) Spread() {
	flags, err := unix.IoctlGetInt(int(d.lease.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		_ = unix.IoctlSetPointerInt(int(d.lease.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
}

const topDir = 0x20000 // FS_TOPDIR_FL

// SetParents notes the layers below, from the parent down. There need not be more than the
// parent; the more there are, the less Chain has to read.
func (d *Draft) SetParents(parents ...string) error {
	if len(parents) == 0 || parents[0] == "" {
		return nil
	}
	text := strings.Join(parents, "\n") + "\n"
	return os.WriteFile(filepath.Join(d.Path, "parents"), []byte(text), 0o600)
}

// SetUsage notes what a read-only layer takes.
func (d *Draft) SetUsage(u Usage) error {
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.Path, "usage"), append(text, '\n'), 0o600)
}

// Publish makes the draft the layer id. It is fs.ErrExist if there is one.
func (d *Draft) Publish(id string) error {
	to := d.store.Path(id)
	err := unix.Renameat2(unix.AT_FDCWD, d.Path, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return fmt.Errorf("layer %q: %w", id, err)
	}
	d.lease.Close()
	d.lease = nil
	return nil
}

// Discard deletes the draft, if it has not been published.
func (d *Draft) Discard() error {
	if d.lease == nil {
		return nil
	}
	defer d.lease.Close()
	return d.store.delete(filepath.Base(d.Path))
}

// Path is the folder of a layer.
func (s *Store) Path(id string, elem ...string) string {
	return filepath.Join(append([]string{s.Dir, "layers", id}, elem...)...)
}

// Check says whether there is the layer id, as an error that is fs.ErrNotExist if not.
func (s *Store) Check(id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.Path(id), &st); err != nil {
		return fmt.Errorf("layer %q: %w", id, err)
	}
	return nil
}

// CheckNew says whether there could be a new layer id on top of parent, which must be there.
func (s *Store) CheckNew(id, parent string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	if s.Exists(id) {
		return fmt.Errorf("layer %q: %w", id, fs.ErrExist)
	}
	if parent == "" {
		return nil
	}
	if err := s.Check(parent); err != nil {
		return fmt.Errorf("parent of %q: %w", id, err)
	}
	return nil
}

// CheckID refuses an id that could not be a layer's: it will be the name of a folder.
func CheckID(id string) error {
	valid := id != "" && len(id) <= 128
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		valid = valid && (letter || i > 0 && strings.IndexByte("._-", c) >= 0)
	}
	if !valid {
		return fmt.Errorf("layer %q: that is no id: %w", id, fs.ErrInvalid)
	}
	return nil
}

// Exists says whether there is the layer id.
func (s *Store) Exists(id string) bool { return s.Check(id) == nil }

// List are the ids of all layers.
func (s *Store) List() ([]string, error) { return readNames(filepath.Join(s.Dir, "layers")) }

// Parent is the layer below, "" for none.
func (s *Store) Parent(id string) (string, error) {
	parents, err := s.parents(id)
	if len(parents) == 0 {
		return "", err
	}
	return parents[0], err
}

// parents are what SetParents noted.
func (s *Store) parents(id string) ([]string, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	text, err := rawfd.ReadFile(s.Path(id, "parents"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.Check(id)
	}
	return strings.Fields(string(text)), err
}

// Chain are the layers below, from the parent down.
func (s *Store) Chain(id string) ([]string, error) {
	var chain []string
	for at := id; ; {
		parents, err := s.parents(at)
		if err != nil {
			return nil, err
		}
		if len(parents) == 0 {
			return chain, nil
		}
		chain = append(chain, parents...)
		if len(chain) > maxLayers {
			return nil, fmt.Errorf("layer %q: more than %d layers below it", id, maxLayers)
		}
		at = chain[len(chain)-1]
	}
}

// maxLayers stops a chain that somebody has made a ring of.
const maxLayers = 4096

// Usage is what SetUsage noted; it is fs.ErrNotExist if that is nothing.
func (s *Store) Usage(id string) (Usage, error) {
	var u Usage
	text, err := rawfd.ReadFile(s.Path(id, "usage"))
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(text, &u)
}

// Remove deletes a layer; it is nil if there is none.
func (s *Store) Remove(id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	lease, err := os.Open(s.Path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lease.Close()
	// Not had if somebody has just published it; then another may help to delete it.
	_ = unix.Flock(int(lease.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	name := fmt.Sprintf("%016x", rand.Uint64())
	if err := unix.Rename(s.Path(id), s.tmp(name)); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return &os.LinkError{Op: "rename", Old: s.Path(id), New: s.tmp(name), Err: err}
	}
	err = s.delete(name)
	if err == nil {
		return nil
	}
	// Something is mounted in it: whole or not, it has its name again, to be seen and tried anew.
	back := unix.Rename(s.tmp(name), s.Path(id))
	if back != nil && !errors.Is(back, syscall.ENOENT) {
		err = errors.Join(err, back)
	}
	return fmt.Errorf("layer %q: %w", id, err)
}
