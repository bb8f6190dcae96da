//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
)

// Format is how images are saved.
type Format string

// Docker's archive is an OCI layout with a manifest.json besides; an OCI layout is that alone.
const (
	FormatDocker Format = "docker"
	FormatOCI    Format = "oci"
)

// Save writes images to an archive; see Set for what the names mean. The blobs are as they are in
// the store, so that whoever loads the archive has images with the same digests. The same images
// give the same bytes.
func Save(
	ctx context.Context, store *image.Store, w io.Writer, names []string, format Format,
) error {
	return save(ctx, store, names, format, func(files []file) error {
		out := &writer{w: w}
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := out.add(f); err != nil {
				return err
			}
		}
		return out.close()
	})
}

// SaveDir writes images to a folder, as an OCI layout or docker's archive unpacked. The folder is
// made; one that is there must be empty.
func SaveDir(
	ctx context.Context, store *image.Store, dir string, names []string, format Format,
) error {
	return save(ctx, store, names, format, func(files []file) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
			return cmp.Or(err, fmt.Errorf("folder %q is not empty", dir))
		}
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f.copyTo(filepath.Join(dir, f.name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func save(
	ctx context.Context, store *image.Store, names []string, format Format,
	write func([]file) error,
) error {
	if format != FormatDocker && format != FormatOCI {
		return fmt.Errorf("format %q: want %s or %s", format, FormatDocker, FormatOCI)
	}
	lease, err := store.Lease()
	if err != nil {
		return err
	}
	files, err := pick(ctx, lease, names, format)
	if err == nil {
		err = write(files)
	}
	if err != nil {
		err = fmt.Errorf("save: %w", err)
	}
	return lease.End(err)
}

// file is a file of an archive: a blob of the store, or text.
type file struct {
	name  string
	store *image.Store
	blob  image.Descriptor
	text  []byte
}

// picked is an image that is to be saved, with the names that it has there.
type picked struct {
	*image.Image
	names []image.Reference
}

// pick lists the files of an archive: what says what is in it first.
func pick(
	ctx context.Context, lease *image.Lease, names []string, format Format,
) ([]file, error) {
	images, err := pickImages(lease, names)
	if err != nil {
		return nil, err
	}
	index := imagespec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageIndex,
	}
	var docker []element
	blobs := map[digest.Digest]image.Descriptor{}
	for _, img := range images {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		index.Manifests = append(index.Manifests, img.descriptors()...)
		docker = append(docker, img.element())
		m, _, err := lease.Store().Manifest(img.Manifest.Digest.String())
		if err != nil {
			return nil, err
		}
		for _, d := range append([]image.Descriptor{img.Manifest, m.Config}, m.Layers...) {
			if err := lease.Store().Has(d); err != nil {
				return nil, fmt.Errorf("image %s: %w", img.ID, err)
			}
			blobs[d.Digest] = d
		}
	}
	files := []file{
		text("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}),
		text("index.json", index),
	}
	if format == FormatDocker {
		files = append(files, text("manifest.json", docker))
	}
	for _, d := range slices.SortedFunc(maps.Values(blobs), smallFirst) {
		files = append(files, file{name: blobName(d.Digest), store: lease.Store(), blob: d})
	}
	return files, nil
}

// smallFirst has manifests and configurations before layers, for whoever reads a stream.
func smallFirst(a, b image.Descriptor) int {
	return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Digest, b.Digest))
}

// pickImages finds images by their names: REPOSITORY:TAG, an ID, or REPOSITORY alone, which means
// all of its tags. Each image is there once.
func pickImages(lease *image.Lease, names []string) ([]*picked, error) {
	var all []*picked
	byID := map[string]*picked{}
	add := func(name string, as ...image.Reference) error {
		img, err := lease.Store().Lookup(name)
		if err == nil {
			img, err = lease.Find(img.ID)
		}
		if err != nil {
			return err
		}
		p, ok := byID[img.ID]
		if !ok {
			p = &picked{Image: img}
			byID[img.ID] = p
			all = append(all, p)
		}
		for _, r := range as {
			if !slices.Contains(p.names, r) {
				p.names = append(p.names, r)
			}
		}
		return nil
	}
	for _, name := range names {
		tags, err := lease.Store().TagsOf(name)
		if err != nil {
			return nil, err
		}
		if len(tags) == 0 { // an ID, a digest; or nothing
			if err := add(name); err != nil {
				return nil, err
			}
		}
		for _, r := range tags {
			if err := add(r.String(), r); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// descriptors are the image's in index.json, one for each name.
func (p *picked) descriptors() []image.Descriptor {
	d := p.Manifest
	d.Platform = &imagespec.Platform{
		Architecture: p.Config.Architecture, OS: p.Config.OS, Variant: p.Config.Variant,
		OSVersion: p.Config.OSVersion, OSFeatures: p.Config.OSFeatures,
	}
	if d.Platform.OS == "" || d.Platform.Architecture == "" {
		d.Platform = nil
	}
	if len(p.names) == 0 {
		return []image.Descriptor{d}
	}
	var all []image.Descriptor
	for _, r := range p.names {
		d.Annotations = map[string]string{
			containerdName: r.String(), imagespec.AnnotationRefName: r.Tag,
		}
		all = append(all, d)
	}
	return all
}

// element is the image in manifest.json.
func (p *picked) element() element {
	e := element{Config: blobName(digest.Digest(p.ID)), RepoTags: []string{}, Layers: []string{}}
	for _, r := range p.names {
		e.RepoTags = append(e.RepoTags, r.Familiar())
	}
	for _, d := range p.Layers {
		e.Layers = append(e.Layers, blobName(d.Digest))
	}
	return e
}

// text is a file of JSON.
func text(name string, v any) file {
	content, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is of types that all can be JSON
	}
	return file{name: name, text: content}
}

func (f *file) open() (io.ReadCloser, int64, error) {
	if f.store == nil {
		return io.NopCloser(bytes.NewReader(f.text)), int64(len(f.text)), nil
	}
	r, err := f.store.OpenBlob(f.blob.Digest.String())
	return r, f.blob.Size, err
}

// copyTo writes the file, with the folders that it is in.
func (f *file) copyTo(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	r, _, err := f.open()
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}

// writer writes a tar archive. It is not tar.Writer, which copies each byte through its hands: the
// kernel copies from one file to another by itself, copy_file_range(2).
type writer struct {
	w   io.Writer
	dir map[string]bool
}

func (w *writer) add(f file) error {
	if err := w.folders(filepath.Dir(f.name)); err != nil {
		return err
	}
	r, size, err := f.open()
	if err != nil {
		return err
	}
	defer r.Close()
	err = w.header(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: size})
	if err != nil {
		return err
	}
	n, err := io.Copy(w.w, r)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d: the disk is damaged", f.name, n, size)
	}
	if err != nil {
		return err
	}
	_, err = w.w.Write(make([]byte, -size&511))
	return err
}

// folders writes the folders that a file is in, once.
func (w *writer) folders(dir string) error {
	if dir == "." || w.dir[dir] {
		return nil
	}
	if err := w.folders(filepath.Dir(dir)); err != nil {
		return err
	}
	if w.dir == nil {
		w.dir = map[string]bool{}
	}
	w.dir[dir] = true
	return w.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755})
}

func (w *writer) header(h *tar.Header) error {
	var block bytes.Buffer
	if err := tar.NewWriter(&block).WriteHeader(h); err != nil {
		return err
	}
	_, err := w.w.Write(block.Bytes())
	return err
}

func (w *writer) close() error {
	_, err := w.w.Write(make([]byte, 1024))
	return err
}
