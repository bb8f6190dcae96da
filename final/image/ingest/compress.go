//go:build linux

package ingest

import (
	"context"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"minidocker/final/image"
	"minidocker/final/image/compression"
)

// Compressing is a layer of the store that is being compressed by gzip. It can be read, from
// anywhere and more than once, while that goes on.
type Compressing struct {
	blob   *image.Blob
	file   *os.File // the same, to read from
	source *os.File
	cancel context.CancelFunc
	over   chan struct{}

	mu   sync.Mutex
	more sync.Cond
	size int64 // written until now
	done bool
	err  error
}

// Compress begins to compress a layer that is not compressed. What it becomes is written to a
// file of the lease's. It must be closed.
func Compress(
	ctx context.Context, lease *image.Lease, d image.Descriptor,
) (*Compressing, error) {
	source, err := lease.Store().OpenBlob(d.Digest.String())
	if err != nil {
		return nil, err
	}
	blob, err := lease.Blob()
	if err != nil {
		source.Close()
		return nil, err
	}
	file, err := blob.Reopen()
	if err != nil {
		source.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &Compressing{
		blob: blob, file: file, source: source, cancel: cancel, over: make(chan struct{}),
	}
	c.more.L = &c.mu
	go func() {
		defer close(c.over)
		c.end(c.run(ctx))
	}()
	return c, nil
}

func (c *Compressing) run(ctx context.Context) error {
	z, err := compression.NewGzipWriter(written{c})
	if err != nil {
		return err
	}
	from := stage(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return c.source.Read(p)
	})
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, from, make([]byte, 256<<10)); err != nil {
		return err
	}
	return z.Close()
}

// written writes to the file, and tells the readers.
type written struct{ *Compressing }

func (w written) Write(p []byte) (int, error) {
	n, err := w.blob.Write(p)
	w.mu.Lock()
	w.size += int64(n)
	w.mu.Unlock()
	w.more.Broadcast()
	return n, err
}

func (c *Compressing) end(err error) {
	c.mu.Lock()
	c.done, c.err = true, err
	c.mu.Unlock()
	c.more.Broadcast()
}

// From reads it from a byte on. From the beginning, the size that follows is -1, not known; from
// elsewhere it is known, since it waits for the end.
func (c *Compressing) From(at int64) (io.Reader, int64, error) {
	size := int64(-1)
	if at > 0 {
		d, err := c.Descriptor()
		if err != nil {
			return nil, 0, err
		}
		size = d.Size - at
	}
	return stage(func(p []byte) (int, error) {
		n, err := c.wait(at)
		if err != nil {
			return 0, err
		}
		m, err := c.file.ReadAt(p[:min(int64(len(p)), n)], at)
		at += int64(m)
		return m, err
	}), size, nil
}

// wait waits for bytes after the first at, and says how many there are; io.EOF if there are none.
func (c *Compressing) wait(at int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.size <= at && !c.done {
		c.more.Wait()
	}
	if c.size > at {
		return c.size - at, nil
	}
	if c.err != nil {
		return 0, c.err
	}
	return 0, io.EOF
}

// Descriptor is what it has become, when all is done.
func (c *Compressing) Descriptor() (image.Descriptor, error) {
	<-c.over
	return image.Descriptor{
		MediaType: MediaType(compression.Gzip), Digest: digest.Digest(c.blob.Digest()), Size: c.size,
	}, c.err
}

// Close stops it, and deletes the file.
func (c *Compressing) Close() error {
	c.cancel()
	<-c.over
	c.source.Close()
	c.file.Close()
	return c.blob.Discard()
}
