//go:build linux

package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/imagetest"
)

func TestImport(t *testing.T) {
	rootfs := imagetest.Tar(t, "bin/", "", "bin/sh", "#!", "etc/", "")
	for name, compress := range compressions {
		t.Run(name, func(t *testing.T) {
			// A storage that wants the layer's name first, or one that waits for it.
			s, layers := imagetest.Open(t), &imagetest.Layers{Named: name == "gzip"}
			archived := compress(t, rootfs)
			img, err := archive.Import(t.Context(), s, layers, bytes.NewReader(archived),
				archive.ImportOptions{
					Name: "fruits", Message: "hello", Created: time.Unix(1, 0),
					Change: func(c *image.Config) error {
						c.Config.Cmd = []string{"sh"}
						return nil
					},
				})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Lookup("fruits")
			if err != nil || got.ID != img.ID {
				t.Fatalf("got %v, %v", got, err)
			}
			if got.Top() != imagetest.Digest(rootfs)[7:] ||
				!bytes.Equal(layers.Archive(got.Top()), rootfs) {
				t.Errorf("the layer is %s, want the archive's digest", got.Top())
			}
			if want := int64(len(rootfs)); got.Size != want {
				t.Errorf("got size %d, want %d", got.Size, want)
			}
			if d := got.Layers[0]; d.Digest.String() != imagetest.Digest(archived) {
				t.Errorf("the blob is %s, want what came", d.Digest)
			}
			c := got.Config
			if c.OS != "linux" || !slices.Equal(c.Config.Cmd, []string{"sh"}) ||
				!c.Created.Equal(time.Unix(1, 0)) || c.History[0].Comment != "hello" {
				t.Errorf("the configuration is %+v", c)
			}
		})
	}
}

var compressions = map[string]func(testing.TB, []byte) []byte{
	"plain": func(_ testing.TB, b []byte) []byte { return b },
	"gzip":  imagetest.Gzip,
	"zstd":  imagetest.Zstd,
}

// TestImport_Fails sees that an import that fails leaves nothing.
func TestImport_Fails(t *testing.T) {
	rootfs := imagetest.Tar(t, "a", strings.Repeat("x", 1<<20))
	zipped := compressions["gzip"](t, rootfs)
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		r      io.Reader
		layers *imagetest.Layers
		o      archive.ImportOptions
	}{
		"cut off":           {r: bytes.NewReader(zipped[:len(zipped)/2])},
		"garbage after it":  {r: bytes.NewReader(append(bytes.Clone(zipped), "garbage"...))},
		"the reader breaks": {r: io.MultiReader(bytes.NewReader(rootfs[:5000]), failing{broken})},
		"storage breaks":    {r: bytes.NewReader(rootfs), layers: &imagetest.Layers{Fail: broken}},
		"wrong name":        {r: bytes.NewReader(rootfs), o: archive.ImportOptions{Name: "A"}},
		"wrong change": {r: bytes.NewReader(rootfs), o: archive.ImportOptions{
			Change: func(*image.Config) error { return broken },
		}},
		"cancelled": {ctx: cancelled, r: bytes.NewReader(rootfs)},
	} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.Open(t)
			if test.layers == nil {
				test.layers = &imagetest.Layers{}
			}
			if test.ctx == nil {
				test.ctx = t.Context()
			}
			img, err := archive.Import(test.ctx, s, test.layers, test.r, test.o)
			if err == nil {
				t.Fatalf("got %v", img)
			}
			t.Log(err)
			if all, err := s.List(); err != nil || len(all) != 0 {
				t.Errorf("images: %v, %v", all, err)
			}
			if err := s.Collect(image.RemoveOptions{Layers: test.layers}); err != nil {
				t.Fatal(err)
			}
			nothingLeft(t, s, test.layers)
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func nothingLeft(t testing.TB, s *image.Store, layers *imagetest.Layers) {
	t.Helper()
	for _, dir := range []string{"blobs/sha256", "leases"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir(), dir))
		if err != nil || len(entries) != 0 {
			t.Errorf("%s: %v, %v", dir, entries, err)
		}
	}
	if left, err := layers.List(); err != nil || len(left) != 0 {
		t.Errorf("layers: %v, %v", left, err)
	}
}
