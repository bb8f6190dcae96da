//go:build linux

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"minidocker/final/image"
)

// blob is what is uploaded. It may be in the making while it goes.
type blob interface {
	// From reads it from a byte on; the size is what follows. It may be -1, not yet known, from
	// the beginning.
	From(at int64) (io.Reader, int64, error)
	// Descriptor is what it is, when it has been read to its end.
	Descriptor() (image.Descriptor, error)
}

// mount asks the registry to take a blob from another of its repositories. It returns the one that
// it was taken from; or perhaps where to upload it, if the registry has begun that instead.
func (r *repository) mount(
	ctx context.Context, d image.Descriptor, paths []string,
) (from string, to *url.URL) {
	for _, path := range paths {
		query := url.Values{"mount": {d.Digest.String()}, "from": {path}}
		response, err := r.begin(ctx, "?"+query.Encode())
		if err != nil {
			continue // it may be that we cannot read there
		}
		if response.StatusCode == http.StatusCreated {
			return path, nil
		}
		if to, err = location(response); err == nil {
			return "", to
		}
	}
	return "", nil
}

// begin asks for a place to upload to.
func (r *repository) begin(ctx context.Context, query string) (*http.Response, error) {
	for try := 1; ; try++ {
		request, err := r.request(ctx, http.MethodPost, "blobs/uploads/"+query, nil)
		if err != nil {
			return nil, err
		}
		response, err := r.do(request, http.StatusAccepted, http.StatusCreated)
		if err == nil {
			response.Body.Close()
			return response, nil
		}
		if try == tries || !worth(ctx, err) {
			return nil, err
		}
		if err := sleep(ctx, backoff(r.backoff, try)); err != nil {
			return nil, err
		}
	}
}

// upload uploads a blob, to a place that the registry has named, or nil.
func (r *repository) upload(ctx context.Context, b blob, to *url.URL, tell func(int64)) error {
	if to == nil {
		response, err := r.begin(ctx, "")
		if err != nil {
			return err
		}
		if to, err = location(response); err != nil {
			return err
		}
	}
	return r.send(ctx, to, b, tell)
}

// send sends the bytes, and goes on where it broke off. A registry that cannot say where that was
// gets them from the beginning.
func (r *repository) send(ctx context.Context, to *url.URL, b blob, tell func(int64)) error {
	at, failed := int64(0), 0
	for {
		next, err := r.patch(ctx, to, b, at, tell)
		if err == nil {
			return r.finish(ctx, next, b)
		}
		if failed++; failed == tries ||
			!worth(ctx, err) && status(err) != http.StatusRequestedRangeNotSatisfiable {
			return err
		}
		if err := sleep(ctx, backoff(r.backoff, failed)); err != nil {
			return err
		}
		before := at
		if at, to, err = r.resume(ctx, to); err != nil {
			return err
		}
		if at > before { // what we have sent is not what has come
			failed = 0
		}
	}
}

// resume says where an upload is to go on: the registry may have forgotten it, or not know how to
// be asked.
func (r *repository) resume(ctx context.Context, at *url.URL) (int64, *url.URL, error) {
	n, to, err := r.progress(ctx, at)
	if status(err) == 0 {
		return n, to, err
	}
	response, err := r.begin(ctx, "")
	if err != nil {
		return 0, nil, err
	}
	to, err = location(response)
	return 0, to, err
}

// patch sends what there is from a byte on. It returns where to go on.
func (r *repository) patch(
	ctx context.Context, to *url.URL, b blob, at int64, tell func(int64),
) (*url.URL, error) {
	_, size, err := b.From(at)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(r.stall, func() { cancel(errStalled) })
	defer timer.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, to.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	if at > 0 {
		request.Header.Set("Content-Range", fmt.Sprintf("%d-%d", at, at+size-1))
	}
	request.ContentLength = size
	var failed atomic.Pointer[error]
	if size != 0 {
		// A body of its own for each time that it is sent: there is one more if a token has expired.
		request.GetBody = func() (io.ReadCloser, error) {
			content, _, err := b.From(at)
			return &outgoing{content, at, at, tell, timer, r.stall, &failed}, err
		}
		request.Body, _ = request.GetBody() // as above
	}
	response, err := r.do(request, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		if ours := failed.Load(); ours != nil { // and not the connection's
			err = fmt.Errorf("%w: %w", errForGood, *ours)
		}
		return nil, err
	}
	response.Body.Close()
	return location(response)
}

// outgoing counts what goes. While something does, the connection is not taken for dead.
type outgoing struct {
	r        io.Reader
	at, told int64
	tell     func(int64)
	timer    *time.Timer
	stall    time.Duration
	failed   *atomic.Pointer[error]
}

func (o *outgoing) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	o.at += int64(n)
	o.timer.Reset(o.stall)
	if o.tell != nil && o.at-o.told >= 256<<10 {
		o.told = o.at
		o.tell(o.at)
	}
	if err != nil && err != io.EOF {
		o.failed.Store(&err)
	}
	return n, err
}

// Close has nothing to do: what is read stays open for another try.
func (o *outgoing) Close() error { return nil }

// progress asks how many bytes of an upload the registry has.
func (r *repository) progress(ctx context.Context, at *url.URL) (int64, *url.URL, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := r.do(request, http.StatusNoContent, http.StatusAccepted, http.StatusOK)
	if err != nil {
		return 0, nil, err
	}
	response.Body.Close()
	next := at
	if to, err := location(response); err == nil {
		next = to
	}
	text := response.Header.Get("Range") // "0-9": ten bytes; "0-0" may be none or one
	_, last, _ := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if err != nil || n <= 0 {
		return 0, next, nil
	}
	return n + 1, next, nil
}

// finish ends an upload: the registry compares the digest.
func (r *repository) finish(ctx context.Context, at *url.URL, b blob) error {
	d, err := b.Descriptor()
	if err != nil {
		return err
	}
	query := at.Query()
	query.Set("digest", d.Digest.String())
	at.RawQuery = query.Encode()
	for try := 1; ; try++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, at.String(), nil)
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/octet-stream")
		response, err := r.do(request, http.StatusCreated, http.StatusNoContent)
		if err == nil {
			response.Body.Close()
			return nil
		}
		// It may have done it, and the answer was lost.
		if there, asked := r.has(ctx, d); asked == nil && there {
			return nil
		}
		if try == tries || !worth(ctx, err) {
			return err
		}
		if err := sleep(ctx, backoff(r.backoff, try)); err != nil {
			return err
		}
	}
}
