//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Layers is what images need of the storage: the engine gives it.
type Layers interface {
	// Have says whether there is the layer of that chain ID, and the size of its files in bytes.
	Have(chainID string) (size int64, ok bool)
	// Unpack makes a layer of a tar archive that is not compressed, all or nothing: an error of
	// the reader's (a wrong digest, found at its end) leaves no layer. It is fs.ErrExist if there
	// is such a layer. It returns the size of the files.
	//
	// A layer without a ChainID is named when its archive has been read: that is a Named then. A
	// storage that cannot wait for the name gives an error before it reads anything, and gets
	// the archive once more, with the name.
	Unpack(ctx context.Context, l Layer, archive io.Reader) (size int64, err error)
	// Independent says that Unpack does not need the parent to be there yet.
	Independent() bool
	// List are the chain IDs of all image layers, none of the containers' own.
	List() ([]string, error)
	// Parent is the layer below, "" for none.
	Parent(chainID string) (string, error)
	// Remove deletes a layer; it is nil if there is none.
	Remove(chainID string) error
}

// Named is an archive that says how its layer is named, when it has been read to its end.
type Named interface {
	io.Reader
	LayerID() (chainID string, err error)
}

// Use is a container that uses an image.
type Use struct {
	Container string // ID
	Image     string // ID
	Layer     string // chain ID of the layer that it stands on
	Running   bool
}

// RemoveOptions is how Remove and Prune remove.
type RemoveOptions struct {
	Force bool
	// Uses lists the containers; it is called while the store is locked, so that a container
	// that is being created (see Hold) is among them or comes too late. nil: there are none.
	Uses func() ([]Use, error)
	// Layers is the storage that the image's layers are deleted from. nil: there is none.
	Layers Layers
}

// ErrConflict says that an image is not removed since something else needs it.
var ErrConflict = errors.New("conflict")

// Removed is what has been removed: a name, or an image or layer by its digest.
type Removed struct {
	Untagged, Deleted string // one of them
}

// Remove removes a name of an image, and with the last one the image; or an image by its ID with
// all its names. The rules are those of docker rmi: see its conflicts below.
func (s *Store) Remove(name string, o RemoveOptions) ([]Removed, error) {
	var removed []Removed
	err := s.collectAfter(o, func(c *catalog, uses []Use) error {
		var err error
		removed, err = c.remove(name, o.Force, uses)
		return err
	}, &removed)
	return removed, err
}

// remove changes the catalog as Remove says.
func (c *catalog) remove(name string, force bool, uses []Use) ([]Removed, error) {
	id, err := c.find(name)
	if err != nil {
		return nil, err
	}
	uses = slices.DeleteFunc(slices.Clone(uses), func(u Use) bool { return u.Image != id })
	names := c.names(id)
	var removed []Removed
	untag := func(r Reference) {
		delete(c.References, r.key())
		removed = append(removed, Removed{Untagged: r.Familiar()})
	}
	if isIDPrefix(id, name) {
		if !force && !oneName(names) && len(names) > 0 {
			return nil, c.conflict(id, "must be forced", "image is referenced in multiple repositories")
		}
	} else {
		if !force && oneName(names) && len(uses) > 0 {
			return nil, fmt.Errorf("%w: unable to remove repository reference %q (must force) - "+
				"container %s is using its referenced image %s",
				ErrConflict, name, short(uses[0].Container), short(id))
		}
		r, err := parseReference(name)
		if err != nil {
			return nil, err
		}
		r, _ = parseReference(r.key())
		untag(r)
		// With the last tag in a repository go the digests that it had there.
		names = c.names(id)
		sameTag := func(n Reference) bool { return n.Digest == "" && n.Name() == r.Name() }
		if r.Digest == "" && !slices.ContainsFunc(names, sameTag) {
			for _, n := range names {
				if n.Name() == r.Name() {
					untag(n)
				}
			}
			names = c.names(id)
		}
		if len(names) > 0 {
			return removed, nil
		}
	}
	for _, u := range uses {
		if u.Running {
			if len(removed) > 0 {
				return removed, nil // untagged, by force
			}
			return nil, c.conflict(id, "cannot be forced",
				"image is being used by running container "+short(u.Container))
		}
		if !force {
			return nil, c.conflict(id, "must be forced",
				"image is being used by stopped container "+short(u.Container))
		}
	}
	for _, n := range names {
		untag(n)
	}
	delete(c.Images, id)
	return append(removed, Removed{Deleted: id}), nil
}

func (c *catalog) conflict(id, how, why string) error {
	return fmt.Errorf("%w: unable to delete %s (%s) - %s", ErrConflict, short(id), how, why)
}

// isIDPrefix says that name means the image by its ID.
func isIDPrefix(id, name string) bool {
	digits := strings.TrimPrefix(name, "sha256:")
	return strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), digits)
}

// oneName says that there is one name, and besides it at most digests in the same repository.
func oneName(names []Reference) bool {
	tags, repositories := 0, map[string]bool{}
	for _, n := range names {
		repositories[n.Name()] = true
		if n.Digest == "" {
			tags++
		}
	}
	return len(names) == 1 || tags <= 1 && len(repositories) == 1
}

// short is an ID as Docker prints it.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}
