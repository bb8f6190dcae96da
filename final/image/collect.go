//go:build linux

package image

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Collect deletes the blobs and the layers that no image, no container and no lease needs: what
// a process left that was killed.
func (s *Store) Collect(o RemoveOptions) error {
	return s.collectAfter(o, func(*catalog, []Use) error { return nil }, nil)
}

// collectAfter lets f change the catalog, and deletes what nobody needs any more. The layers that
// go are added to removed.
func (s *Store) collectAfter(
	o RemoveOptions, f func(*catalog, []Use) error, removed *[]Removed,
) error {
	var trash *Lease // the blobs are deleted when the lock is given back
	err := s.change(func(c *catalog) error {
		var uses []Use
		var err error
		if o.Uses != nil {
			if uses, err = o.Uses(); err != nil {
				return err
			}
		}
		if err := f(c, uses); err != nil {
			return err
		}
		keep, err := s.needed(c)
		if err != nil {
			return err
		}
		maps.DeleteFunc(c.Compressed, func(digest string, _ Descriptor) bool { return !keep[digest] })
		// First the catalog, then what it led to: nothing in it is ever without its blobs.
		if err := s.write(c); err != nil {
			return err
		}
		trash, err = s.collectBlobs(keep)
		return errors.Join(err, collectLayers(o.Layers, keep, uses, removed))
	})
	if trash != nil {
		err = errors.Join(err, trash.Close())
	}
	return err
}

// needed are the digests and chain IDs that images lead to, and that leases and kept values hold.
func (s *Store) needed(c *catalog) (map[string]bool, error) {
	keep, err := s.held()
	if err != nil {
		return nil, err
	}
	if err := s.keptHolds(keep); err != nil {
		return nil, err
	}
	for id, rec := range c.Images {
		keep[id], keep[rec.Manifest.Digest.String()] = true, true
		img, err := s.load(c, id)
		if err != nil {
			return nil, err
		}
		for _, d := range img.Layers {
			keep[d.Digest.String()] = true
		}
		for _, chainID := range img.ChainIDs {
			keep[chainID] = true
		}
	}
	return keep, nil
}

// collectBlobs moves the blobs that are not to be kept into a lease of its own.
func (s *Store) collectBlobs(keep map[string]bool) (*Lease, error) {
	entries, err := os.ReadDir(s.path("blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	var trash *Lease
	for _, e := range entries {
		if keep["sha256:"+e.Name()] {
			continue
		}
		if trash == nil {
			if trash, err = s.lease(); err != nil {
				return nil, err
			}
		}
		err := os.Rename(s.path("blobs", "sha256", e.Name()), filepath.Join(trash.dir, e.Name()))
		if err != nil {
			return trash, err
		}
	}
	return trash, nil
}

// collectLayers deletes the layers that are not to be kept and that no container stands on, the
// uppermost first.
func collectLayers(layers Layers, keep map[string]bool, uses []Use, removed *[]Removed) error {
	if layers == nil {
		return nil
	}
	for _, u := range uses {
		for id := u.Layer; id != "" && !keep[id]; {
			keep[id] = true
			var err error
			if id, err = layers.Parent(id); err != nil {
				return fmt.Errorf("container %s: %w", short(u.Container), err)
			}
		}
	}
	all, err := layers.List()
	if err != nil {
		return err
	}
	below := map[string]string{} // of each that goes, the layer below
	for _, id := range all {
		if keep[id] {
			continue
		}
		if below[id], err = layers.Parent(id); err != nil {
			return err
		}
	}
	for _, id := range uppermostFirst(below) {
		if err := layers.Remove(id); err != nil {
			return err
		}
		if removed != nil {
			*removed = append(*removed, Removed{Deleted: "sha256:" + id})
		}
	}
	return nil
}

// uppermostFirst sorts layers so that each comes before the one that it stands on.
func uppermostFirst(below map[string]string) []string {
	depth := map[string]int{}
	var ids []string
	for id := range below {
		ids = append(ids, id)
		for at := id; depth[id] <= len(below); depth[id]++ { // not round a ring for ever
			next, ok := below[at]
			if !ok {
				break
			}
			at = next
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		if depth[a] != depth[b] {
			return depth[b] - depth[a]
		}
		return cmp.Compare(a, b)
	})
	return ids
}
