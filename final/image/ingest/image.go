//go:build linux

package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
)

// Source is where an image comes from: a registry, or an archive.
type Source interface {
	// Manifest gets a manifest or an index. Its digest and size are compared here.
	Manifest(ctx context.Context, d image.Descriptor) ([]byte, error)
	// Blob gets a configuration or a layer. So are these.
	Blob(ctx context.Context, d image.Descriptor) (io.ReadCloser, error)
}

// Options is how Image takes an image in.
type Options struct {
	// Platform is which image of an index it is, OS/ARCH[/VARIANT]; "" is this machine's.
	Platform string
	// Names are given to the image.
	Names []image.Reference
	// Progress is told what happens, from several goroutines; nil: nobody is.
	Progress func(Event)
}

// Event is what happens to a layer.
type Event struct {
	Layer  image.Descriptor
	Status Status
	Bytes  int64 // of Layer.Size, that have come
}

// Status is how far a layer is.
type Status int

// A layer waits, is fetched and unpacked at the same time, and is done; or it was there.
const (
	Waiting Status = iota
	Fetching
	Unpacking // from the store, after it was fetched
	Done
	Exists
)

// Image takes an image in: the manifest that top leads to, its configuration, its layers, several
// at once. On an error there is no image; blobs and layers that are whole go with the lease, at
// the next Collect.
func Image(
	ctx context.Context, lease *image.Lease, layers image.Layers, source Source,
	top image.Descriptor, o Options,
) (*image.Image, error) {
	d, text, err := Resolve(ctx, source, top, o.Platform)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(d, text)
	if err != nil {
		return nil, err
	}
	if d.Size = int64(len(text)); d.MediaType == "" {
		d.MediaType = imagespec.MediaTypeImageManifest
	}
	c, err := config(ctx, lease, source, m)
	if err != nil {
		return nil, err
	}
	// An image that is here keeps its archives. They may be compressed in another way.
	if here, err := lease.Find(m.Config.Digest.String()); err == nil {
		d, m.Layers = here.Manifest, here.Layers
	} else if !errors.Is(err, image.ErrNotExist) {
		return nil, err
	} else if err := lease.PutAs(d, text); err != nil {
		return nil, err
	}
	size, err := all(ctx, lease, layers, source, m, c, o.Progress)
	if err != nil {
		return nil, err
	}
	return lease.Add(d, size, o.Names...)
}

// config gets the configuration, and stores it.
func config(
	ctx context.Context, lease *image.Lease, source Source, m *imagespec.Manifest,
) (*image.Config, error) {
	text, err := ReadConfig(ctx, source, m.Config)
	if err != nil {
		return nil, err
	}
	c := &image.Config{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	if c.OS != "linux" && c.OS != "" {
		return nil, fmt.Errorf("configuration %s: the image is for %s, and this is Linux",
			m.Config.Digest, c.OS)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("configuration %s speaks of %d layers, the manifest of %d",
			m.Config.Digest, len(c.RootFS.DiffIDs), len(m.Layers))
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := image.CheckDigest(d.String()); err != nil {
			return nil, fmt.Errorf("configuration %s: diff_ids: %w", m.Config.Digest, err)
		}
	}
	return c, lease.PutAs(m.Config, text)
}

// ReadConfig gets a configuration.
func ReadConfig(ctx context.Context, source Source, d image.Descriptor) ([]byte, error) {
	if d.Size > image.MaxJSON {
		return nil, fmt.Errorf("configuration %s: %d bytes are more than the %d that are possible",
			d.Digest, d.Size, image.MaxJSON)
	}
	r, err := source.Blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, image.MaxJSON+1))
	if err == nil {
		err = check(d, text)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	return text, nil
}

// set is the layers of an image on their way.
type set struct {
	lease    *image.Lease
	storage  image.Layers
	source   Source
	progress func(Event)
	blobs    []image.Descriptor
	layers   []image.Layer
	same     []int           // the first layer with the same blob
	done     []chan struct{} // closed when a layer is there, and when all is over
}

// parallel is how many layers are fetched and unpacked at once. One waits for the network, one
// for the disk, one for a processor.
var parallel = 2 + runtime.GOMAXPROCS(0)/2

// all takes the layers in, and returns the size of their files.
func all(
	ctx context.Context, lease *image.Lease, storage image.Layers, source Source,
	m *imagespec.Manifest, c *image.Config, progress func(Event),
) (int64, error) {
	if progress == nil {
		progress = func(Event) {}
	}
	s := &set{
		lease: lease, storage: storage, source: source, progress: progress,
		blobs: m.Layers, layers: image.LayersOf(c),
	}
	first := map[string]int{}
	for i, d := range s.blobs {
		if _, ok := first[d.Digest.String()]; !ok {
			first[d.Digest.String()] = i
		}
		s.same = append(s.same, first[d.Digest.String()])
		s.done = append(s.done, make(chan struct{}))
		progress(Event{Layer: d, Status: Waiting})
	}
	return s.run(ctx)
}

func (s *set) run(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sizes := make([]int64, len(s.blobs))
	places := make(chan struct{}, parallel)
	var group sync.WaitGroup
	for i := range s.blobs {
		places <- struct{}{} // the oldest first: the others may have to wait for it
		group.Go(func() {
			defer func() { <-places }()
			var err error
			if sizes[i], err = s.one(ctx, i); err != nil {
				cancel(err) // the first one is what is told
				return
			}
			close(s.done[i])
		})
	}
	group.Wait()
	var sum int64
	for _, n := range sizes {
		sum += n
	}
	return sum, context.Cause(ctx)
}

// one takes a layer in.
func (s *set) one(ctx context.Context, i int) (int64, error) {
	d, at := s.blobs[i], s.layers[i]
	if err := s.lease.Hold(at.ChainID); err != nil {
		return 0, err
	}
	stored, err := s.lease.Take(d)
	if err != nil {
		return 0, err
	}
	if !stored && s.same[i] < i {
		if err := s.wait(ctx, s.same[i]); err != nil {
			return 0, err
		}
		stored = true
	}
	if size, ok := s.has(at); ok && stored {
		s.progress(Event{Layer: d, Status: Exists, Bytes: d.Size})
		return size, nil
	}
	if !stored {
		if err := s.fetch(ctx, i); err != nil {
			return 0, err
		}
	}
	size, ok := s.has(at)
	if !ok {
		if err := s.below(ctx, i); err != nil {
			return 0, err
		}
		s.progress(Event{Layer: d, Status: Unpacking, Bytes: d.Size})
		if size, err = Unpack(ctx, s.lease, s.storage, d, at); err != nil {
			return 0, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
	}
	s.progress(Event{Layer: d, Status: Done, Bytes: d.Size})
	return size, nil
}

// has says whether the storage has a layer, and its size.
func (s *set) has(at image.Layer) (int64, bool) {
	if s.storage == nil {
		return 0, true
	}
	return s.storage.Have(at.ChainID)
}

// fetch gets a layer into the store; and into the storage, if that is possible at once.
func (s *set) fetch(ctx context.Context, i int) error {
	d := s.blobs[i]
	s.progress(Event{Layer: d, Status: Fetching})
	r, err := s.source.Blob(ctx, d)
	if err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	defer r.Close()
	job := Job{Lease: s.lease, Want: d, Layer: s.layers[i]}
	job.Archive = &progress{r: r, event: Event{Layer: d, Status: Fetching}, tell: s.progress}
	if _, ok := s.has(s.layers[i]); !ok && (s.storage.Independent() || s.ready(i)) {
		job.Layers = s.storage
	}
	if _, err = job.Run(ctx); err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return nil
}

// ready says whether the layer below is there.
func (s *set) ready(i int) bool {
	if i == 0 {
		return true
	}
	select {
	case <-s.done[i-1]:
		return true
	default:
		return false
	}
}

// below waits for the layer below, if the storage needs that.
func (s *set) below(ctx context.Context, i int) error {
	if i == 0 || s.storage.Independent() {
		return nil
	}
	return s.wait(ctx, i-1)
}

func (s *set) wait(ctx context.Context, i int) error {
	select {
	case <-s.done[i]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// progress tells how much of a layer has come, in steps.
type progress struct {
	r     io.Reader
	event Event
	told  int64
	tell  func(Event)
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.event.Bytes += int64(n); p.event.Bytes-p.told >= 256<<10 || err != nil {
		p.told = p.event.Bytes
		p.tell(p.event)
	}
	return n, err
}

// layerTypes are the media types that a layer may have, and what OCI calls the same.
var layerTypes = map[string]string{
	imagespec.MediaTypeImageLayer:                       imagespec.MediaTypeImageLayer,
	imagespec.MediaTypeImageLayerGzip:                   imagespec.MediaTypeImageLayerGzip,
	imagespec.MediaTypeImageLayerZstd:                   imagespec.MediaTypeImageLayerZstd,
	"application/vnd.docker.image.rootfs.diff.tar":      imagespec.MediaTypeImageLayer,
	"application/vnd.docker.image.rootfs.diff.tar.gzip": imagespec.MediaTypeImageLayerGzip,
	"application/vnd.docker.image.rootfs.diff.tar.zstd": imagespec.MediaTypeImageLayerZstd,
}

// OCILayerType is a layer's media type in an OCI manifest.
func OCILayerType(mediaType string) string { return cmp.Or(layerTypes[mediaType], mediaType) }

// checkLayer refuses what is no layer, or cannot be had.
func checkLayer(d image.Descriptor) error {
	switch {
	case len(d.URLs) > 0 || strings.Contains(d.MediaType, "nondistributable") ||
		strings.Contains(d.MediaType, "foreign"):
		return errors.New("it is not in the registry but elsewhere (a foreign layer, as Windows has)")
	case layerTypes[d.MediaType] == "":
		return fmt.Errorf("%q is no layer of a container's image", d.MediaType)
	}
	return checkDescriptor(d)
}

func checkDescriptor(d image.Descriptor) error {
	if d.Size < 0 {
		return fmt.Errorf("%s: its size is said to be %d bytes", d.Digest, d.Size)
	}
	return image.CheckDigest(d.Digest.String())
}
