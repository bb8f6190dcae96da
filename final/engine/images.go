//go:build linux

package engine

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"

	"minidocker/final/image"
)

// imageError gives package image's errors their kinds, and Docker's words.
func imageError(err error, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, image.ErrNotExist):
		return failed(NotFound, "No such image: %s", withTag(name))
	case errors.Is(err, image.ErrConflict):
		return &Error{Conflict, err}
	case errors.Is(err, image.ErrAmbiguous):
		return &Error{Invalid, err}
	}
	return err
}

// uses are the containers that use images.
func (e *Engine) uses() ([]image.Use, error) {
	records, err := e.records()
	if err != nil {
		return nil, err
	}
	var all []image.Use
	for _, r := range records {
		state, err := e.state(r.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, image.Use{Container: r.ID, Image: r.Image, Layer: r.Top,
			Running: state.Status == "running" || state.Status == "restarting"})
	}
	return all, nil
}

// removeOptions are those of package image.
func (e *Engine) removeOptions(force bool) image.RemoveOptions {
	return image.RemoveOptions{Force: force, Uses: e.uses, Layers: e.Layers()}
}

// ImageListOptions say which images to list.
type ImageListOptions struct {
	All     bool // recorded for the API's sake: there are no images in between
	Shared  bool // with the bytes that other images have, too
	Filters Filters
}

// Images are the images, the youngest first.
func (e *Engine) Images(_ context.Context, o ImageListOptions) ([]apiimage.Summary, error) {
	f := o.Filters
	err := f.check("before", "dangling", "label", "label!", "reference", "since", "until")
	if err != nil {
		return nil, err
	}
	dangling, set, err := f.dangling()
	if err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	images, err := e.images.List()
	if err != nil {
		return nil, err
	}
	var before, since time.Time
	for _, text := range f["until"] { // all of them: before the earliest
		at, err := parseTime(text, time.Now())
		if err != nil {
			return nil, err
		}
		before = earlier(before, at)
	}
	until := before
	for name, at := range map[string]*time.Time{"before": &before, "since": &since} {
		if ref := f.first(name); ref != "" {
			img, err := e.images.Lookup(ref)
			if err != nil {
				return nil, imageError(err, ref)
			}
			if *at = madeAt(img); name == "before" {
				before = earlier(until, before)
			}
		}
	}
	users := map[string]int64{}
	uses, err := e.uses()
	if err != nil {
		return nil, err
	}
	for _, u := range uses {
		users[u.Image]++
	}
	var shared map[string]int64
	if o.Shared {
		if shared, err = e.sharedSizes(); err != nil {
			return nil, err
		}
	}
	all := []apiimage.Summary{}
	for _, img := range images {
		at := madeAt(img)
		if set && dangling != (len(img.RepoTags) == 0) || !before.IsZero() && !at.Before(before) ||
			!since.IsZero() && !at.After(since) || !f.labels(img.Config.Config.Labels) {
			continue
		}
		s := imageSummary(img)
		s.Containers = users[img.ID]
		if o.Shared {
			s.SharedSize = shared[img.ID]
		}
		if len(f["reference"]) > 0 {
			s.RepoTags = slices.DeleteFunc(slices.Clone(s.RepoTags), func(tag string) bool {
				return !f.any("reference", func(v string) bool { return refers(v, tag) })
			})
			if len(s.RepoTags) == 0 {
				continue
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// earlier is the earlier of two times of which the zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// refers says whether a pattern of a shell's means an image's name, with its tag or without.
func refers(pattern, name string) bool {
	repository := name
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		repository = name[:i]
	}
	for _, n := range []string{name, repository} {
		if ok, err := path.Match(pattern, n); err == nil && ok {
			return true
		}
	}
	return false
}

// madeAt is when the image was made, or the zero time if it does not say.
func madeAt(img *image.Image) time.Time {
	if img.Config.Created == nil {
		return time.Time{}
	}
	return *img.Config.Created
}

func imageSummary(img *image.Image) apiimage.Summary {
	s := apiimage.Summary{
		ID: img.ID, Created: max(madeAt(img).Unix(), 0), Labels: img.Config.Config.Labels,
		RepoTags:    append([]string{}, img.RepoTags...),
		RepoDigests: append([]string{}, img.RepoDigests...), SharedSize: -1, Size: img.Size,
	}
	if madeAt(img).IsZero() {
		s.Created = 0
	}
	return s
}

// InspectImage is all that is known of an image.
func (e *Engine) InspectImage(_ context.Context, ref string) (*apiimage.InspectResponse, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	img, err := e.images.Lookup(ref)
	if err != nil {
		return nil, imageError(err, ref)
	}
	c := &img.Config
	r := &apiimage.InspectResponse{
		ID: img.ID, RepoTags: append([]string{}, img.RepoTags...),
		RepoDigests: append([]string{}, img.RepoDigests...), Author: c.Author, Config: &c.Config,
		Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion,
		Size: img.Size, RootFS: apiimage.RootFS{Type: "layers"},
		GraphDriver: &storage.DriverData{Name: e.layers.Name()},
	}
	for _, d := range c.RootFS.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, d.String())
	}
	if c.Created != nil {
		r.Created = c.Created.Format(time.RFC3339Nano)
	}
	if n := len(c.History); n > 0 {
		r.Comment = c.History[n-1].Comment
	}
	r.Metadata.LastTagTime = img.Tagged
	if top := img.Top(); top != "" {
		if r.GraphDriver.Data, err = e.layers.Metadata(top); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// History is how an image was made, the last step first.
func (e *Engine) History(_ context.Context, ref string) ([]apiimage.HistoryResponseItem, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	img, err := e.images.Lookup(ref)
	if err != nil {
		return nil, imageError(err, ref)
	}
	all := []apiimage.HistoryResponseItem{}
	layer := 0
	for _, h := range img.Config.History {
		item := apiimage.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && layer < len(img.ChainIDs) {
			usage, err := e.layers.Usage(img.ChainIDs[layer])
			if err != nil {
				return nil, err
			}
			item.Size = usage.Bytes
			layer++
		}
		all = append(all, item)
	}
	slices.Reverse(all)
	if len(all) == 0 {
		all = []apiimage.HistoryResponseItem{{Created: madeAt(img).Unix(), Size: img.Size}}
	}
	all[0].ID, all[0].Tags = img.ID, img.RepoTags
	return all, nil
}

// Tag gives an image one more name.
func (e *Engine) Tag(_ context.Context, source, target string) error {
	if err := e.open(); err != nil {
		return err
	}
	if err := e.images.Tag(source, target); err != nil {
		if errors.Is(err, image.ErrNotExist) {
			return imageError(err, source)
		}
		return &Error{Invalid, err}
	}
	img, err := e.images.Lookup(target)
	if err != nil {
		return err
	}
	e.happened(events.ImageEventType, "tag", img.ID, map[string]string{"name": withTag(target)})
	return nil
}

// ImageHappened notes an event of an image's: what is done to it elsewhere, as pull and save are.
func (e *Engine) ImageHappened(action, id, name string) {
	e.happened(events.ImageEventType, action, id, map[string]string{"name": name})
}

// RemoveImage removes a name of an image, and with the last one the image.
func (e *Engine) RemoveImage(
	_ context.Context, ref string, force bool,
) ([]apiimage.DeleteResponse, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	img, err := e.images.Lookup(ref)
	if err != nil {
		return nil, imageError(err, ref)
	}
	removed, err := e.images.Remove(ref, e.removeOptions(force))
	if err != nil {
		return nil, imageError(err, ref)
	}
	return e.removedImages(img.ID, removed), nil
}

func (e *Engine) removedImages(id string, removed []image.Removed) []apiimage.DeleteResponse {
	all := []apiimage.DeleteResponse{}
	for _, r := range removed {
		all = append(all, apiimage.DeleteResponse{Deleted: r.Deleted, Untagged: r.Untagged})
		if r.Untagged != "" {
			e.happened(events.ImageEventType, "untag", id, map[string]string{"name": r.Untagged})
		} else if r.Deleted == id {
			e.happened(events.ImageEventType, "delete", id, map[string]string{"name": id})
		}
	}
	return all
}

// ImagesPruned is what PruneImages has done.
type ImagesPruned struct {
	ImagesDeleted  []apiimage.DeleteResponse
	SpaceReclaimed uint64 // bytes
}

// PruneImages removes images that have no name; with the filter dangling=false all that no
// container uses.
func (e *Engine) PruneImages(ctx context.Context, f Filters) (*ImagesPruned, error) {
	if err := f.check("dangling", "label", "label!", "until"); err != nil {
		return nil, err
	}
	dangling, set, err := f.dangling()
	if err != nil {
		return nil, err
	}
	list := Filters{"label": f["label"], "label!": f["label!"], "until": f["until"]}
	if dangling || !set {
		list["dangling"] = []string{"true"}
	}
	images, err := e.Images(ctx, ImageListOptions{Filters: list})
	if err != nil {
		return nil, err
	}
	pruned := &ImagesPruned{ImagesDeleted: []apiimage.DeleteResponse{}}
	for _, s := range images {
		if s.Containers > 0 {
			continue
		}
		names := s.RepoTags
		if len(names) == 0 {
			names = []string{s.ID}
		}
		for _, name := range names {
			removed, err := e.RemoveImage(ctx, name, false)
			if Code(err) == Conflict || Code(err) == NotFound {
				continue
			}
			if err != nil {
				return pruned, err
			}
			pruned.ImagesDeleted = append(pruned.ImagesDeleted, removed...)
			if slices.Contains(removed, apiimage.DeleteResponse{Deleted: s.ID}) {
				pruned.SpaceReclaimed += uint64(max(s.Size, 0))
			}
		}
	}
	return pruned, e.images.Collect(e.removeOptions(false))
}

// ImageNames are all names of images, for completion.
func (e *Engine) ImageNames() ([]string, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	images, err := e.images.List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, img := range images {
		names = append(names, img.RepoTags...)
	}
	slices.SortFunc(names, cmp.Compare)
	return names, nil
}
