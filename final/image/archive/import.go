//go:build linux

// Package archive turns archives into images and back: a root file system (Import), docker's
// archives and OCI layouts (Load, Save), a container's changes (Commit).
package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/ingest"
)

// ImportOptions is what an imported image is to be.
type ImportOptions struct {
	Name    string // "" for none
	Message string // its history's comment
	// Platform is what the files are for; "" is this machine's.
	OS, Architecture, Variant string
	// Change, if set, changes the configuration: -c.
	Change func(*image.Config) error
	// Created is the image's time; zero is now. See Now.
	Created time.Time
}

// Import makes an image of one layer: a tar archive of a root file system, which may be
// compressed.
func Import(
	ctx context.Context, store *image.Store, layers image.Layers, r io.Reader, o ImportOptions,
) (*image.Image, error) {
	names, err := namesOf(o.Name)
	if err != nil {
		return nil, err
	}
	lease, err := store.Lease()
	if err != nil {
		return nil, err
	}
	img, err := importLease(ctx, lease, layers, r, o, names)
	return img, lease.End(err)
}

func importLease(ctx context.Context, lease *image.Lease, layers image.Layers, r io.Reader,
	o ImportOptions, names []image.Reference,
) (*image.Image, error) {
	d := draft{lease: lease, layers: layers, created: o.Created}
	d.config.OS, d.config.Architecture, d.config.Variant = o.OS, o.Architecture, o.Variant
	if err := d.add(ctx, r); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if o.Change != nil {
		if err := o.Change(&d.config); err != nil {
			return nil, err
		}
	}
	if o.Message == "" {
		o.Message = "Imported from -"
	}
	return d.finish(imagespec.History{Comment: o.Message}, names)
}

// namesOf reads an image's name, which may be none.
func namesOf(name string) ([]image.Reference, error) {
	if name == "" {
		return nil, nil
	}
	r, err := image.ParseReference(name)
	if err == nil && r.Digest != "" {
		err = fmt.Errorf("image name %q: a digest cannot be given, it follows from the image", name)
	}
	return []image.Reference{r.WithTag()}, err
}

// draft is an image while it is made: a base's layers and configuration, and more.
type draft struct {
	lease    *image.Lease
	layers   image.Layers
	created  time.Time
	config   image.Config
	manifest imagespec.Manifest
	top      string // chain ID of the last layer
	size     int64
}

// add puts a layer on top.
func (d *draft) add(ctx context.Context, r io.Reader) error {
	taken, err := ingest.Job{
		Lease: d.lease, Archive: r, Layers: d.layers, Layer: image.Layer{Parent: d.top},
	}.Run(ctx)
	if err != nil {
		return err
	}
	d.size += taken.Size
	d.top = taken.Layer.ChainID
	d.manifest.Layers = append(d.manifest.Layers, taken.Descriptor)
	d.config.RootFS.DiffIDs = append(d.config.RootFS.DiffIDs, taken.Layer.Digest())
	return nil
}

// finish writes configuration and manifest, and gives the image its names.
func (d *draft) finish(by imagespec.History, names []image.Reference) (*image.Image, error) {
	if d.created.IsZero() {
		d.created = time.Now()
	}
	d.created = d.created.UTC()
	by.Created = &d.created
	c := &d.config
	c.Created = by.Created
	c.RootFS.Type = "layers"
	c.History = append(c.History, by)
	if c.OS == "" {
		c.OS = "linux"
	}
	if c.Architecture == "" {
		c.Architecture = runtime.GOARCH
	}
	config, err := d.put(c, imagespec.MediaTypeImageConfig)
	if err != nil {
		return nil, err
	}
	d.manifest.Versioned = specs.Versioned{SchemaVersion: 2}
	d.manifest.MediaType, d.manifest.Config = imagespec.MediaTypeImageManifest, config
	if d.manifest.Layers == nil {
		d.manifest.Layers = []image.Descriptor{} // the schema wants an array
	}
	manifest, err := d.put(d.manifest, imagespec.MediaTypeImageManifest)
	if err != nil {
		return nil, err
	}
	return d.lease.Add(manifest, d.size, names...)
}

// put stores v as a blob. The same v gives the same bytes, and so the same digest.
func (d *draft) put(v any, mediaType string) (image.Descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return image.Descriptor{}, err
	}
	return d.lease.Put(text, mediaType)
}
