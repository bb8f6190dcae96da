//go:build linux

package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// catalog is references.json.
type catalog struct {
	// Images are what is known of the images, by ID.
	Images map[string]record `json:"images"`
	// References are the images' IDs by name, as String has it: with a tag or with a digest.
	References map[string]string `json:"references"`
	// Compressed are what layers that are not compressed become for a registry, by digest.
	Compressed map[string]Descriptor `json:"compressed,omitempty"`
}

// record is an image in the catalog.
type record struct {
	Manifest Descriptor `json:"manifest"`
	// Size of the files in all layers, in bytes, as they are unpacked.
	Size int64 `json:"size"`
	// Tagged is when it got a name for the last time.
	Tagged time.Time `json:"tagged,omitzero"`
}

func newCatalog() *catalog {
	return &catalog{Images: map[string]record{}, References: map[string]string{}}
}

// catalog reads references.json. It takes no lock.
func (s *Store) catalog() (*catalog, error) {
	c := newCatalog()
	path := s.path("references.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	if c.Images == nil || c.References == nil {
		return nil, fmt.Errorf("read %q: it has no images or no references", path)
	}
	return c, nil
}

// write replaces references.json, and then index.json. The store must be locked exclusively. A
// crash between the two leaves an index.json that lags behind until the next change; the store
// itself never reads it.
func (s *Store) write(c *catalog) error {
	if err := replaceJSON(s.path("references.json"), c); err != nil {
		return err
	}
	return replaceJSON(s.path("index.json"), c.index())
}

// index has the images as an OCI layout names them: a manifest once for each of its tags.
func (c *catalog) index() imagespec.Index {
	index := imagespec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imagespec.MediaTypeImageIndex, Manifests: []Descriptor{},
	}
	for _, id := range slices.Sorted(maps.Keys(c.Images)) {
		d := c.Images[id].Manifest
		tags, _ := familiar(c.names(id))
		if len(tags) == 0 {
			index.Manifests = append(index.Manifests, d)
		}
		for _, tag := range tags {
			d.Annotations = map[string]string{imagespec.AnnotationRefName: tag}
			index.Manifests = append(index.Manifests, d)
		}
	}
	return index
}

// names are the references to an image, sorted.
func (c *catalog) names(id string) []Reference {
	var names []Reference
	for _, name := range slices.Sorted(maps.Keys(c.References)) {
		if c.References[name] != id {
			continue
		}
		if r, err := parseReference(name); err == nil {
			names = append(names, r)
		}
	}
	return names
}

// familiar has the names as Docker prints them, those with tags and those with digests.
func familiar(names []Reference) (tags, digests []string) {
	for _, r := range names {
		if r.Digest != "" {
			digests = append(digests, r.Familiar())
		} else {
			tags = append(tags, r.Familiar())
		}
	}
	slices.Sort(tags)
	slices.Sort(digests)
	return tags, digests
}

// change lets f change the catalog and write it, with the store locked exclusively.
func (s *Store) change(f func(c *catalog) error) error {
	unlock, err := s.lock(lockExclusive)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := s.catalog()
	if err != nil {
		return err
	}
	return f(c)
}

// Compressed is what a layer became when it was compressed for a registry. It need not be here.
func (s *Store) Compressed(d Descriptor) (Descriptor, bool) {
	c, err := s.catalog()
	if err != nil {
		return Descriptor{}, false
	}
	z, ok := c.Compressed[d.Digest.String()]
	return z, ok
}

// SetCompressed notes what a layer has become.
func (s *Store) SetCompressed(d, z Descriptor) error {
	return s.change(func(c *catalog) error {
		if c.Compressed == nil {
			c.Compressed = map[string]Descriptor{}
		}
		c.Compressed[d.Digest.String()] = z
		return s.write(c)
	})
}
