//go:build linux

package registry

import (
	"context"
	"fmt"

	"minidocker/final/image"
	"minidocker/final/image/ingest"
)

// PullOptions is how Pull pulls.
type PullOptions struct {
	// Platform is which image of an index, OS/ARCH[/VARIANT]; "" is this machine's.
	Platform string
	// Progress is told what happens to the layers, from several goroutines.
	Progress func(ingest.Event)
}

// Pulled is what Pull has got.
type Pulled struct {
	Image  *image.Image
	Digest string // of what the name leads to: a manifest or an index
	Newer  bool   // the image was not here
}

// Pull gets an image by a name with a tag ("latest" if there is none) or a digest. Layers are
// fetched, verified and unpacked in one pass, several at once. What is here is not fetched. When
// there is an error, there is no image, and the name means what it meant.
func (c *Client) Pull(
	ctx context.Context, store *image.Store, layers image.Layers, name string, o PullOptions,
) (*Pulled, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	lease, err := store.Lease()
	if err != nil {
		return nil, err
	}
	p, err := c.pull(ctx, lease, layers, ref.WithTag(), o)
	if err != nil {
		err = fmt.Errorf("pull %s: %w", ref.WithTag().Familiar(), err)
	}
	return p, lease.End(err)
}

func (c *Client) pull(
	ctx context.Context, lease *image.Lease, layers image.Layers, ref image.Reference, o PullOptions,
) (*Pulled, error) {
	r, err := c.open(ctx, ref, "pull")
	if err != nil {
		return nil, err
	}
	defer r.http.CloseIdleConnections()
	want := ref.Tag
	if ref.Digest != "" {
		want = ref.Digest
	}
	top, text, err := r.manifest(ctx, want)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" && top.Digest.String() != ref.Digest {
		return nil, fmt.Errorf("the registry gives a manifest with digest %s: it is damaged or forged",
			top.Digest)
	}
	names := []image.Reference{ref.WithDigest(top.Digest.String())}
	if ref.Digest == "" {
		names = append(names, ref)
	}
	before, err := lease.Store().List()
	if err != nil {
		return nil, err
	}
	img, err := ingest.Image(ctx, lease, layers, &first{r, top, text}, top, ingest.Options{
		Platform: o.Platform, Names: names, Progress: o.Progress,
	})
	if err != nil {
		return nil, err
	}
	p := &Pulled{Image: img, Digest: top.Digest.String(), Newer: true}
	for _, old := range before {
		p.Newer = p.Newer && old.ID != img.ID
	}
	return p, nil
}

// first is a repository of which one manifest has been got already.
type first struct {
	*repository
	top  image.Descriptor
	text []byte
}

// Manifest is ingest.Source's.
func (f *first) Manifest(ctx context.Context, d image.Descriptor) ([]byte, error) {
	if d.Digest == f.top.Digest {
		return f.text, nil
	}
	return f.repository.Manifest(ctx, d)
}
