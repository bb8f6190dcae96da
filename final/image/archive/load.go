//go:build linux

package archive

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/compression"
	"minidocker/final/image/ingest"
)

// LoadOptions is what Load takes of an archive.
type LoadOptions struct {
	// Platform is which image of several; "" is this machine's.
	Platform string
	Progress func(ingest.Event)
}

// Loaded is an image that was in an archive.
type Loaded struct {
	Image *image.Image
	Names []string // that it got, as Docker prints them
}

// containerdName is containerd's and docker's annotation with an image's whole name. OCI's own
// (image.ref.name) has but the tag there.
const containerdName = "io.containerd.image.name"

// element is an image in manifest.json, docker's own form.
type element struct {
	Config   string   // name of a file
	RepoTags []string // names of the image
	Layers   []string // names of files, oldest first
}

// Load takes in the images of an archive: docker's, or an OCI layout; a tar archive, which may be
// compressed, or a folder. It is a folder if in is an *os.File that is open on one. Images come
// one after the other: when there is an error, those before are there.
func Load(
	ctx context.Context, store *image.Store, layers image.Layers, in io.Reader, o LoadOptions,
) ([]Loaded, error) {
	lease, err := store.Lease()
	if err != nil {
		return nil, err
	}
	loaded, err := loadLease(ctx, lease, layers, in, o)
	if err != nil {
		err = fmt.Errorf("load: %w", err)
	}
	return loaded, lease.End(err)
}

func loadLease(
	ctx context.Context, lease *image.Lease, layers image.Layers, in io.Reader, o LoadOptions,
) ([]Loaded, error) {
	all, err := openFiles(ctx, lease, in)
	if err != nil {
		return nil, err
	}
	if dir, ok := all.(*folder); ok {
		defer dir.root.Close()
	}
	l := &loader{lease: lease, files: all, made: map[digest.Digest]string{}}
	found, err := l.find(ctx, o.Platform)
	if err != nil {
		return nil, err
	}
	var loaded []Loaded
	for _, f := range found {
		img, err := ingest.Image(ctx, lease, layers, l, f.top, ingest.Options{
			Platform: o.Platform, Names: f.names, Progress: o.Progress,
		})
		if err != nil {
			return loaded, err
		}
		done := Loaded{Image: img}
		for _, r := range f.names {
			done.Names = append(done.Names, r.Familiar())
		}
		loaded = append(loaded, done)
	}
	return loaded, nil
}

// loader is an archive as a source of images.
type loader struct {
	lease *image.Lease
	files files
	made  map[digest.Digest]string // of a docker archive: the blobs' files, "" is in the store
}

// found is an image in an archive.
type found struct {
	top   image.Descriptor
	names []image.Reference
}

// find lists the images.
func (l *loader) find(ctx context.Context, platform string) ([]found, error) {
	var docker []element
	var index imagespec.Index
	isDocker, err := l.readJSON("manifest.json", &docker)
	if err != nil {
		return nil, err
	}
	isLayout, err := l.readJSON("index.json", &index)
	if err != nil {
		return nil, err
	}
	var all []found
	switch {
	case isLayout:
		all, err = l.findLayout(ctx, index, docker, platform)
	case isDocker:
		all, err = l.findDocker(ctx, docker)
	default:
		return nil, errors.New("it has neither index.json nor manifest.json: is it an archive of " +
			"images? A root file system becomes an image by import")
	}
	if err == nil && len(all) == 0 {
		err = errors.New("there is no image in it")
	}
	return all, err
}

// readJSON reads a file of an archive; it is false if there is none.
func (l *loader) readJSON(name string, v any) (bool, error) {
	text, err := l.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

func (l *loader) read(name string) ([]byte, error) {
	r, _, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, image.MaxJSON+1))
	if err == nil && len(text) > image.MaxJSON {
		err = fmt.Errorf("it has more than %d bytes", image.MaxJSON)
	}
	return text, err
}

// findLayout lists the images of index.json: one for each manifest or index, with all names that
// lead to it. Of several for other platforms, those for this one are taken.
func (l *loader) findLayout(
	ctx context.Context, index imagespec.Index, docker []element, platform string,
) ([]found, error) {
	byConfig := map[string][]string{} // names in docker's form, of those that have no other
	for _, e := range docker {
		config := path.Clean(e.Config)
		byConfig[config] = append(byConfig[config], e.RepoTags...)
	}
	names, tops := map[digest.Digest][]string{}, []image.Descriptor{}
	for _, d := range index.Manifests {
		if _, ok := names[d.Digest]; !ok {
			tops = append(tops, d)
			names[d.Digest] = nil
		}
		name := cmp.Or(d.Annotations[containerdName], d.Annotations[imagespec.AnnotationRefName])
		if d.Annotations[containerdName] == "" && docker != nil {
			continue // manifest.json has the whole name of what is a tag here
		}
		if name != "" {
			names[d.Digest] = append(names[d.Digest], name)
		}
	}
	var all []found
	var other error // that an image was left out
	for _, d := range tops {
		if t := d.ArtifactType; t != "" {
			continue // as signatures are
		}
		if d.Platform != nil && !ingest.Fits(d.Platform, platform) {
			other = fmt.Errorf("the image is for %s: choose with --platform",
				ingest.PlatformName(d.Platform))
			continue
		}
		manifest, text, err := ingest.Resolve(ctx, l, d, platform)
		if err != nil {
			return nil, err
		}
		m, err := ingest.ParseManifest(manifest, text)
		if err != nil {
			return nil, err
		}
		if len(names[d.Digest]) == 0 {
			names[d.Digest] = byConfig[blobName(m.Config.Digest)]
		}
		all = append(all, found{d, referencesOf(names[d.Digest])})
	}
	if len(all) == 0 && other != nil {
		return nil, other
	}
	return all, nil
}

// referencesOf reads names, and leaves out what is none: the image can be tagged by its ID.
func referencesOf(names []string) []image.Reference {
	all := map[string]image.Reference{}
	for _, name := range names {
		if r, err := image.ParseReference(name); err == nil && r.Digest == "" {
			all[r.WithTag().String()] = r.WithTag()
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b image.Reference) int {
		return strings.Compare(a.String(), b.String())
	})
}

// findDocker makes manifests for the images of manifest.json, as there are none.
func (l *loader) findDocker(ctx context.Context, docker []element) ([]found, error) {
	var all []found
	for _, e := range docker {
		d, err := l.dockerManifest(ctx, e)
		if err != nil {
			return nil, err
		}
		all = append(all, found{d, referencesOf(e.RepoTags)})
	}
	return all, nil
}

func (l *loader) dockerManifest(ctx context.Context, e element) (image.Descriptor, error) {
	config, err := l.read(e.Config)
	if err != nil {
		return image.Descriptor{}, fmt.Errorf("configuration %q: %w", e.Config, err)
	}
	var c image.Config
	if err := json.Unmarshal(config, &c); err != nil {
		return image.Descriptor{}, fmt.Errorf("configuration %q: %w", e.Config, err)
	}
	if len(c.RootFS.DiffIDs) != len(e.Layers) {
		return image.Descriptor{}, fmt.Errorf("configuration %q speaks of %d layers, manifest.json "+
			"of %d", e.Config, len(c.RootFS.DiffIDs), len(e.Layers))
	}
	m := imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		Layers: []image.Descriptor{},
	}
	if m.Config, err = l.lease.Put(config, imagespec.MediaTypeImageConfig); err != nil {
		return image.Descriptor{}, err
	}
	l.made[m.Config.Digest] = ""
	for i, name := range e.Layers {
		d, err := l.dockerLayer(ctx, name, c.RootFS.DiffIDs[i])
		if err != nil {
			return image.Descriptor{}, fmt.Errorf("layer %q: %w", name, err)
		}
		m.Layers = append(m.Layers, d)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return image.Descriptor{}, err
	}
	d, err := l.lease.Put(text, imagespec.MediaTypeImageManifest)
	l.made[d.Digest] = ""
	return d, err
}

// dockerLayer says what a layer's blob will be. Docker's archives have layers uncompressed, and
// so it is the archive that the configuration speaks of; else it must be read to be known.
func (l *loader) dockerLayer(
	ctx context.Context, name string, diffID digest.Digest,
) (image.Descriptor, error) {
	r, size, err := l.files.open(name)
	if err != nil {
		return image.Descriptor{}, err
	}
	defer r.Close()
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return image.Descriptor{}, err
	}
	d := image.Descriptor{MediaType: imagespec.MediaTypeImageLayer, Digest: diffID, Size: size}
	if compression.Detect(head[:n]) != compression.None {
		whole := io.MultiReader(bytes.NewReader(head[:n]), r)
		taken, err := ingest.Job{Lease: l.lease, Archive: whole}.Run(ctx)
		if err != nil {
			return image.Descriptor{}, err
		}
		l.made[taken.Descriptor.Digest] = ""
		return taken.Descriptor, nil
	}
	l.made[diffID] = name
	return d, nil
}

// Manifest is ingest.Source's.
func (l *loader) Manifest(ctx context.Context, d image.Descriptor) ([]byte, error) {
	if d.Size > image.MaxJSON {
		return nil, fmt.Errorf("%d bytes are no manifest", d.Size)
	}
	r, err := l.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, image.MaxJSON+1))
}

// Blob is ingest.Source's.
func (l *loader) Blob(_ context.Context, d image.Descriptor) (io.ReadCloser, error) {
	if err := image.CheckDigest(d.Digest.String()); err != nil {
		return nil, err
	}
	name, ok := l.made[d.Digest]
	if !ok {
		name = blobName(d.Digest)
	} else if name == "" {
		return l.lease.Store().OpenBlob(d.Digest.String())
	}
	r, _, err := l.files.open(name)
	return r, err
}

// blobName is a blob's name in an OCI layout.
func blobName(d digest.Digest) string { return "blobs/" + strings.Replace(string(d), ":", "/", 1) }
