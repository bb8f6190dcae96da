//go:build linux

package archive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// files writes what is in files while the archive is being read on. The files are made by who
// reads, in the archive's order, so that names, links and what replaces what never depend on the
// writers. A file's parts may be written in any order; who writes the last gives it its
// attributes.
//
//	             input          who reads            writers
//	archive -> [ block ] -> headers, openat(2) -> pwrite, owner, mode, …, close
//	               ^                                      |
//	               '------- when all in it is written ----'
type files struct {
	batches chan *batch
	current *batch
	done    sync.WaitGroup
	stopped atomic.Bool
	once    sync.Once
	err     error
}

// batchParts and the number of batches limit how many files are open at once, to some hundreds.
const batchParts = 32

// errStopped: a writer met an error, which wait returns.
var errStopped = errors.New("writing has stopped")

// batch is some parts, all from one block: passing them on together costs less.
type batch struct {
	block *block
	parts []part
}

// part is a piece of a file's content, in a block.
type part struct {
	file   *file
	data   []byte
	offset int64
}

// file is one that is being written.
type file struct {
	attributes
	fd     int
	size   int64
	sparse bool
	warn   func(string)
	hole   atomic.Bool // it ends in zeros that were not written
	// How many parts are still to be written, and one more while the reader adds some.
	left atomic.Int64
}

func startFiles() *files {
	f := &files{batches: make(chan *batch, 4)}
	for range min(runtime.GOMAXPROCS(0), 4) {
		f.done.Add(1)
		go f.writer()
	}
	return f
}

// write takes over a file that was made just now, with its content and its attributes.
func (f *files) write(w *file, r *reader) error {
	w.left.Store(1)
	defer f.release(w)
	var offset int64
	for offset < w.size {
		if f.stopped.Load() {
			return errStopped
		}
		data, b, err := r.content()
		if err != nil {
			return fmt.Errorf("read its content: %w", unexpected(err))
		}
		f.add(b, part{file: w, data: data, offset: offset})
		b.release()
		offset += int64(len(data))
	}
	if w.size == 0 { // its attributes are the writers' work as well
		f.add(r.in.here(), part{file: w})
	}
	return nil
}

// add gives a part, which lies in the block, to the writers.
func (f *files) add(b *block, p part) {
	if f.current != nil && (f.current.block != b || len(f.current.parts) == batchParts) {
		f.pass()
	}
	if f.current == nil {
		f.current = &batch{block: b.hold(), parts: make([]part, 0, batchParts)}
	}
	p.file.left.Add(1)
	f.current.parts = append(f.current.parts, p)
}

// pass gives the current batch to the writers.
func (f *files) pass() {
	if f.current != nil {
		f.batches <- f.current
		f.current = nil
	}
}

func (f *files) writer() {
	defer f.done.Done()
	for b := range f.batches {
		for _, p := range b.parts {
			if !f.stopped.Load() {
				f.fail(p.write(), p.file)
			}
			f.release(p.file)
		}
		b.block.release()
	}
}

// release ends a file, if all of it is written.
func (f *files) release(w *file) {
	if w.left.Add(-1) > 0 {
		return
	}
	if !f.stopped.Load() {
		f.fail(w.finish(), w)
	}
	f.fail(os.NewSyscallError("close", unix.Close(w.fd)), w)
}

func (f *files) fail(err error, w *file) {
	if err != nil {
		f.once.Do(func() { f.err = fmt.Errorf("entry %q: %w", w.name, err) })
		f.stopped.Store(true)
	}
}

// wait waits until all is written.
func (f *files) wait() error {
	f.pass()
	close(f.batches)
	f.done.Wait()
	return f.err
}

// write writes a part. Long runs of zeros are left out, and become holes.
func (p *part) write() error {
	grain := 64 << 10
	if p.file.sparse {
		grain = 4 << 10
	}
	data, offset := p.data, p.offset
	for len(data) > 0 {
		n := 0
		for n < len(data) && !isZero(data[n:min(n+grain, len(data))], grain) {
			n = min(n+grain, len(data))
		}
		if err := pwrite(p.file.fd, data[:n], offset); err != nil {
			return err
		}
		data, offset = data[n:], offset+int64(n)
		for len(data) > 0 && isZero(data[:min(grain, len(data))], grain) {
			n := min(grain, len(data))
			data, offset = data[n:], offset+int64(n)
			if offset == p.file.size {
				p.file.hole.Store(true)
			}
		}
	}
	return nil
}

var zeros [64 << 10]byte

// isZero says whether a block is one of zeros, and a whole one.
func isZero(block []byte, grain int) bool {
	return len(block) == grain && block[0] == 0 && bytes.Equal(block, zeros[:grain])
}

func pwrite(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("pwrite", err)
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// finish gives a file its length, where it ends in a hole, and its attributes.
func (w *file) finish() error {
	if w.hole.Load() {
		if err := unix.Ftruncate(w.fd, w.size); err != nil {
			return os.NewSyscallError("ftruncate", err)
		}
	}
	return w.set(w.fd, w.warn)
}

// utimensat without a path is about the descriptor itself: utimensat(2), "futimens".
func utimensat(fd int, times *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0,
		uintptr(unsafe.Pointer(times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
