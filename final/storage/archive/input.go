//go:build linux

package archive

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// input reads an archive ahead, in a goroutine, into large blocks. Headers are read where they
// lie, and what is in files is written from there, without a copy; a block is filled anew when
// nobody needs it any more. Everything in an archive begins at a multiple of 512 bytes, and so
// does every block.
type input struct {
	r      io.Reader
	blocks chan *block // full ones; closed at the end
	free   chan *block
	stop   chan struct{}
	done   sync.WaitGroup
	err    error // why it ended, after blocks is closed; nil: the archive did

	current *block
	at      int // what has been read of the current block
}

// block is a piece of an archive. refs are its readers: the parser, and batches of files.
type block struct {
	data []byte
	refs atomic.Int32
	home chan *block // where it goes when nobody needs it; nil: nowhere
}

const (
	inputBytes  = 1 << 20
	inputBlocks = 6
)

func startInput(r io.Reader) *input {
	in := &input{
		r: r, blocks: make(chan *block, inputBlocks), free: make(chan *block, inputBlocks),
		stop: make(chan struct{}),
	}
	for range inputBlocks {
		in.free <- &block{home: in.free}
	}
	in.done.Add(1)
	go in.fill()
	return in
}

func (in *input) fill() {
	defer in.done.Done()
	defer close(in.blocks)
	for {
		var b *block
		select {
		case b = <-in.free:
		case <-in.stop:
			return
		}
		if b.data == nil {
			b.data = make([]byte, inputBytes)
		}
		n, ends, err := readBlock(in.r, b.data[:inputBytes])
		if n > 0 {
			b.data = b.data[:n]
			b.refs.Store(1)
			in.blocks <- b // there is room for all
		}
		if ends || err != nil {
			in.err = err
			return
		}
	}
}

// readBlock fills a block. It is not io.ReadFull, whose io.ErrUnexpectedEOF does not say whether
// that was the end, or is what the reader says of a compressed stream that is cut off.
func readBlock(r io.Reader, p []byte) (n int, ends bool, err error) {
	for empty := 0; n < len(p) && empty < 100; {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
		if empty++; m > 0 {
			empty = 0
		}
	}
	if n < len(p) {
		return n, false, io.ErrNoProgress
	}
	return n, false, nil
}

// close stops the reading and waits for it, should it be at it.
func (in *input) close() {
	close(in.stop)
	in.done.Wait()
}

// errEnd is the end of an archive. It is not io.EOF, which a reader's own error may wrap, as that
// of a connection that was broken off.
var errEnd = errors.New("the archive ends")

// take gives the next bytes, at most n and at least one, where they lie; errEnd at the end. They
// are good until the next take, or as long as their block is held.
func (in *input) take(n int64) ([]byte, error) {
	for in.current == nil || in.at == len(in.current.data) {
		if in.current != nil {
			in.current.release()
		}
		in.current, in.at = <-in.blocks, 0
		if in.current == nil {
			if in.err != nil {
				return nil, in.err
			}
			return nil, errEnd
		}
	}
	p := in.current.data[in.at:min(int64(in.at)+n, int64(len(in.current.data)))]
	in.at += len(p)
	return p, nil
}

// here is the block in which the last take ended.
func (in *input) here() *block {
	if in.current == nil { // at the end of everything
		in.current = &block{}
		in.current.refs.Store(1)
	}
	return in.current
}

// skip passes over so many bytes; it is errEnd if there are less.
func (in *input) skip(n int64) error {
	for n > 0 {
		p, err := in.take(n)
		if err != nil {
			return err
		}
		n -= int64(len(p))
	}
	return nil
}

// reason is the archive's end for io.EOF, unless it was the reader's own error.
func (in *input) reason(err error) error {
	if in.current == nil && in.err != nil { // blocks is closed
		return in.err
	}
	if errors.Is(err, io.EOF) {
		return errEnd
	}
	return err
}

// drain reads to the end.
func (in *input) drain() error {
	for {
		if _, err := in.take(inputBytes); err != nil {
			if errors.Is(err, errEnd) {
				return nil
			}
			return err
		}
	}
}

func (b *block) hold() *block {
	b.refs.Add(1)
	return b
}

func (b *block) release() {
	if b.refs.Add(-1) == 0 && b.home != nil {
		b.home <- b
	}
}

// unexpected is what the end is in the middle of something.
func unexpected(err error) error {
	if errors.Is(err, errEnd) {
		return io.ErrUnexpectedEOF
	}
	return err
}
