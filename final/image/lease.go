//go:build linux

package image

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Lease is a piece of work on the store, as a pull: what it writes and what it holds is deleted
// by nobody until it is closed. It is a folder below leases that is locked while its process
// lives; one that is not is what somebody left who was killed, and the next Lease deletes it.
// Its methods can be called from several goroutines.
type Lease struct {
	store *Store
	dir   string
	lock  *os.File // of the folder
	holds *os.File // the file "holds": digests and chain IDs, a line each
}

// Lease begins a piece of work. It must be closed.
func (s *Store) Lease() (*Lease, error) {
	if err := s.sweep(); err != nil {
		return nil, err
	}
	// Nobody sweeps while the folder is there and not yet locked.
	unlock, err := s.lock(lockShared)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.lease()
}

// lease is Lease while the store is locked.
func (s *Store) lease() (*Lease, error) {
	dir := s.path("leases", randomName())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	holds, err := os.OpenFile(filepath.Join(dir, "holds"),
		os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		lock.Close()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Lease{store: s, dir: dir, lock: lock, holds: holds}, nil
}

// Store is where it works.
func (l *Lease) Store() *Store { return l.store }

// Close ends the work: what it wrote and no image needs may be deleted from now on.
func (l *Lease) Close() error {
	err := errors.Join(l.holds.Close(), os.RemoveAll(l.dir))
	l.lock.Close()
	return err
}

// End is Close after an error, or after none. What has been stored before an error stays until the
// next Collect, so that another try need not begin anew; but not where the disk is full.
func (l *Lease) End(err error) error {
	err = errors.Join(err, l.Close())
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = errors.Join(err, l.store.Collect(RemoveOptions{}))
	}
	return err
}

// Hold keeps blobs (by digest) and storage layers (by chain ID) from being deleted. They need not
// be there yet: whether they are is to be asked after this, then it stays so.
func (l *Lease) Hold(names ...string) error {
	unlock, err := l.store.lock(lockShared)
	if err != nil {
		return err
	}
	defer unlock()
	return l.hold(names...)
}

// hold is Hold while the store is locked.
func (l *Lease) hold(names ...string) error {
	_, err := l.holds.WriteString(strings.Join(names, "\n") + "\n")
	return err
}

// sweep deletes the leases of processes that are no more.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path("leases"))
	if err != nil || len(entries) == 0 {
		return err
	}
	unlock, err := s.lock(lockExclusive)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = s.held()
	return err
}

// held reads what all leases hold, and deletes those of the dead. The store must be locked
// exclusively.
func (s *Store) held() (map[string]bool, error) {
	entries, err := os.ReadDir(s.path("leases"))
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, e := range entries {
		dir := s.path("leases", e.Name())
		lock, err := lockFolder(dir)
		if err == nil {
			err = os.RemoveAll(dir)
			lock.Close()
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed just now
		}
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		text, err := os.ReadFile(filepath.Join(dir, "holds"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, name := range strings.Fields(string(text)) {
			held[name] = true
		}
	}
	return held, nil
}

// lockFolder locks a folder, or is unix.EWOULDBLOCK if somebody has it.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := flock(int(f.Fd()), dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func randomName() string {
	var random [8]byte
	rand.Read(random[:]) // it never returns an error, says its documentation
	return hex.EncodeToString(random[:])
}

// Add makes an image of a manifest whose blobs are all in the store, and gives it names; an
// image that is there already gets the names only, and keeps the manifest that it has. size is
// that of the files in all layers.
func (l *Lease) Add(manifest Descriptor, size int64, names ...Reference) (*Image, error) {
	id, err := l.store.complete(manifest)
	if err != nil {
		return nil, err
	}
	if err := l.store.syncBlobs(); err != nil {
		return nil, err
	}
	var img *Image
	err = l.store.change(func(c *catalog) error {
		if _, ok := c.Images[id]; !ok {
			manifest.Annotations, manifest.Platform = nil, nil
			c.Images[id] = record{Manifest: manifest, Size: size}
		}
		for _, r := range names {
			c.name(id, r)
		}
		if img, err = l.store.load(c, id); err != nil {
			return err
		}
		return l.store.write(c)
	})
	return img, err
}

// Find is Lookup by an ID, and holds what the image has.
func (l *Lease) Find(id string) (*Image, error) {
	unlock, err := l.store.lock(lockShared)
	if err != nil {
		return nil, err
	}
	defer unlock()
	img, err := l.store.Lookup(id)
	if err != nil {
		return nil, err
	}
	names := append([]string{id, img.Manifest.Digest.String()}, img.ChainIDs...)
	for _, d := range img.Layers {
		names = append(names, d.Digest.String())
	}
	return img, l.hold(names...)
}

// complete sees that all of an image is in the store, and returns its ID.
func (s *Store) complete(manifest Descriptor) (id string, err error) {
	m, c, err := s.Manifest(manifest.Digest.String())
	if err != nil {
		return "", err
	}
	for _, d := range append([]Descriptor{manifest, m.Config}, m.Layers...) {
		if err := s.Has(d); err != nil {
			return "", fmt.Errorf("manifest %s: %w", manifest.Digest, err)
		}
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return "", fmt.Errorf("manifest %s has %d layers, its configuration speaks of %d",
			manifest.Digest, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := CheckDigest(id.String()); err != nil {
			return "", fmt.Errorf("manifest %s: diff_ids: %w", manifest.Digest, err)
		}
	}
	return m.Config.Digest.String(), nil
}
