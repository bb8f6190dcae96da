//go:build linux

package driver

import (
	"context"
	"io"
	"sync"
)

// Stream is a reader of what write writes; write begins with the first Read, in a goroutine, and
// is cancelled by Close. io.Copy from it has no goroutine and no copy between.
func Stream(write func(context.Context, io.Writer) error) io.ReadCloser {
	ctx, cancel := context.WithCancel(context.Background())
	return &stream{write: write, ctx: ctx, cancel: cancel}
}

type stream struct {
	write  func(context.Context, io.Writer) error
	ctx    context.Context
	cancel context.CancelFunc
	start  sync.Once
	pipe   *io.PipeReader
	done   chan struct{}
}

func (s *stream) Read(p []byte) (int, error) {
	s.start.Do(func() {
		r, w := io.Pipe()
		s.pipe, s.done = r, make(chan struct{})
		go func() {
			defer close(s.done)
			w.CloseWithError(s.write(s.ctx, w))
		}()
	})
	if s.pipe == nil {
		return 0, io.EOF
	}
	return s.pipe.Read(p)
}

// WriteTo is io.Copy's short way.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	err := error(nil)
	first := false
	s.start.Do(func() {
		first = true
		err = s.write(s.ctx, count)
	})
	if !first && s.pipe != nil { // Read has begun
		return io.Copy(w, s.pipe)
	}
	return count.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Close ends it, whether all was read or not. What write opened is closed when it returns.
func (s *stream) Close() error {
	s.cancel()
	// Never begun: it is now, to let go of what it holds.
	s.start.Do(func() { _ = s.write(s.ctx, io.Discard) })
	if s.pipe != nil {
		_ = s.pipe.Close() // it gives none
		<-s.done
	}
	return nil
}
