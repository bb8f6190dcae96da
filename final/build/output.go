//go:build linux

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/go-csvvalue"

	"minidocker/final/image"
	imagearchive "minidocker/final/image/archive"
	"minidocker/final/storage/archive"
)

// Result is what a build has made. It is there until the build returns.
type Result struct {
	b     *builder
	state *state
	names []image.Reference
}

// Store makes it an image of the store, with the names that it was built for.
func (r *Result) Store() (*image.Image, error) {
	c := &r.state.config
	created := r.state.created
	c.Created, c.RootFS.Type = &created, "layers"
	if c.RootFS.DiffIDs == nil {
		c.RootFS.DiffIDs = []digest.Digest{}
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if img, err := r.found(image.DigestOf(config)); img != nil || err != nil {
		return img, err
	}
	m := imagespec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imagespec.MediaTypeImageManifest, Layers: []image.Descriptor{}}
	if m.Config, err = r.b.lease.Put(config, imagespec.MediaTypeImageConfig); err != nil {
		return nil, err
	}
	var size int64
	for _, l := range r.state.layers {
		m.Layers = append(m.Layers, l.Blob)
		n, _ := r.b.layers.Have(l.Layer.ChainID)
		size += n
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	manifest, err := r.b.lease.Put(text, imagespec.MediaTypeImageManifest)
	if err != nil {
		return nil, err
	}
	return r.b.lease.Add(manifest, size, r.names...)
}

// found is the image, if it is there already, with its names.
func (r *Result) found(id string) (*image.Image, error) {
	img, err := r.b.lease.Find(id)
	if errors.Is(err, image.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range r.names {
		if !slices.Contains(img.RepoTags, n.Familiar()) {
			if err := r.b.store.Tag(id, n.String()); err != nil {
				return nil, err
			}
		}
	}
	return r.b.store.Lookup(id)
}

// Root calls f with the root folder of all its files.
func (r *Result) Root(f func(root *os.File) error) error {
	return r.b.withRoot(r.state.top(), f)
}

// Output says what a result becomes: docker build --output.
type Output struct {
	Type string // docker, image, oci, tar, local
	Dest string // a file or a folder; "" or "-" is the standard output, for the types that are files
}

// ParseOutput reads TYPE's words, as in type=tar,dest=out.tar; a word alone is a folder, and "-"
// a tar archive on the standard output.
func ParseOutput(text string) (Output, error) {
	var o Output
	if text == "-" {
		return Output{Type: "tar", Dest: "-"}, nil
	}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return o, fmt.Errorf("--output %q: %w", text, err)
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		return Output{Type: "local", Dest: fields[0]}, nil
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		switch strings.ToLower(name) {
		case "type":
			o.Type = value
		case "dest":
			o.Dest = value
		default:
			return o, fmt.Errorf("--output %q: %q is unknown: there are type and dest", text, name)
		}
	}
	switch o.Type {
	case "docker", "image", "oci", "tar":
	case "local":
		if o.Dest == "" {
			return o, fmt.Errorf("--output %q: dest is required", text)
		}
	default:
		return o, fmt.Errorf("--output %q: want type=docker, image, oci, tar or local", text)
	}
	return o, nil
}

// IsImage says that the output is an image of the store.
func (o Output) IsImage() bool {
	return o.Type == "" || o.Type == "image" || o.Type == "docker" && o.Dest == ""
}

// IsFile says that the output is one file, which Write writes.
func (o Output) IsFile() bool { return !o.IsImage() && o.Type != "local" }

// Write writes the result: of oci and docker, an archive with the image, which is in the store as
// well then; of tar, all files.
func (r *Result) Write(ctx context.Context, o Output, w io.Writer) error {
	if o.Type == "tar" {
		return r.Root(func(root *os.File) error {
			return archive.Pack(ctx, w, root, archive.PackOptions{NotAfter: r.b.epoch})
		})
	}
	img, err := r.Store()
	if err != nil {
		return err
	}
	names := []string{img.ID}
	if len(r.names) > 0 {
		names = names[:0]
	}
	for _, n := range r.names {
		names = append(names, n.Familiar())
	}
	format := imagearchive.FormatDocker
	if o.Type == "oci" {
		format = imagearchive.FormatOCI
	}
	return imagearchive.Save(ctx, r.b.store, w, names, format)
}

// WriteFolder writes all files to a folder, which is made if it is not there. They are the
// caller's then.
func (r *Result) WriteFolder(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	to, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	read, write := io.Pipe()
	go func() {
		write.CloseWithError(r.Root(func(root *os.File) error {
			return archive.Pack(ctx, write, root, archive.PackOptions{NotAfter: r.b.epoch})
		}))
	}()
	_, err = archive.Unpack(ctx, to, read, archive.UnpackOptions{
		Owner: &archive.Owner{UID: os.Geteuid(), GID: os.Getegid()}, NoDevices: true,
	})
	return errors.Join(err, read.Close())
}
