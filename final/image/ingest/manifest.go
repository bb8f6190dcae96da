//go:build linux

package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
)

// Docker's media types, which differ from OCI's in name alone.
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// document is a manifest or an index: which of them it is, its fields tell.
type document struct {
	SchemaVersion int                `json:"schemaVersion"`
	MediaType     string             `json:"mediaType"`
	Config        *image.Descriptor  `json:"config"`
	Layers        []image.Descriptor `json:"layers"`
	Manifests     []image.Descriptor `json:"manifests"`
	FSLayers      []struct{}         `json:"fsLayers"` // schema 1 has these
}

// parse reads a manifest or an index. What could be read as both is refused: two readers would
// see two images in one digest (CVE-2021-41190).
func parse(text []byte) (*document, error) {
	if len(text) > image.MaxJSON {
		return nil, fmt.Errorf("more than %d bytes are no manifest", image.MaxJSON)
	}
	doc := &document{}
	if err := json.Unmarshal(text, doc); err != nil {
		return nil, err
	}
	switch {
	case doc.SchemaVersion == 1 || doc.FSLayers != nil:
		return nil, errors.New("it is of schema 1, which Docker gave up in 2017: " +
			"let whoever made the image push it again")
	case doc.SchemaVersion != 2 && doc.SchemaVersion != 0: // there are tools that leave it out
		return nil, fmt.Errorf("schema version %d is unknown", doc.SchemaVersion)
	case doc.Manifests != nil && (doc.Config != nil || doc.Layers != nil):
		return nil, errors.New("it is a manifest and an index at once")
	case doc.Manifests == nil && doc.Config == nil:
		return nil, errors.New("it is neither a manifest nor an index")
	case !doc.is(doc.MediaType):
		return nil, fmt.Errorf("it says that it is %q, which it is not", doc.MediaType)
	}
	return doc, nil
}

// is says whether a media type goes with what the document is.
func (doc *document) is(mediaType string) bool {
	switch mediaType {
	case "":
		return true
	case imagespec.MediaTypeImageManifest, MediaTypeDockerManifest:
		return doc.Manifests == nil
	case imagespec.MediaTypeImageIndex, MediaTypeDockerIndex:
		return doc.Manifests != nil
	}
	return false
}

// ParseManifest reads a manifest and sees that it is one of an image for containers.
func ParseManifest(d image.Descriptor, text []byte) (*imagespec.Manifest, error) {
	doc, err := parse(text)
	if err == nil {
		err = doc.checkImage()
	}
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	m := &imagespec.Manifest{MediaType: doc.MediaType, Config: *doc.Config, Layers: doc.Layers}
	m.SchemaVersion = doc.SchemaVersion
	return m, nil
}

func (doc *document) checkImage() error {
	if doc.Config == nil {
		return errors.New("it is an index, of an index")
	}
	switch t := doc.Config.MediaType; t {
	case imagespec.MediaTypeImageConfig, MediaTypeDockerConfig:
	default:
		return fmt.Errorf("it is no image for containers: its configuration is %q", t)
	}
	if err := checkDescriptor(*doc.Config); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	for i, layer := range doc.Layers {
		if err := checkLayer(layer); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

// maxIndexes is how many indexes may lead from one to the next.
const maxIndexes = 4

// Resolve follows a descriptor, through indexes if it is of one, to the manifest for a platform,
// OS/ARCH[/VARIANT] or "" for this machine's.
func Resolve(
	ctx context.Context, source Source, d image.Descriptor, platform string,
) (image.Descriptor, []byte, error) {
	matcher, want, err := matcherFor(platform)
	if err != nil {
		return d, nil, err
	}
	for range maxIndexes {
		if err := checkDescriptor(d); err != nil {
			return d, nil, err
		}
		text, err := source.Manifest(ctx, d)
		if err == nil {
			err = check(d, text)
		}
		if err != nil {
			return d, nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		doc, err := parse(text)
		if err != nil {
			return d, nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		if doc.MediaType != "" { // its own word has its digest; a descriptor is said by anybody
			d.MediaType = doc.MediaType
		}
		if doc.Manifests == nil {
			return d, text, nil
		}
		next, ok := choose(doc.Manifests, matcher)
		if !ok {
			return d, nil, fmt.Errorf("index %s has no image for %s, but for %s: choose with "+
				"--platform", d.Digest, want, listPlatforms(doc.Manifests))
		}
		d = next
	}
	return d, nil, fmt.Errorf("index %s: more than %d indexes lead to it", d.Digest, maxIndexes)
}

// matcherFor says which platforms will do.
func matcherFor(platform string) (platforms.MatchComparer, string, error) {
	p := platforms.DefaultSpec()
	if platform != "" {
		var err error
		if p, err = platforms.Parse(platform); err != nil {
			return nil, "", fmt.Errorf("platform %q: want OS/ARCH or OS/ARCH/VARIANT, as in "+
				"linux/arm64: %w", platform, err)
		}
	}
	return platforms.Only(p), platforms.Format(p), nil
}

// choose finds the best manifest of an index. One that does not say what it is for is taken if
// there is no other.
func choose(all []image.Descriptor, matcher platforms.MatchComparer) (image.Descriptor, bool) {
	var fit []image.Descriptor
	for _, d := range all {
		if d.Platform != nil && matcher.Match(*d.Platform) {
			fit = append(fit, d)
		}
	}
	if len(fit) == 0 && len(all) == 1 && all[0].Platform == nil {
		return all[0], true
	}
	if len(fit) == 0 {
		return image.Descriptor{}, false
	}
	slices.SortStableFunc(fit, func(a, b image.Descriptor) int {
		if matcher.Less(*a.Platform, *b.Platform) {
			return -1
		}
		if matcher.Less(*b.Platform, *a.Platform) {
			return 1
		}
		return 0
	})
	return fit[0], true
}

func listPlatforms(all []image.Descriptor) string {
	var names []string
	for _, d := range all {
		if d.Platform != nil && d.Platform.OS != "unknown" { // so are attestations
			names = append(names, platforms.Format(*d.Platform))
		}
	}
	if names == nil {
		return "none that is said"
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// check compares digest and size with what is wanted. A size of 0 is not known: of a manifest
// that was asked for by its digest.
func check(d image.Descriptor, text []byte) error {
	if d.Size != 0 && d.Size != int64(len(text)) {
		return fmt.Errorf("it has %d bytes, not the %d that it should have", len(text), d.Size)
	}
	if got := digest.FromBytes(text); got != d.Digest {
		return fmt.Errorf("it has digest %s: it is damaged or forged", got)
	}
	return nil
}

// Fits says whether a platform is good for another, OS/ARCH[/VARIANT] or "" for this machine's.
func Fits(p *imagespec.Platform, platform string) bool {
	matcher, _, err := matcherFor(platform)
	return err == nil && matcher.Match(*p)
}

// PlatformName is OS/ARCH[/VARIANT].
func PlatformName(p *imagespec.Platform) string { return platforms.Format(*p) }
