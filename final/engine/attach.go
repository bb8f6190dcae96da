//go:build linux

package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"minidocker/final/shim"
)

// Streams are a caller's side of a container's, or another process's, streams.
type Streams struct {
	// In, Out and Err are nil if they are not wanted. With a terminal there is no Err.
	In       io.Reader
	Out, Err io.Writer
	// DetachKeys are the bytes that end the attachment, and not the process. nil: there are none.
	DetachKeys []byte
	// Size is the terminal's; it is asked at the start, and whenever something comes on Resize.
	Size   func() (rows, columns uint16)
	Resize <-chan struct{}
}

// Ending is how an attachment ended.
type Ending struct {
	Detached bool // by its keys: the process goes on
	Status   int  // exit status
	Error    string
}

// Attachment is a caller that is attached to a process.
type Attachment struct {
	e       *Engine
	r       *record
	s       *Streams
	conn    *shim.Conn
	child   *os.Process // the shim, if it was started here: then the rest is to be done here, too
	exec    bool
	pid     int
	master  *os.File // of an exec's terminal
	attach  *shim.Attach
	far     []*os.File // the other ends, for the shim
	in      *os.File   // to the process
	outputs []*os.File // from the process
	copied  sync.WaitGroup

	detached chan struct{}
	failure  error       // why it is detached
	broken   atomic.Bool // nobody reads what it says
	once     sync.Once
}

// newAttachment makes the pipes.
func newAttachment(e *Engine, r *record, s *Streams) (*Attachment, error) {
	a := &Attachment{e: e, r: r, s: s, attach: &shim.Attach{}, detached: make(chan struct{})}
	pipe := func(wanted bool, toShim bool) (*os.File, error) {
		if !wanted {
			return nil, nil
		}
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if toShim {
			a.far = append(a.far, read)
			return write, nil
		}
		a.far = append(a.far, write)
		return read, nil
	}
	var err error
	a.attach.Stdin, a.attach.Stdout, a.attach.Stderr = s.In != nil, s.Out != nil, s.Err != nil
	if a.in, err = pipe(a.attach.Stdin, true); err != nil {
		return nil, err
	}
	for _, wanted := range []bool{a.attach.Stdout, a.attach.Stderr} {
		f, err := pipe(wanted, false)
		if err != nil {
			a.closeFar()
			a.close()
			return nil, err
		}
		a.outputs = append(a.outputs, f)
	}
	return a, nil
}

func (a *Attachment) closeFar() {
	for _, f := range a.far {
		f.Close()
	}
	a.far = nil
}

func (a *Attachment) close() {
	for _, f := range append([]*os.File{a.in, a.master}, a.outputs...) {
		if f != nil {
			f.Close()
		}
	}
	if a.conn != nil {
		a.conn.Close()
	}
}

// begin carries the streams.
func (a *Attachment) begin() {
	for i, to := range []io.Writer{a.s.Out, a.s.Err} {
		from := a.outputs[i]
		if i == 0 && a.master != nil {
			from = a.master
		}
		if from == nil {
			continue
		}
		if to == nil { // of a terminal, which must be read all the same
			to = io.Discard
		}
		a.copied.Add(1)
		go func() {
			defer a.copied.Done()
			// Of a terminal the end is EIO, which is not to be told.
			if _, err := io.Copy(to, from); errors.Is(err, unix.EPIPE) {
				from.Close()
				a.unread(err)
			}
		}()
	}
	if a.s.In != nil {
		go a.feed()
	}
	if a.s.Size != nil {
		go a.resizes()
	}
}

// unread is for output that nobody reads any more. A container that is to be removed at its end
// ends then, as a process of a pipeline does; any other goes on, and its log has the rest.
func (a *Attachment) unread(err error) {
	a.once.Do(func() {
		if a.child != nil && a.r.HostConfig.AutoRemove {
			a.broken.Store(true)
			_ = a.Signal(unix.SIGKILL) // it may have ended
			return
		}
		a.failure = err
		close(a.detached)
		a.conn.Close()
	})
}

// feed carries the input, and looks for the keys that detach.
func (a *Attachment) feed() {
	to := a.in
	if a.master != nil {
		to = a.master
	}
	keys := &detachKeys{keys: a.s.DetachKeys}
	buffer := make([]byte, 4096)
	for {
		n, err := a.s.In.Read(buffer)
		if n > 0 {
			pass, detach := keys.scan(buffer[:n])
			if _, failed := to.Write(pass); failed != nil {
				return
			}
			if detach {
				a.Detach()
				return
			}
		}
		if err != nil {
			if a.master == nil {
				a.in.Close()
			} else if errors.Is(err, io.EOF) {
				_, _ = to.Write([]byte{4}) // the end, as a terminal has it: Ctrl-D
			}
			return
		}
	}
}

func (a *Attachment) resizes() {
	for {
		rows, columns := a.s.Size()
		if a.master != nil {
			_ = setSize(a.master, rows, columns) // it may be gone
		} else {
			_ = a.e.resize(a.r.ID, rows, columns)
		}
		select {
		case _, ok := <-a.s.Resize:
			if !ok || a.s.Resize == nil {
				return
			}
		case <-a.detached:
			return
		}
	}
}

// Resize sets the size of the process's terminal.
func (a *Attachment) Resize(rows, columns uint16) error {
	if a.master != nil {
		return setSize(a.master, rows, columns)
	}
	return a.e.resize(a.r.ID, rows, columns)
}

func setSize(f *os.File, rows, columns uint16) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
}

// Detach ends the attachment, and not the process.
func (a *Attachment) Detach() {
	a.once.Do(func() { close(a.detached); a.conn.Close() })
}

// Pid is the process's number, of an exec.
func (a *Attachment) Pid() int { return a.pid }

// Signal sends a signal to the process.
func (a *Attachment) Signal(sig unix.Signal) error {
	if a.exec {
		return unix.Kill(a.pid, sig)
	}
	return a.e.runtime().Kill(a.r.ID, sig, false)
}

// Wait waits for the process's end, and for all that it said.
func (a *Attachment) Wait() (Ending, error) { return a.WaitThen(nil) }

// WaitThen is Wait, and calls f, unless it is nil, when the process has ended and its files are
// there still, also those of a container that is removed at its end. Nobody else changes the
// container meanwhile. It must have been started here.
func (a *Attachment) WaitThen(f func(Ending) error) (Ending, error) {
	var reply shim.Reply
	_, err := a.conn.Receive(&reply)
	select {
	case <-a.detached:
		a.detach()
		return Ending{Detached: true}, a.failure
	default:
	}
	if err != nil {
		defer a.close()
		return a.lost()
	}
	ending := Ending{Status: reply.Status, Error: reply.Error}
	if a.broken.Load() {
		ending.Status = 128 + int(unix.SIGPIPE)
	}
	if a.master == nil {
		a.copied.Wait()
	} else {
		a.drain()
	}
	defer a.close()
	if a.child == nil {
		return ending, nil
	}
	if f != nil {
		err = a.e.atEnd(a.r.ID, func() error { return f(ending) })
	}
	return ending, errors.Join(err, a.finish())
}

// drain takes what a terminal still has: its master ends when nobody has the other side open.
func (a *Attachment) drain() {
	_ = a.master.SetReadDeadline(deadline()) // what the process left running may have it
	a.copied.Wait()
}

// detach lets go.
func (a *Attachment) detach() {
	a.close()
	if a.child != nil {
		a.e.leave(a.child)
	}
}

// finish does the engine's part at the end of a container that was started here.
func (a *Attachment) finish() error {
	var done shim.Reply
	_, err := a.conn.Receive(&done)
	if err != nil { // it starts the container again, or was killed: others see to it
		a.e.leave(a.child)
		return nil //nolint:nilerr // see above
	}
	_, _ = a.child.Wait()
	return a.e.Ended(a.r.ID)
}

// lost is for a shim that is gone without a word.
func (a *Attachment) lost() (Ending, error) {
	if a.exec {
		return Ending{Status: 137}, nil
	}
	l, err := a.e.lock(a.r.ID) // which settles it
	if Code(err) == NotFound {
		return Ending{Status: 137}, nil
	}
	if err != nil {
		return Ending{Status: 125}, err
	}
	l.unlock()
	state, err := a.e.state(a.r.ID)
	if err != nil {
		return Ending{Status: 125}, err
	}
	return Ending{Status: state.ExitCode, Error: state.Error}, nil
}

// Attach attaches to a running container.
func (e *Engine) Attach(_ context.Context, ref string, s *Streams) (*Attachment, error) {
	r, state, err := e.get(ref)
	if err != nil {
		return nil, err
	}
	switch {
	case state.Status == "restarting":
		return nil, failed(Conflict, "container %s is restarting, wait until the container is running",
			r.ID)
	case state.Status != "running":
		return nil, failed(Conflict, "cannot attach to a stopped container, start it first")
	case e.paused(r.ID):
		return nil, failed(Conflict, "container %s is paused, unpause the container before attach", r.ID)
	}
	if r.Config.Tty {
		s.Err = nil
	}
	if !r.Config.OpenStdin {
		s.In = nil
	}
	a, err := newAttachment(e, r, s)
	if err != nil {
		return nil, err
	}
	defer a.closeFar()
	request := shim.Request{Do: "attach", Attach: a.attach}
	if a.conn, _, err = e.ask(r.ID, request, a.far...); err != nil {
		a.close()
		return nil, err
	}
	e.containerEvent(r, "attach", nil)
	a.begin()
	return a, nil
}

// ask sends a request to a container's shim, and returns the connection when the shim has said
// that it does it, with the files beside that.
func (e *Engine) ask(id string, r shim.Request, files ...*os.File) (*shim.Conn, *answer, error) {
	conn, err := shim.Dial(e.runDir(id))
	if errors.Is(err, shim.ErrNoShim) {
		return nil, nil, failed(Conflict, "container %s is not running", id)
	}
	if err != nil {
		return nil, nil, err
	}
	a := &answer{}
	if err = conn.Send(r, files...); err == nil {
		a.files, err = conn.Receive(&a.Reply)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		err = failed(Conflict, "container %s has ended", id)
	}
	if err == nil && a.Is == shim.Failed {
		err = &StartError{a.Status, errors.New(a.Error)}
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, a, nil
}

// answer is what a shim says to a request.
type answer struct {
	shim.Reply
	files []*os.File
}

// Resize sets the size of a container's terminal.
func (e *Engine) Resize(_ context.Context, ref string, rows, columns uint16) error {
	r, _, err := e.get(ref)
	if err != nil {
		return err
	}
	return e.resize(r.ID, rows, columns)
}

func (e *Engine) resize(id string, rows, columns uint16) error {
	conn, _, err := e.ask(id, shim.Request{Do: "resize", Rows: rows, Columns: columns})
	if err != nil {
		return err
	}
	return conn.Close()
}

// detachKeys looks for a sequence of keys in what is typed.
type detachKeys struct {
	keys  []byte
	found int
}

// scan returns what is to be passed on, and whether the keys are complete. Keys that may be the
// sequence's beginning are held back.
func (d *detachKeys) scan(data []byte) (pass []byte, detach bool) {
	if len(d.keys) == 0 {
		return data, false
	}
	var out bytes.Buffer
	for _, b := range data {
		if b == d.keys[d.found] {
			if d.found++; d.found == len(d.keys) {
				return out.Bytes(), true
			}
			continue
		}
		out.Write(d.keys[:d.found])
		d.found = 0
		if b == d.keys[0] {
			d.found = 1
			continue
		}
		out.WriteByte(b)
	}
	return out.Bytes(), false
}
