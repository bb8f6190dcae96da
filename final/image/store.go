//go:build linux

// Package image keeps images: it is the store that run, ps, inspect, tag and rmi read and change.
// It speaks to no registry and reads no archive: image/registry and image/archive do, and write
// what they get into the store by way of a Lease. It unpacks nothing: package storage does.
//
// A store is an OCI image layout (image-spec, image-layout.md), so that other tools can read it:
//
//	oci-layout            says that it is one
//	index.json            the images with their names, for other tools; made from references.json
//	references.json       the images with their names, and what is known of them
//	blobs/sha256/DIGEST   manifests, configurations, layers: each file named by its SHA-256
//	leases/RANDOM/        a pull, build, … at work: its half-written blobs, and what it holds
//	kept/KEY              what builds have made and may need again, see Keep
//	lock                  see below
//
// An image is a tree of blobs, and its ID is the digest of its configuration:
//
//	references.json ─> manifest ─┬─> configuration (says: diff_ids, Env, Cmd, history …)
//	                             └─> layers, oldest first: archives, as they came
//
// The layers' archives are kept as they came, though they are unpacked as well. That costs disk,
// and buys that an image goes out with the digests it came in with (by push, by save), at the
// speed of a copy; and that the layers can be unpacked again, by another storage driver.
//
// Nothing is visible that is not whole: a blob is written below leases and gets its name when its
// digest has been compared; an image is in references.json when all of its blobs are there.
//
// # Several processes at once
//
// There is no daemon that owns the store. The file lock is held, flock(2), by whoever
//   - changes references.json or deletes blobs: exclusively,
//   - needs that nothing is deleted for a moment: shared (Hold).
//
// Whoever works for longer has a Lease. What a lease holds is deleted by nobody, and when its
// process dies, the kernel takes the lock on the lease's folder away, and so the lease is void.
// Reading needs no lock: files are replaced by rename(2) only.
package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// ErrNotExist says that there is no such image.
var ErrNotExist = errors.New("no such image")

// Descriptor points at a blob: media type, digest, size in bytes.
type Descriptor = imagespec.Descriptor

// Store is a folder of images.
type Store struct {
	dir string
}

// Open opens the store in the folder dir, and makes it if it is not there.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if _, err := os.Lstat(s.path("oci-layout")); err == nil {
		return s, nil
	}
	for _, sub := range []string{"blobs/sha256", "leases"} {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("make the image store: %w", err)
		}
	}
	// The layout's file comes last: where it is, the rest is.
	unlock, err := s.lock(lockExclusive)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Lstat(s.path("references.json")); errors.Is(err, fs.ErrNotExist) {
		if err := s.write(newCatalog()); err != nil {
			return nil, err
		}
	}
	return s, replaceFile(s.path("oci-layout"), []byte("{\"imageLayoutVersion\":\"1.0.0\"}\n"))
}

// Dir is the store's folder, an OCI image layout.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// Hold keeps everything in the store as it is until release is called: nobody deletes or renames.
// It is for moments, as from a Lookup until the container's record says that it uses the image.
func (s *Store) Hold() (release func(), err error) { return s.lock(lockShared) }

// lock takes the store's lock, shared or exclusively.
func (s *Store) lock(how int) (unlock func(), err error) {
	// Not os.OpenFile, which would ask first whether it can wait for it (epoll).
	path := s.path("lock")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := flock(fd, path, how); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}

func flock(fd int, path string, how int) error {
	for {
		err := unix.Flock(fd, how)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "flock", Path: path, Err: err}
		}
	}
}

// replaceFile writes a file so that it is the old or the new one at every moment, whole, also
// after a crash of the machine. The store must be locked exclusively: then the new one's name,
// if it is there already, is of somebody who was killed.
func replaceFile(path string, content []byte) error {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC | unix.O_NOFOLLOW
	f, err := os.OpenFile(path+".new", flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(path+".new"))
	}
	return err
}

// replaceJSON is replaceFile with v as JSON that people can read.
func replaceJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(text, '\n'))
}
