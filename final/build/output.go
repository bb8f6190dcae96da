//go:build linux

package build

import (
	"encoding/json"
	"errors"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
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
