//go:build linux

package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/ingest"
)

// manifestTypes are what a tag may lead to.
var manifestTypes = strings.Join([]string{
	imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageIndex,
	ingest.MediaTypeDockerManifest, ingest.MediaTypeDockerIndex,
}, ", ")

// manifest gets what a tag or a digest leads to.
func (r *repository) manifest(ctx context.Context, tag string) (image.Descriptor, []byte, error) {
	request, err := r.request(ctx, http.MethodGet, "manifests/"+tag, nil)
	if err != nil {
		return image.Descriptor{}, nil, err
	}
	request.Header.Set("Accept", manifestTypes)
	response, err := r.do(request, http.StatusOK)
	if err != nil {
		return image.Descriptor{}, nil, denied(r.ref, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, image.MaxJSON+1))
	if err == nil && len(text) > image.MaxJSON {
		err = fmt.Errorf("more than %d bytes are no manifest", image.MaxJSON)
	}
	if err != nil {
		return image.Descriptor{}, nil, fmt.Errorf("manifest %s: %w", tag, err)
	}
	d := image.Descriptor{
		MediaType: response.Header.Get("Content-Type"), Digest: digest.FromBytes(text),
		Size: int64(len(text)),
	}
	// What somebody on the way has changed, the registry may have said otherwise.
	if said := response.Header.Get("Docker-Content-Digest"); said != "" && said != d.Digest.String() &&
		image.CheckDigest(said) == nil {
		return d, nil, fmt.Errorf("manifest %s has digest %s, and the registry says %s",
			tag, d.Digest, said)
	}
	return d, text, nil
}

// Manifest is ingest.Source's.
func (r *repository) Manifest(ctx context.Context, d image.Descriptor) ([]byte, error) {
	_, text, err := r.manifest(ctx, d.Digest.String())
	return text, err
}

// Blob is ingest.Source's.
func (r *repository) Blob(ctx context.Context, d image.Descriptor) (io.ReadCloser, error) {
	b := &download{repository: r, ctx: ctx, blob: d}
	return b, b.open()
}

// download is a blob on its way. A connection that breaks is made anew, from where it broke off.
type download struct {
	repository *repository
	ctx        context.Context
	blob       image.Descriptor
	at         int64 // bytes that have come
	body       io.ReadCloser
	failed     int // tries since something has come
	noRanges   bool
}

// errStalled says that nothing came for too long.
var errStalled = errors.New("nothing comes any more")

// open asks for the blob, from where we are.
func (d *download) open() error {
	ctx, cancel := context.WithCancelCause(d.ctx)
	request, err := d.repository.request(ctx, http.MethodGet, "blobs/"+d.blob.Digest.String(), nil)
	if err != nil {
		cancel(nil)
		return err
	}
	if d.at > 0 && !d.noRanges {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
	}
	response, err := d.repository.do(request, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		cancel(nil)
		if status(err) == http.StatusRequestedRangeNotSatisfiable && !d.noRanges {
			d.noRanges = true
			return d.open()
		}
		return err
	}
	d.body = &watched{
		inner: response.Body, cancel: cancel, stall: d.repository.stall,
		timer: time.AfterFunc(d.repository.stall, func() { cancel(errStalled) }), ctx: ctx,
	}
	if err := d.seek(response); err != nil {
		d.body.Close()
		return err
	}
	return nil
}

// seek sees that what comes begins where we are.
func (d *download) seek(response *http.Response) error {
	if response.StatusCode == http.StatusPartialContent {
		want := fmt.Sprintf("bytes %d-", d.at)
		if got := response.Header.Get("Content-Range"); !strings.HasPrefix(got, want) {
			return fmt.Errorf("%w: asked for bytes from %d on, the registry gives %q",
				errForGood, d.at, got)
		}
		return nil
	}
	if n := response.ContentLength; n >= 0 && n != d.blob.Size {
		return fmt.Errorf("%w: the registry has %d bytes of it, not %d", errForGood, n, d.blob.Size)
	}
	// It does not know about ranges.
	_, err := io.CopyN(io.Discard, d.body, d.at)
	return err
}

// Read reads on, over breaks.
func (d *download) Read(p []byte) (int, error) {
	for {
		if d.body == nil {
			if err := d.open(); err != nil {
				if err := d.again(err); err != nil {
					return 0, err
				}
				continue
			}
		}
		n, err := d.body.Read(p)
		d.at += int64(n)
		if n > 0 {
			d.failed = 0
		}
		if err == io.EOF && d.at < d.blob.Size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || err == io.EOF {
			return n, err
		}
		d.body.Close()
		d.body = nil
		if err := d.again(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// again waits before the next try; or gives the error, if there is to be none.
func (d *download) again(err error) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if d.failed++; d.failed == tries || !worth(d.ctx, err) {
		return cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return sleep(d.ctx, backoff(d.repository.backoff, d.failed))
}

// Close ends it.
func (d *download) Close() error {
	if d.body == nil {
		return nil
	}
	return d.body.Close()
}

// watched is a response's body that is given up when nothing comes for too long.
type watched struct {
	inner  io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.inner.Read(p)
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	w.timer.Reset(w.stall)
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.inner.Close()
}
