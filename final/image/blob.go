//go:build linux

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// MaxJSON is how large a manifest, an index or a configuration may be, in bytes. Registries
// take manifests of up to 4 MiB, too.
const MaxJSON = 4 << 20

// DigestOf is the digest of a blob's bytes.
func DigestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// OpenBlob opens a blob. It is fs.ErrNotExist if there is none.
func (s *Store) OpenBlob(digest string) (*os.File, error) {
	path, err := s.blobPath(digest)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// ReadBlob reads a manifest, an index or a configuration.
func (s *Store) ReadBlob(digest string) ([]byte, error) {
	f, err := s.OpenBlob(digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxJSON+1))
	if err == nil && len(text) > MaxJSON {
		err = fmt.Errorf("blob %s: more than %d bytes are no manifest", digest, MaxJSON)
	}
	return text, err
}

// Has says by an error what is wrong with a blob: that it is not there, or of another size than
// the descriptor says.
func (s *Store) Has(d Descriptor) error {
	path, err := s.blobPath(d.Digest.String())
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if info.Size() != d.Size {
		return fmt.Errorf("blob %s has %d bytes, not %d as is claimed", d.Digest, info.Size(), d.Size)
	}
	return nil
}

// blobPath is the file of a blob. A digest from elsewhere may be anything.
func (s *Store) blobPath(digest string) (string, error) {
	if err := CheckDigest(digest); err != nil {
		return "", err
	}
	return s.path("blobs", "sha256", strings.TrimPrefix(digest, "sha256:")), nil
}

// syncBlobs sees that the names of the blobs are on the disk.
func (s *Store) syncBlobs() error {
	dir, err := os.Open(s.path("blobs", "sha256"))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Blob is a blob while it is written.
type Blob struct {
	lease *Lease
	file  *os.File
	hash  hash.Hash
	size  int64
	begun int64 // of these, what the kernel has been told to write
}

// Blob begins a blob, which appears in the store with Commit. It must come to that or to Discard.
func (l *Lease) Blob() (*Blob, error) {
	f, err := os.CreateTemp(l.dir, "blob-")
	if err != nil {
		return nil, err
	}
	return &Blob{lease: l, file: f, hash: sha256.New()}, nil
}

// Write adds bytes.
func (b *Blob) Write(p []byte) (int, error) {
	n, err := b.file.Write(p)
	b.hash.Write(p[:n])
	b.size += int64(n)
	if b.size-b.begun >= writeback {
		// Now, while the disk has nothing else to do, so that Commit need not wait long. It is
		// only a hint: some file systems know nothing of it.
		_ = unix.SyncFileRange(int(b.file.Fd()), b.begun, b.size-b.begun, unix.SYNC_FILE_RANGE_WRITE)
		b.begun = b.size
	}
	return n, err
}

const writeback = 8 << 20

// Size is how many bytes have been written.
func (b *Blob) Size() int64 { return b.size }

// Digest is that of the bytes written so far.
func (b *Blob) Digest() string { return "sha256:" + hex.EncodeToString(b.hash.Sum(nil)) }

// Reopen opens the blob to be read while it is written.
func (b *Blob) Reopen() (*os.File, error) { return os.Open(b.file.Name()) }

// Commit puts the blob into the store, held by the lease, if it has the digest that is wanted; ""
// is any. One that is there already is the same.
func (b *Blob) Commit(want string) error {
	digest := b.Digest()
	if want != "" && want != digest {
		return errors.Join(fmt.Errorf("it has digest %s, not %s: it is damaged or forged",
			digest, want), b.Discard())
	}
	if err := b.file.Sync(); err != nil {
		return errors.Join(err, b.Discard())
	}
	path, err := b.lease.store.blobPath(digest)
	if err != nil {
		return err
	}
	unlock, err := b.lease.store.lock(lockShared)
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.lease.hold(digest); err != nil {
		return err
	}
	defer b.file.Close()
	return os.Rename(b.file.Name(), path)
}

// Discard gives the blob up. It is nothing after a Commit.
func (b *Blob) Discard() error {
	b.file.Close()
	if err := os.Remove(b.file.Name()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Put stores a manifest or a configuration as a blob.
func (l *Lease) Put(content []byte, mediaType string) (Descriptor, error) {
	d := Descriptor{
		MediaType: mediaType, Digest: digest.Digest(DigestOf(content)), Size: int64(len(content)),
	}
	return d, l.PutAs(d, content)
}

// PutAs stores what must have the digest of a descriptor.
func (l *Lease) PutAs(d Descriptor, content []byte) error {
	b, err := l.Blob()
	if err != nil {
		return err
	}
	defer b.Discard() //nolint:errcheck // nothing is left after Commit
	if _, err := b.Write(content); err != nil {
		return err
	}
	return b.Commit(d.Digest.String())
}

// Take holds a blob that the store may have, and says whether it has it, as the descriptor says.
func (l *Lease) Take(d Descriptor) (bool, error) {
	if err := l.Hold(d.Digest.String()); err != nil {
		return false, err
	}
	err := l.store.Has(d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Manifest reads a manifest and the configuration that it names.
func (s *Store) Manifest(digest string) (*imagespec.Manifest, *Config, error) {
	m, c := &imagespec.Manifest{}, &Config{}
	if err := s.readJSON(digest, m); err != nil {
		return nil, nil, fmt.Errorf("manifest: %w", err)
	}
	if err := s.readJSON(m.Config.Digest.String(), c); err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	return m, c, nil
}
