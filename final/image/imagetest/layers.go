//go:build linux

// Package imagetest has what the tests of images share: a storage that keeps layers as the
// archives that they were, and archives to make images of.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"minidocker/final/image"
)

// Layers is an image.Layers that unpacks nothing.
type Layers struct {
	// Ordered lets it want the parent first.
	Ordered bool
	// Named lets it want the name first.
	Named bool
	// Fail, if set, is what Unpack gives for each layer, after it has read that.
	Fail error

	mu     sync.Mutex
	layers map[string]layer
}

type layer struct {
	parent  string
	archive []byte
}

// Have is image.Layers'. The size is the archive's.
func (l *Layers) Have(chainID string) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.layers[chainID]
	return int64(len(at.archive)), ok
}

// Unpack is image.Layers'.
func (l *Layers) Unpack(_ context.Context, at image.Layer, archive io.Reader) (int64, error) {
	named, ok := archive.(image.Named)
	if late := ok && at.ChainID == ""; late && l.Named {
		return 0, errors.ErrUnsupported
	}
	if _, ok := l.Have(at.ChainID); ok {
		return 0, fs.ErrExist
	}
	if _, ok := l.Have(at.Parent); l.Ordered && at.Parent != "" && !ok {
		return 0, fmt.Errorf("parent %s: %w", at.Parent, fs.ErrNotExist)
	}
	text, err := io.ReadAll(archive)
	if err != nil {
		return 0, err
	}
	if l.Fail != nil {
		return 0, l.Fail
	}
	if at.ChainID == "" {
		if at.ChainID, err = named.LayerID(); err != nil {
			return 0, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.layers == nil {
		l.layers = map[string]layer{}
	}
	l.layers[at.ChainID] = layer{at.Parent, text}
	return int64(len(text)), nil
}

// Independent is image.Layers'.
func (l *Layers) Independent() bool { return !l.Ordered }

// List is image.Layers'.
func (l *Layers) List() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.layers)), nil
}

// Parent is image.Layers'.
func (l *Layers) Parent(chainID string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.layers[chainID]
	if !ok {
		return "", fs.ErrNotExist
	}
	return at.parent, nil
}

// Remove is image.Layers'. Nothing may stand on the layer.
func (l *Layers) Remove(chainID string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, at := range l.layers {
		if at.parent == chainID {
			return fmt.Errorf("layer %s stands on %s", id, chainID)
		}
	}
	delete(l.layers, chainID)
	return nil
}

// Archive is what a layer was unpacked from, nil if there is no such layer.
func (l *Layers) Archive(chainID string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.layers[chainID].archive
}

// Tar is an archive with files: pairs of a name and its content. A name that ends with a slash
// is a folder's.
func Tar(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Digest is that of a blob.
func Digest(blob []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(blob)) }

// Open makes a store.
func Open(t testing.TB) *image.Store {
	t.Helper()
	s, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Random is an archive of one file that no compression makes smaller; the same for the same name.
func Random(t testing.TB, name string, size int) []byte {
	t.Helper()
	content := make([]byte, size)
	random := rand.NewChaCha8(sha256.Sum256([]byte(name)))
	random.Read(content) //nolint:errcheck // it never returns an error, its documentation says
	return Tar(t, name, string(content))
}

// Gzip compresses.
func Gzip(t testing.TB, content []byte) []byte {
	t.Helper()
	return compress(t, content, func(w io.Writer) (io.WriteCloser, error) {
		return gzip.NewWriter(w), nil
	})
}

// Zstd compresses.
func Zstd(t testing.TB, content []byte) []byte {
	t.Helper()
	return compress(t, content, func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w)
	})
}

func compress(
	t testing.TB, content []byte, by func(io.Writer) (io.WriteCloser, error),
) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := by(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
