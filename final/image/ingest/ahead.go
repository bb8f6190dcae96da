//go:build linux

package ingest

import (
	"context"
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

const (
	aheadBytes  = 256 << 10
	aheadBlocks = 8
)

// ahead reads in a goroutine of its own, some blocks ahead of who reads from it; and a second
// one computes a hash of them meanwhile.
type ahead struct {
	full chan *block // closed at the end
	free chan *block
	sums chan *block // nil if there is no hash
	stop chan struct{}
	done sync.WaitGroup
	once sync.Once
	err  error // why it ended, when full is closed

	current *block
	rest    []byte // of the current block, what has not been read
}

// block is a piece of the stream. refs are its readers.
type block struct {
	data []byte
	n    int
	refs atomic.Int32
}

// readAhead begins to read. h may be nil; it has all when Read has given io.EOF. It must come to
// close, which does not close r.
func readAhead(r io.Reader, h hash.Hash) *ahead {
	a := &ahead{
		full: make(chan *block, aheadBlocks), free: make(chan *block, aheadBlocks),
		stop: make(chan struct{}),
	}
	for range aheadBlocks {
		a.free <- &block{}
	}
	if h != nil {
		a.sums = make(chan *block, aheadBlocks)
		a.done.Go(func() {
			for b := range a.sums {
				h.Write(b.data[:b.n])
				a.release(b)
			}
		})
	}
	a.done.Go(func() { a.fill(r) })
	return a
}

func (a *ahead) fill(r io.Reader) {
	defer close(a.full)
	if a.sums != nil {
		defer close(a.sums)
	}
	for {
		var b *block
		select {
		case b = <-a.free:
		case <-a.stop:
			a.err = io.ErrClosedPipe
			return
		}
		if b.data == nil {
			b.data = make([]byte, aheadBytes)
		}
		b.n, a.err = readBlock(r, b.data)
		if a.sums != nil {
			b.refs.Store(2)
			a.sums <- b
		} else {
			b.refs.Store(1)
		}
		a.full <- b // there is room for all
		if a.err != nil {
			return
		}
	}
}

// readBlock fills a block. It is not io.ReadFull, whose io.ErrUnexpectedEOF does not say whether
// that was the end or is what the reader says of a stream that is cut off.
func readBlock(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

func (a *ahead) release(b *block) {
	if b.refs.Add(-1) == 0 {
		a.free <- b
	}
}

// Read gives what has been read.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.current != nil {
			a.release(a.current)
		}
		if a.current = <-a.full; a.current == nil {
			if a.err == io.EOF { //nolint:errorlint // a wrapped one is that of a connection
				a.done.Wait() // for the hash
			}
			return 0, a.err
		}
		a.rest = a.current.data[:a.current.n]
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// close stops the goroutines and waits for them: also for a read from r, but not any more when
// ctx has ended, as nobody knows how long a terminal or a pipe has nothing to say.
func (a *ahead) close(ctx context.Context) {
	a.once.Do(func() { close(a.stop) })
	done := make(chan struct{})
	go func() {
		a.done.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
