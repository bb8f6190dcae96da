//go:build linux

package image

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockShared    = unix.LOCK_SH
	lockExclusive = unix.LOCK_EX
)

// Tag gives an image, found as Lookup does, one more name. An image that had that name loses it.
func (s *Store) Tag(image, name string) error {
	r, err := ParseReference(name)
	if err != nil {
		return err
	}
	if r.Digest != "" {
		return fmt.Errorf("tag %q: a name with a digest cannot be given: it follows from the image",
			name)
	}
	if r.FamiliarName() == "sha256" {
		return fmt.Errorf("tag %q: %w: refusing to create an ambiguous tag using digest algorithm "+
			"as name", name, ErrReference)
	}
	return s.change(func(c *catalog) error {
		id, err := c.find(image)
		if err != nil {
			return err
		}
		c.name(id, r)
		return s.write(c)
	})
}

// AddDigest notes that an image is to be had by a name with a digest.
func (s *Store) AddDigest(id string, r Reference) error {
	return s.change(func(c *catalog) error {
		if _, ok := c.Images[id]; !ok || c.References[r.key()] == id {
			return nil // removed meanwhile; or known
		}
		c.References[r.key()] = id
		return s.write(c)
	})
}

// name gives an image of the catalog a name.
func (c *catalog) name(id string, r Reference) {
	rec := c.Images[id]
	rec.Tagged = time.Now().UTC()
	c.Images[id] = rec
	c.References[r.key()] = id
}
