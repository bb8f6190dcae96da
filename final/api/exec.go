//go:build linux

package api

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"minidocker/final/engine"
)

// An exec is made first and started then, by another request, and looked at when it is over. The
// engine knows only those that run; what was asked for, and how it ended, is in memory here.

// keptExecs is for how long an exec that is over, or was never started, can be looked at.
const keptExecs = 10 * time.Minute

type execs struct {
	mu sync.Mutex
	by map[string]*execution
}

// execution is one exec.
type execution struct {
	id, container string
	request       container.ExecCreateRequest
	touched       time.Time

	// known is closed when the process runs, or could not be started.
	known chan struct{}

	mu         sync.Mutex
	started    bool
	running    bool
	detached   bool // it goes on without anybody here who would know of its end
	code       *int
	pid        int
	attachment *engine.Attachment
}

// add keeps an exec, and forgets old ones.
func (x *execs) add(e *execution) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.by == nil {
		x.by = map[string]*execution{}
	}
	for id, old := range x.by {
		old.mu.Lock()
		if !old.running && time.Since(old.touched) > keptExecs {
			delete(x.by, id)
		}
		old.mu.Unlock()
	}
	x.by[e.id] = e
}

func (x *execs) get(id string) (*execution, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.by[id]
	if e == nil {
		return nil, notFound("No such exec instance: %s", id)
	}
	return e, nil
}

// createExec is POST /containers/{id}/exec.
func (s *Server) createExec(w http.ResponseWriter, r *http.Request) error {
	x := &execution{touched: time.Now(), known: make(chan struct{})}
	if err := decode(r, &x.request, false); err != nil {
		return err
	}
	if len(x.request.Cmd) == 0 {
		return invalid("no exec command specified")
	}
	if _, err := detachKeys(x.request.DetachKeys); err != nil {
		return err
	}
	c, err := s.e.Inspect(r.Context(), r.PathValue("id"), false)
	switch {
	case err != nil:
		return err
	case !c.State.Running:
		return conflict("container %s is not running", c.ID)
	case c.State.Paused:
		return conflict("container %s is paused, unpause the container before exec",
			r.PathValue("id"))
	}
	b := make([]byte, 32)
	rand.Read(b) // never fails
	x.id, x.container = hex.EncodeToString(b), c.ID
	if err := s.e.PrepareExec(x.id, c.ID, &x.request); err != nil {
		return err
	}
	s.execs.add(x)
	return writeJSON(w, http.StatusCreated, container.ExecCreateResponse{ID: x.id})
}

// startExec is POST /exec/{id}/start.
func (s *Server) startExec(w http.ResponseWriter, r *http.Request) error {
	var start container.ExecStartRequest
	if err := decode(r, &start, true); err != nil {
		return err
	}
	x, err := s.execs.get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if start.ConsoleSize != nil && x.request.ConsoleSize == nil {
		x.request.ConsoleSize = start.ConsoleSize
	}
	c, err := s.e.Inspect(r.Context(), x.container, false)
	if err != nil {
		return err
	}
	if !c.State.Running {
		return conflict("container %s is not running", x.container)
	}
	if err := x.begin(); err != nil {
		return err
	}
	if start.Detach {
		if err := s.runExec(x, nil, nil); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	// Whether there are frames says the client that reads them, which may have had the exec, and its
	// terminal, made by another.
	h, err := s.hijack(w, r, start.Tty)
	if err != nil {
		return err
	}
	h.begin()
	s.background(func() {
		if err := s.runExec(x, h, x.streams(h, start.Tty)); err != nil {
			// The answer has begun: dockerd, too, says it where the output would be.
			_, _ = outputError(h, start.Tty, err) // or nobody is there to read it
			h.close()
		}
	})
	return nil
}

func outputError(h *hijacked, terminal bool, err error) (int, error) {
	out, _ := outputs(h, terminal)
	return out.Write([]byte(err.Error() + "\r\n"))
}

// begin says that an exec is started, which can be once.
func (x *execution) begin() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.started {
		return conflict("exec command %s has been started already", x.id)
	}
	x.started = true
	return nil
}

// streams are the client's, as it asked for them.
func (x *execution) streams(h *hijacked, raw bool) *engine.Streams {
	streams := &engine.Streams{}
	out, errs := outputs(h, raw)
	if x.request.AttachStdout {
		streams.Out = out
	}
	if x.request.AttachStderr && !x.request.Tty {
		streams.Err = errs
	}
	if x.request.AttachStdin {
		streams.In = h.input(x.request.Tty)
		if x.request.Tty {
			streams.DetachKeys, _ = detachKeys(x.request.DetachKeys) // looked at when it was made
		}
	} else {
		h.drop()
	}
	return streams
}

// runExec runs an exec, to its end if there is a client.
func (s *Server) runExec(x *execution, h *hijacked, streams *engine.Streams) error {
	a, err := s.e.ExecAs(s.done, x.id, x.container, &x.request, streams)
	if err != nil {
		status := 126
		if failed := (*engine.StartError)(nil); errors.As(err, &failed) {
			status = failed.Status
		}
		x.ended(engine.Ending{Status: status})
		close(x.known)
		return err
	}
	x.mu.Lock()
	x.running, x.pid, x.attachment = true, a.Pid(), a
	x.mu.Unlock()
	close(x.known)
	if h != nil {
		s.carry(h, a, x.ended)
		return nil
	}
	s.background(func() {
		stop := make(chan struct{})
		go func() {
			select {
			case <-s.done.Done():
				a.Detach()
			case <-stop:
			}
		}()
		ending, err := a.Wait()
		close(stop)
		if err != nil {
			s.log.WithError(err).WithField("exec", x.id).Debug("exec")
		}
		x.ended(ending)
	})
	return nil
}

// ended notes how an exec has ended.
func (x *execution) ended(end engine.Ending) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.touched, x.running, x.attachment = time.Now(), false, nil
	if end.Detached {
		x.detached = true
		return
	}
	x.code = &end.Status
}

// inspectExec is GET /exec/{id}/json.
func (s *Server) inspectExec(w http.ResponseWriter, r *http.Request) error {
	x, err := s.execs.get(r.PathValue("id"))
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	running := x.running
	if x.detached && x.code == nil {
		c, err := s.e.Inspect(r.Context(), x.container, false)
		running = err == nil && slices.Contains(c.ExecIDs, x.id)
	}
	return writeJSON(w, http.StatusOK, container.ExecInspectResponse{
		ID: x.id, Running: running, ExitCode: x.code, ContainerID: x.container, Pid: x.pid,
		OpenStdin: x.request.AttachStdin, OpenStdout: x.request.AttachStdout,
		OpenStderr: x.request.AttachStderr, CanRemove: x.code != nil, DetachKeys: []byte{},
		ProcessConfig: &container.ExecProcessConfig{
			Tty: x.request.Tty, Entrypoint: x.request.Cmd[0], Arguments: x.request.Cmd[1:],
			Privileged: &x.request.Privileged, User: x.request.User},
	})
}

// resizeExec is POST /exec/{id}/resize.
func (s *Server) resizeExec(w http.ResponseWriter, r *http.Request) error {
	rows, columns, err := size(r)
	if err != nil {
		return err
	}
	x, err := s.execs.get(r.PathValue("id"))
	if err != nil {
		return err
	}
	// docker asks for it when it has asked for the start, which may take a moment.
	select {
	case <-x.known:
	case <-r.Context().Done():
		return r.Context().Err()
	case <-time.After(time.Second):
	}
	x.mu.Lock()
	a := x.attachment
	x.mu.Unlock()
	if a == nil {
		return conflict("exec %s is not running", x.id)
	}
	if err := a.Resize(rows, columns); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// size is the query's, of a terminal.
func size(r *http.Request) (rows, columns uint16, err error) {
	for name, to := range map[string]*uint16{"h": &rows, "w": &columns} {
		text := r.FormValue(name)
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil && (n < 0 || n > math.MaxUint32) {
			err = &strconv.NumError{Err: strconv.ErrRange}
		}
		if failed := (*strconv.NumError)(nil); errors.As(err, &failed) {
			what := map[string]string{"h": "height", "w": "width"}[name]
			return 0, 0, invalid("invalid resize %s %q: %w", what, text, failed.Err)
		}
		*to = uint16(min(n, math.MaxUint16)) // more than that a terminal cannot have
	}
	return rows, columns, nil
}
