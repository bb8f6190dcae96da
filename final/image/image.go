//go:build linux

package image

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
)

// Config is an image's configuration: OCI's, with what Docker has more in its field Config
// (Healthcheck, OnBuild, Shell).
type Config = dockerspec.DockerOCIImage

// Image is an image of the store.
type Image struct {
	ID       string // digest of the configuration, "sha256:…"
	Manifest Descriptor
	// RepoTags and RepoDigests are its names as Docker prints them, sorted: "busybox:latest",
	// "busybox@sha256:…". An image may have none: it is dangling then.
	RepoTags, RepoDigests []string
	Size                  int64 // of the files in all layers, in bytes
	Tagged                time.Time
	Config                Config
	Layers                []Descriptor // the archives, oldest first
	// ChainIDs name what the layers give on top of each other, oldest first, in hexadecimal
	// digits: storage has the layers by these. See image-spec, config.md, "Layer ChainID".
	ChainIDs []string
}

// Top is the storage layer with all of the image's files, "" if it has no layer.
func (img *Image) Top() string {
	if len(img.ChainIDs) == 0 {
		return ""
	}
	return img.ChainIDs[len(img.ChainIDs)-1]
}

// Layer says where a layer belongs, see Layers.
type Layer struct {
	ChainID string // in hexadecimal digits, as Image has them
	Parent  string // the ChainID below, "" for none
	DiffID  string // "sha256:…" of the archive, uncompressed
}

// LayerOn is the layer that an uncompressed archive gives on top of a parent, "" for none.
func LayerOn(parent, diffID string) Layer {
	return Layer{ChainID: chainID(parent, diffID), Parent: parent, DiffID: diffID}
}

// Digest is the DiffID, as a configuration has it.
func (l Layer) Digest() digest.Digest { return digest.Digest(l.DiffID) }

// LayersOf are the layers that a configuration speaks of, oldest first.
func LayersOf(c *Config) []Layer {
	var layers []Layer
	parent := ""
	for _, diffID := range c.RootFS.DiffIDs {
		l := LayerOn(parent, diffID.String())
		layers = append(layers, l)
		parent = l.ChainID
	}
	return layers
}

// chainID is that of a layer on top of those below it.
func chainID(parent, diffID string) string {
	if parent == "" {
		return strings.TrimPrefix(diffID, "sha256:")
	}
	sum := sha256.Sum256([]byte("sha256:" + parent + " " + diffID))
	return hex.EncodeToString(sum[:])
}

// List are all images, the youngest first.
func (s *Store) List() ([]*Image, error) {
	c, err := s.catalog()
	if err != nil {
		return nil, err
	}
	var images []*Image
	for id := range c.Images {
		img, err := s.load(c, id)
		if errors.Is(err, fs.ErrNotExist) && !s.has(id) {
			continue // removed since the catalog was read
		}
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	slices.SortFunc(images, func(a, b *Image) int {
		return cmp.Or(created(b).Compare(created(a)), cmp.Compare(a.ID, b.ID))
	})
	return images, nil
}

func created(img *Image) time.Time {
	if img.Config.Created == nil {
		return time.Time{}
	}
	return *img.Config.Created
}

// has says whether the image is in the catalog at this moment.
func (s *Store) has(id string) bool {
	c, err := s.catalog()
	if err != nil {
		return false
	}
	_, ok := c.Images[id]
	return ok
}

// load reads what the catalog leads to.
func (s *Store) load(c *catalog, id string) (*Image, error) {
	rec := c.Images[id]
	img := &Image{ID: id, Manifest: rec.Manifest, Size: rec.Size, Tagged: rec.Tagged}
	img.RepoTags, img.RepoDigests = familiar(c.names(id))
	m, config, err := s.Manifest(rec.Manifest.Digest.String())
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	img.Config, img.Layers = *config, m.Layers
	for _, l := range LayersOf(&img.Config) {
		img.ChainIDs = append(img.ChainIDs, l.ChainID)
	}
	return img, nil
}

// readJSON reads a blob of JSON into v.
func (s *Store) readJSON(digest string, v any) error {
	text, err := s.ReadBlob(digest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	return nil
}
