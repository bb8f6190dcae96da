//go:build linux

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// ErrAmbiguous says that several images' IDs begin so.
var ErrAmbiguous = errors.New("several images have an ID that begins so")

// Lookup finds an image by a name, whole or as users write it ("busybox"), by name@digest, by
// its ID with or without "sha256:", or by the beginning of its ID, at least four digits.
// An error is ErrNotExist if there is none.
func (s *Store) Lookup(name string) (*Image, error) {
	for {
		c, err := s.catalog()
		if err != nil {
			return nil, err
		}
		id, err := c.find(name)
		if err != nil {
			return nil, err
		}
		img, err := s.load(c, id)
		if errors.Is(err, fs.ErrNotExist) && !s.has(id) {
			continue // removed since the catalog was read
		}
		return img, err
	}
}

// find returns the ID of the image that a user means.
func (c *catalog) find(name string) (string, error) {
	if id := "sha256:" + strings.TrimPrefix(name, "sha256:"); CheckDigest(id) == nil {
		if _, ok := c.Images[id]; ok {
			return id, nil
		}
		return "", fmt.Errorf("%w: %s", ErrNotExist, name)
	}
	r, err := parseReference(name)
	if err == nil {
		if id, ok := c.References[r.key()]; ok {
			return id, nil
		}
	}
	if id, err := c.findPrefix(name); id != "" || err != nil {
		return id, err
	}
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", name, err)
	}
	return "", fmt.Errorf("%w: %s", ErrNotExist, r.WithTag().Familiar())
}

// findPrefix returns the ID that begins so, "" if none does.
func (c *catalog) findPrefix(name string) (string, error) {
	digits := strings.TrimPrefix(name, "sha256:")
	if len(digits) < 4 || !isHex(digits, len(digits)) {
		return "", nil
	}
	var found []string
	for id := range c.Images {
		if strings.HasPrefix(id, "sha256:"+digits) {
			found = append(found, id)
		}
	}
	if len(found) > 1 {
		slices.Sort(found)
		return "", fmt.Errorf("%w: %s: %s", ErrAmbiguous, name, strings.Join(found, ", "))
	}
	if len(found) == 0 {
		return "", nil
	}
	return found[0], nil
}

// TagsOf are the names with a tag that a name means: itself if it has one, or else all tags of the
// repository. It is none if there is none, as of an ID.
func (s *Store) TagsOf(name string) ([]Reference, error) {
	c, err := s.catalog()
	if err != nil {
		return nil, err
	}
	want, err := parseReference(name)
	if err != nil || want.Digest != "" {
		return nil, nil //nolint:nilerr // an ID is no name
	}
	var found []Reference
	for _, key := range slices.Sorted(maps.Keys(c.References)) {
		r, err := parseReference(key)
		if err == nil && r.Digest == "" && r.Name() == want.Name() &&
			(want.Tag == "" || want.Tag == r.Tag) {
			found = append(found, r)
		}
	}
	return found, nil
}
