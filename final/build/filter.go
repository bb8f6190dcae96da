//go:build linux

package build

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"strings"
)

// filter takes from a layer's archive what was only made to be mounted on, and sets times that are
// after SOURCE_DATE_EPOCH to that.
func (b *builder) filter(from io.Reader, stubs map[string]bool) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(w, 1<<20)
		f := &filtering{b: b, in: tar.NewReader(from), out: tar.NewWriter(buffered), stubs: stubs}
		err := f.all()
		if err == nil {
			err = errors.Join(f.out.Close(), buffered.Flush())
		}
		if err == nil {
			_, err = io.Copy(io.Discard, from)
		}
		w.CloseWithError(err)
	}()
	return r
}

type filtering struct {
	b       *builder
	in      *tar.Reader
	out     *tar.Writer
	stubs   map[string]bool
	pending []*tar.Header // folders that are stubs, unless something is in them
}

func (f *filtering) all() error {
	for {
		h, err := f.in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.entry(h); err != nil {
			return err
		}
	}
}

func (f *filtering) entry(h *tar.Header) error {
	name := strings.TrimSuffix(h.Name, "/")
	for len(f.pending) > 0 && !strings.HasPrefix(name+"/", f.pending[len(f.pending)-1].Name) {
		f.pending = f.pending[:len(f.pending)-1]
	}
	if f.stubs[name] {
		if h.Typeflag == tar.TypeDir {
			f.pending = append(f.pending, h)
			return nil
		}
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			return nil
		}
	}
	for _, dir := range f.pending {
		if err := f.write(dir); err != nil {
			return err
		}
	}
	f.pending = nil
	if err := f.write(h); err != nil {
		return err
	}
	_, err := io.Copy(f.out, f.in)
	return err
}

func (f *filtering) write(h *tar.Header) error {
	if e := f.b.epoch; !e.IsZero() && h.ModTime.After(e) {
		h.ModTime = e
	}
	h.Format = tar.FormatUnknown
	return f.out.WriteHeader(h)
}
