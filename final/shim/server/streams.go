//go:build linux

package server

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// streams carries what the container says to its log and to those who are attached, and what they
// say to the container.
//
// Whoever has started the container in the foreground gets all of it: as a terminal, or a pipe,
// would it holds the container up if it does not read, until it reads or is gone. Who is attached
// later only looks on: if it takes nothing for a while it is let go.
type streams struct {
	s         *server
	out, errs *os.File
	stdin     *os.File
	done      chan struct{} // closed when nothing more can come

	mu    sync.Mutex
	sinks []*sink
}

// sink is somebody who is attached; streams that are not wanted, or gone, are nil.
type sink struct {
	out, errs *os.File
	onlooker  bool
}

// onlookerPatience is how long one may take nothing.
const onlookerPatience = 10 * time.Second

// pollable makes a file of a descriptor, of which reads and writes hold up no thread.
func pollable(fd int, name string) *os.File {
	if fd < 0 {
		return nil
	}
	_ = unix.SetNonblock(fd, true) // it works without, with a thread more
	return os.NewFile(uintptr(fd), name)
}

func newStreams(s *server) *streams {
	st := &streams{
		s: s, done: make(chan struct{}), out: pollable(s.Stdout, "stdout"),
		errs: pollable(s.Stderr, "stderr"), stdin: pollable(s.Stdin, "stdin"),
	}
	if s.Config.Terminal {
		st.stdin = st.out
	}
	if s.Holds {
		st.attach(pollable(s.Attach[0], "in"), pollable(s.Attach[1], "out"),
			pollable(s.Attach[2], "err"), false)
	}
	var all sync.WaitGroup
	for name, f := range map[string]*os.File{"stdout": st.out, "stderr": st.errs} {
		if f != nil {
			all.Add(1)
			go func() { defer all.Done(); st.copy(name, f) }()
		}
	}
	go func() { all.Wait(); close(st.done) }()
	return st
}

// attach adds somebody. in is read from then on, until its end.
func (st *streams) attach(in, out, errs *os.File, onlooker bool) *sink {
	k := &sink{out, errs, onlooker}
	st.mu.Lock()
	st.sinks = append(st.sinks, k)
	st.mu.Unlock()
	if in != nil {
		go st.feed(in)
	}
	return k
}

// detach takes somebody away, and closes what it had.
func (st *streams) detach(k *sink) {
	st.mu.Lock()
	st.sinks = slices.DeleteFunc(st.sinks, func(other *sink) bool { return other == k })
	st.mu.Unlock()
	for _, f := range []*os.File{k.out, k.errs} {
		if f != nil {
			f.Close()
		}
	}
}

// feed copies somebody's input to the container's.
func (st *streams) feed(in *os.File) {
	defer in.Close()
	if st.stdin == nil {
		_, _ = io.Copy(io.Discard, in)
		return
	}
	_, err := io.Copy(st.stdin, in)
	if st.s.Config.Terminal || !st.s.Config.StdinOnce {
		return // others may come; a terminal knows no end
	}
	if err == nil || errors.Is(err, unix.EPIPE) {
		st.stdin.Close()
	}
}

// copy carries one stream until its end.
func (st *streams) copy(name string, from *os.File) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if st.s.log != nil {
				if failed := st.s.log.write(name, buffer[:n]); failed != nil {
					st.s.warn("%v", failed)
				}
			}
			st.send(name, buffer[:n])
		}
		if err != nil { // of a terminal the end is EIO
			return
		}
	}
}

func (st *streams) send(name string, data []byte) {
	st.mu.Lock()
	sinks := slices.Clone(st.sinks)
	st.mu.Unlock()
	for _, k := range sinks {
		to := k.out
		if name == "stderr" {
			to = k.errs
		}
		if to == nil {
			continue
		}
		if k.onlooker {
			_ = to.SetWriteDeadline(time.Now().Add(onlookerPatience)) // a pipe knows them
		}
		// Who is gone, or hangs up meanwhile, misses it.
		if _, err := to.Write(data); errors.Is(err, os.ErrDeadlineExceeded) {
			st.detach(k)
		}
	}
}

// flushed waits until nothing more can come, but not for longer than the limit.
func (st *streams) flushed(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-st.done:
	case <-timer.C:
		return false
	}
	// Now everybody has everything: let them see the end.
	st.mu.Lock()
	sinks := st.sinks
	st.sinks = nil
	st.mu.Unlock()
	for _, k := range sinks {
		for _, f := range []*os.File{k.out, k.errs} {
			if f != nil {
				f.Close()
			}
		}
	}
	return true
}

// close ends what is left.
func (st *streams) close() {
	for _, f := range []*os.File{st.stdin, st.out, st.errs} {
		if f != nil {
			f.Close()
		}
	}
}

// resize sets the terminal's size.
func (st *streams) resize(rows, columns uint16) error {
	if !st.s.Config.Terminal {
		return errors.New("the container has no terminal")
	}
	return resize(st.out, rows, columns)
}

func resize(master *os.File, rows, columns uint16) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
	return errors.Join(err, os.NewSyscallError("ioctl TIOCSWINSZ", failed))
}
