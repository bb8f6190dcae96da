//go:build linux

package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/image"
	"minidocker/final/image/compression"
)

// files are the files of an archive of images, by name: those in a folder, those in a tar archive
// that can be read anywhere, or those of a stream, which have been put into the store.
type files interface {
	// open is fs.ErrNotExist if there is none of that name.
	open(name string) (io.ReadCloser, int64, error)
}

// maxFiles is how many files an archive of images may have. Real ones have some hundreds.
const maxFiles = 1 << 16

// openFiles looks at what there is. What it puts into the store goes with the lease.
func openFiles(ctx context.Context, lease *image.Lease, in io.Reader) (files, error) {
	f, ok := in.(*os.File)
	if !ok {
		return spool(ctx, lease, in)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		root, err := os.OpenRoot(f.Name())
		if err != nil {
			return nil, err
		}
		return &folder{root}, nil
	case !info.Mode().IsRegular():
		return spool(ctx, lease, in)
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	var head [6]byte
	n, err := f.ReadAt(head[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if compression.Detect(head[:n]) != compression.None {
		return spool(ctx, lease, in)
	}
	return scan(ctx, f, at)
}

// folder is an OCI layout, or an archive that has been unpacked.
type folder struct{ root *os.Root }

func (d *folder) open(name string) (io.ReadCloser, int64, error) {
	// A FIFO would let us wait: O_NONBLOCK is nothing to a file.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// entries are the names in a tar archive: files of F, and links to them. Docker saved a layer
// that two images have once, and linked to it.
type entries[F any] struct {
	files map[string]F
	links map[string]string
}

func newEntries[F any]() entries[F] {
	return entries[F]{map[string]F{}, map[string]string{}}
}

// read goes through an archive. add is called for each file.
func (e *entries[F]) read(
	ctx context.Context, r io.Reader, add func(name string, size int64, content io.Reader) (F, error),
) error {
	archive := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped one is that of a connection
			// What follows may be the end of a compressed stream, and say that it is damaged.
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return fmt.Errorf("read the tar archive: %w", err)
		}
		if len(e.files)+len(e.links) > maxFiles {
			return fmt.Errorf("more than %d files are no archive of images", maxFiles)
		}
		if err := e.entry(h, archive, add); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

func (e *entries[F]) entry(h *tar.Header, content io.Reader,
	add func(name string, size int64, content io.Reader) (F, error),
) error {
	if !filepath.IsLocal(strings.TrimPrefix(h.Name, "./")) {
		return errors.New("its path leads out of the archive")
	}
	name := path.Clean(h.Name)
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return errors.New("sparse files are not in archives of images")
			}
		}
		delete(e.links, name)
		e.files[name], err = add(name, h.Size, content)
	case tar.TypeSymlink:
		delete(e.files, name)
		e.links[name] = path.Join(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		delete(e.files, name)
		e.links[name] = path.Clean(h.Linkname)
	case tar.TypeGNUSparse:
		return errors.New("sparse files are not in archives of images")
	}
	return err // folders, and what else there may be, are not needed
}

// find follows links to a file.
func (e *entries[F]) find(name string) (F, error) {
	name = path.Clean(name)
	for range 8 {
		if f, ok := e.files[name]; ok {
			return f, nil
		}
		to, ok := e.links[name]
		if !ok {
			break
		}
		name = to
	}
	var none F
	return none, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// section is a tar archive that can be read anywhere.
type section struct {
	file *os.File
	entries[extent]
}

type extent struct{ at, size int64 }

// scan finds out where the files are in a tar archive that begins at start. It reads nothing but
// the headers.
func scan(ctx context.Context, f *os.File, start int64) (files, error) {
	s := &section{f, newEntries[extent]()}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(start, io.SeekStart)
	}
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, f, func(_ string, size int64, _ io.Reader) (extent, error) {
		at, err := f.Seek(0, io.SeekCurrent)
		if err == nil && at+size > end {
			err = io.ErrUnexpectedEOF
		}
		return extent{at, size}, err
	})
	return s, err
}

func (s *section) open(name string) (io.ReadCloser, int64, error) {
	e, err := s.find(name)
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(io.NewSectionReader(s.file, e.at, e.size)), e.size, nil
}

// spooled is what came in a stream: all of its files are in the store.
type spooled struct {
	store *image.Store
	entries[blob]
}

type blob struct {
	digest string
	size   int64
}

// spool puts the files of an archive, compressed or not, into the store.
func spool(ctx context.Context, lease *image.Lease, in io.Reader) (files, error) {
	plain, _, err := compression.NewReader(in)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	s := &spooled{lease.Store(), newEntries[blob]()}
	return s, s.read(ctx, plain, func(name string, _ int64, content io.Reader) (blob, error) {
		return spoolFile(lease, name, content)
	})
}

func spoolFile(lease *image.Lease, name string, content io.Reader) (blob, error) {
	b, err := lease.Blob()
	if err != nil {
		return blob{}, err
	}
	defer b.Discard() //nolint:errcheck // nothing is left after Commit
	if _, err := io.CopyBuffer(struct{ io.Writer }{b}, content, make([]byte, 256<<10)); err != nil {
		return blob{}, err
	}
	// A file that is named by a digest has it.
	var want string
	if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
		want = "sha256:" + hex
	}
	return blob{b.Digest(), b.Size()}, b.Commit(want)
}

func (s *spooled) open(name string) (io.ReadCloser, int64, error) {
	b, err := s.find(name)
	if err != nil {
		return nil, 0, err
	}
	f, err := s.store.OpenBlob(b.digest)
	return f, b.size, err
}
