//go:build linux

package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"sync"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/ingest"
)

// PushOptions is how Push pushes.
type PushOptions struct {
	// Progress is told what happens to the layers, from several goroutines. The layers are
	// named as in the store; a compressed one's size is known at its end.
	Progress func(PushEvent)
}

// PushEvent is what happens to a layer.
type PushEvent struct {
	Layer  image.Descriptor
	Status PushStatus
	Bytes  int64 // that have gone
	From   string
}

// PushStatus is how far a layer is.
type PushStatus int

// A layer waits and is sent; or the registry has it, or has it in another repository (From).
const (
	PushWaiting PushStatus = iota
	Pushing
	Pushed
	PushExists
	Mounted
)

// PushedImage is what Push has put there.
type PushedImage struct {
	Image  *image.Image
	Digest string // of the manifest
	Size   int64  // of the manifest in bytes
}

// Push puts an image into a registry, under the name that it has here. What the registry has is
// not sent. Layers go several at once, compressed by gzip if they are not compressed here: an image
// that was pulled or loaded compressed is there with the same digest. The manifest goes last.
func (c *Client) Push(
	ctx context.Context, store *image.Store, name string, o PushOptions,
) (*PushedImage, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	ref = ref.WithTag()
	if ref.Digest != "" {
		return nil, fmt.Errorf("push %s: give it a tag: a digest follows from the image", name)
	}
	lease, err := store.Lease()
	if err != nil {
		return nil, err
	}
	p, err := c.push(ctx, lease, ref, o)
	if err != nil {
		err = fmt.Errorf("push %s: %w", ref.Familiar(), err)
	}
	return p, lease.End(err)
}

func (c *Client) push(
	ctx context.Context, lease *image.Lease, ref image.Reference, o PushOptions,
) (*PushedImage, error) {
	img, err := lease.Store().Lookup(ref.String())
	if err == nil {
		img, err = lease.Find(img.ID)
	}
	if err != nil {
		return nil, err
	}
	elsewhere, err := otherRepositories(lease.Store(), ref)
	if err != nil {
		return nil, err
	}
	var scopes []string
	for _, path := range elsewhere.paths(img) {
		scopes = append(scopes, "repository:"+path+":pull")
	}
	r, err := c.open(ctx, ref, "push,pull", scopes...)
	if err != nil {
		return nil, err
	}
	defer r.http.CloseIdleConnections()
	if o.Progress == nil {
		o.Progress = func(PushEvent) {}
	}
	u := &pusher{repository: r, lease: lease, elsewhere: elsewhere, progress: o.Progress}
	text, mediaType, err := u.all(ctx, img)
	if err != nil {
		return nil, denied(ref, err)
	}
	digest, err := r.putManifest(ctx, ref.Tag, mediaType, text)
	if err != nil {
		return nil, denied(ref, err)
	}
	err = lease.Store().AddDigest(img.ID, ref.WithDigest(digest))
	return &PushedImage{Image: img, Digest: digest, Size: int64(len(text))}, err
}

// elsewhere says in which other repositories of the same registry a blob may be.
type elsewhere map[string][]string // paths, by the blob's digest

func otherRepositories(store *image.Store, ref image.Reference) (elsewhere, error) {
	all, err := store.List()
	if err != nil {
		return nil, err
	}
	e := elsewhere{}
	for _, img := range all {
		for _, name := range slices.Concat(img.RepoDigests, img.RepoTags) {
			other, err := image.ParseReference(name)
			if err != nil || other.Domain != ref.Domain || other.Path == ref.Path {
				continue
			}
			for _, d := range img.Layers {
				digest := d.Digest.String()
				if !slices.Contains(e[digest], other.Path) {
					e[digest] = append(e[digest], other.Path)
				}
			}
		}
	}
	return e, nil
}

// mounts is how many repositories are asked for one blob, and so how many scopes a token has.
const mounts = 3

func (e elsewhere) paths(img *image.Image) []string {
	var paths []string
	for _, d := range img.Layers {
		for _, path := range e[d.Digest.String()] {
			if !slices.Contains(paths, path) && len(paths) < mounts {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// pusher is an image on its way.
type pusher struct {
	*repository
	lease     *image.Lease
	elsewhere elsewhere
	progress  func(PushEvent)
}

// parallel is how many layers go at once.
var parallel = 2 + runtime.GOMAXPROCS(0)/2

// all sends configuration and layers, and returns the manifest.
func (u *pusher) all(ctx context.Context, img *image.Image) ([]byte, string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m, _, err := u.lease.Store().Manifest(img.Manifest.Digest.String())
	if err != nil {
		return nil, "", err
	}
	places := make(chan struct{}, parallel)
	var group sync.WaitGroup
	sent := slices.Clone(m.Layers)
	first := map[string]int{} // a layer that is there twice is sent once
	for i, d := range m.Layers {
		u.progress(PushEvent{Layer: d, Status: PushWaiting})
		if _, ok := first[d.Digest.String()]; ok {
			continue
		}
		first[d.Digest.String()] = i
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			var err error
			if sent[i], err = u.layer(ctx, d); err != nil {
				cancel(fmt.Errorf("layer %s: %w", d.Digest, err))
			}
		})
	}
	group.Go(func() {
		if err := u.config(ctx, m.Config); err != nil {
			cancel(fmt.Errorf("configuration %s: %w", m.Config.Digest, err))
		}
	})
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, "", err
	}
	changed := false
	for i, d := range m.Layers {
		sent[i] = sent[first[d.Digest.String()]]
		changed = changed || sent[i].Digest != d.Digest
	}
	if !changed {
		text, err := u.lease.Store().ReadBlob(img.Manifest.Digest.String())
		return text, img.Manifest.MediaType, err
	}
	m.Layers, m.MediaType = sent, imagespec.MediaTypeImageManifest
	m.Config.MediaType = imagespec.MediaTypeImageConfig
	text, err := json.Marshal(m)
	return text, m.MediaType, err
}

// config sends the configuration.
func (u *pusher) config(ctx context.Context, d image.Descriptor) error {
	there, err := u.has(ctx, d)
	if there || err != nil {
		return err
	}
	text, err := u.lease.Store().ReadBlob(d.Digest.String())
	if err != nil {
		return err
	}
	return u.upload(ctx, &whole{bytes.NewReader(text), d}, nil, nil)
}

// layer sends a layer, unless it is there, and returns it as it is there.
func (u *pusher) layer(ctx context.Context, d image.Descriptor) (image.Descriptor, error) {
	sent, known, plain := d, true, d.MediaType == imagespec.MediaTypeImageLayer
	if plain { // then what it becomes may be known from another time
		sent, known = u.lease.Store().Compressed(d)
	}
	var to *url.URL
	if known {
		there, err := u.has(ctx, sent)
		if err != nil {
			return sent, err
		}
		if there {
			u.progress(PushEvent{Layer: d, Status: PushExists})
			return sent, nil
		}
		paths := u.elsewhere[d.Digest.String()]
		var from string
		from, to = u.mount(ctx, sent, paths[:min(len(paths), mounts)])
		if from != "" {
			u.progress(PushEvent{Layer: d, Status: Mounted, From: from})
			return sent, nil
		}
	}
	var err error
	if plain {
		sent, err = u.compress(ctx, d, to)
	} else {
		err = u.copy(ctx, d, to)
	}
	if err == nil {
		u.progress(PushEvent{Layer: d, Status: Pushed, Bytes: sent.Size})
	}
	return sent, err
}

// copy sends a layer as it is.
func (u *pusher) copy(ctx context.Context, d image.Descriptor, to *url.URL) error {
	f, err := u.lease.Store().OpenBlob(d.Digest.String())
	if err != nil {
		return err
	}
	defer f.Close()
	return u.upload(ctx, &whole{f, d}, to, u.tell(d))
}

// compress sends a layer while it is being compressed.
func (u *pusher) compress(
	ctx context.Context, d image.Descriptor, to *url.URL,
) (image.Descriptor, error) {
	z, err := ingest.Compress(ctx, u.lease, d)
	if err != nil {
		return d, err
	}
	err = u.upload(ctx, z, to, u.tell(d))
	sent, failed := z.Descriptor()
	if err := errors.Join(cmp.Or(err, failed), z.Close()); err != nil {
		return d, err
	}
	return sent, u.lease.Store().SetCompressed(d, sent)
}

func (u *pusher) tell(d image.Descriptor) func(int64) {
	return func(n int64) { u.progress(PushEvent{Layer: d, Status: Pushing, Bytes: n}) }
}

// putManifest puts the manifest there, and returns its digest.
func (r *repository) putManifest(
	ctx context.Context, tag, mediaType string, text []byte,
) (string, error) {
	want := image.DigestOf(text)
	for try := 1; ; try++ {
		request, err := r.request(ctx, http.MethodPut, "manifests/"+tag, bytes.NewReader(text))
		if err != nil {
			return "", err
		}
		request.Header.Set("Content-Type", mediaType)
		response, err := r.do(request, http.StatusCreated, http.StatusOK, http.StatusAccepted)
		if err == nil {
			response.Body.Close()
			got := response.Header.Get("Docker-Content-Digest")
			if got != "" && got != want {
				return "", fmt.Errorf("manifest %s: the registry says that it has digest %s", want, got)
			}
			return want, nil
		}
		if try == tries || !worth(ctx, err) {
			return "", fmt.Errorf("manifest: %w", err)
		}
		if err := sleep(ctx, backoff(r.backoff, try)); err != nil {
			return "", err
		}
	}
}

// has asks whether the repository has a blob.
func (r *repository) has(ctx context.Context, d image.Descriptor) (bool, error) {
	request, err := r.request(ctx, http.MethodHead, "blobs/"+d.Digest.String(), nil)
	if err != nil {
		return false, err
	}
	response, err := r.do(request, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return false, err
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK, nil
}

// whole is a blob that is all there.
type whole struct {
	r io.ReaderAt
	d image.Descriptor
}

// From is blob's.
func (w *whole) From(at int64) (io.Reader, int64, error) {
	return io.NewSectionReader(w.r, at, w.d.Size-at), w.d.Size - at, nil
}

// Descriptor is blob's.
func (w *whole) Descriptor() (image.Descriptor, error) { return w.d, nil }
