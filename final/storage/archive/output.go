//go:build linux

package archive

import (
	"io"
	"sync"
)

// output writes an archive's bytes while the next ones are being read: files are read straight
// into one of a few buffers, and a goroutine writes those that are full.
type output struct {
	buf  []byte // the one that is being filled, up to its length
	full chan []byte
	free chan []byte
	done sync.WaitGroup
	lock sync.Mutex
	err  error
}

const (
	outputBytes   = 1 << 20
	outputBuffers = 3
)

func startOutput(w io.Writer) *output {
	o := &output{full: make(chan []byte, outputBuffers), free: make(chan []byte, outputBuffers)}
	for range outputBuffers {
		o.free <- nil // made when it is wanted: many archives are small
	}
	o.done.Add(1)
	go func() {
		defer o.done.Done()
		for buf := range o.full {
			if o.failed() == nil {
				_, err := w.Write(buf)
				o.fail(err)
			}
			o.free <- buf[:0]
		}
	}()
	return o
}

func (o *output) failed() error {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.err
}

func (o *output) fail(err error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if o.err == nil {
		o.err = err
	}
}

// space is where to put the next bytes: at least one, at most n. advance says how many it were.
func (o *output) space(n int64) ([]byte, error) {
	if len(o.buf) == cap(o.buf) {
		if err := o.failed(); err != nil {
			return nil, err
		}
		if o.buf != nil {
			o.full <- o.buf
		}
		if o.buf = <-o.free; o.buf == nil {
			o.buf = make([]byte, 0, outputBytes)
		}
	}
	rest := o.buf[len(o.buf):cap(o.buf)]
	return rest[:min(n, int64(len(rest)))], nil
}

func (o *output) advance(n int) { o.buf = o.buf[:len(o.buf)+n] }

// Write is for what is in memory already.
func (o *output) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		room, err := o.space(int64(len(p) - done))
		if err != nil {
			return done, err
		}
		n := copy(room, p[done:])
		o.advance(n)
		done += n
	}
	return len(p), nil
}

// close writes the rest, waits, and says whether all went well.
func (o *output) close() error {
	if len(o.buf) > 0 {
		o.full <- o.buf
	}
	close(o.full)
	o.done.Wait()
	return o.err
}
