//go:build linux

package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"minidocker/final/engine"
)

// Attaching comes before starting: docker run creates, attaches, and then starts, so that not a
// byte is missed. The engine starts and attaches in one. So an attachment to a container that
// does not run is kept, and its connection with it, until somebody starts that container: by this
// server, which gives the streams to the engine's Start, or by the other door, of which the
// engine's events tell.

// pending are the attachments to containers that do not run yet, by their IDs.
type pending struct {
	mu sync.Mutex
	of map[string][]*attaching
}

// attaching is a client that waits for a container's start.
type attaching struct {
	h       *hijacked
	streams *engine.Streams
	ctx     context.Context // until somebody has taken it
	cancel  context.CancelFunc
}

func (p *pending) add(
	ctx context.Context, id string, h *hijacked, streams *engine.Streams,
) *attaching {
	a := &attaching{h: h, streams: streams}
	a.ctx, a.cancel = context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string][]*attaching{}
	}
	p.of[id] = append(p.of[id], a)
	return a
}

// take takes all that wait for a container, for the caller to see to.
func (p *pending) take(id string) []*attaching {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.of[id]
	delete(p.of, id)
	return all
}

// drop takes one away, if nobody has taken it.
func (p *pending) drop(id string, a *attaching) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.of[id], a)
	if i < 0 {
		return false
	}
	p.of[id] = slices.Delete(p.of[id], i, i+1)
	if len(p.of[id]) == 0 {
		delete(p.of, id)
	}
	return true
}

// attach is POST /containers/{id}/attach.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) error {
	c, err := s.e.Inspect(r.Context(), r.PathValue("id"), false)
	if err != nil {
		return err
	}
	switch {
	case c.State.Paused:
		return conflict("container %s is paused, unpause the container before attach",
			r.PathValue("id"))
	case c.State.Restarting:
		return conflict("container %s is restarting, wait until the container is running",
			r.PathValue("id"))
	}
	keys, err := detachKeys(r.FormValue("detachKeys"))
	if err != nil {
		return err
	}
	h, err := s.hijack(w, r, c.Config.Tty)
	if err != nil {
		return err
	}
	streams := s.streams(r, h, c, keys)
	logs, waits := flag(r, "logs"), flag(r, "stream") && !c.State.Running
	if waits && !logs {
		// Before the client is told, since what it does next is to start it.
		a := s.pending.add(s.done, c.ID, h, streams)
		h.begin()
		s.background(func() { s.await(c.ID, a) })
		return nil
	}
	h.begin()
	if logs {
		out, errs := outputs(h, c.Config.Tty)
		o := engine.LogOptions{Stdout: flag(r, "stdout"), Stderr: flag(r, "stderr")}
		if err := s.e.Logs(s.done, c.ID, o, out, errs); err != nil {
			s.entry(r).WithError(err).Debug("logs of an attachment")
		}
	}
	if !flag(r, "stream") {
		h.close()
		return nil
	}
	if waits {
		a := s.pending.add(s.done, c.ID, h, streams)
		s.background(func() { s.await(c.ID, a) })
		return nil
	}
	s.background(func() { s.attachNow(c.ID, h, streams) })
	return nil
}

// background does something beside requests.
func (s *Server) background(f func()) {
	s.busy.Add(1)
	go func() {
		defer s.busy.Done()
		f()
	}()
}

// streams are the client's, as the query says which.
func (s *Server) streams(
	r *http.Request, h *hijacked, c *container.InspectResponse, keys []byte,
) *engine.Streams {
	tty := c.Config.Tty
	streams := &engine.Streams{}
	out, errs := outputs(h, tty)
	if flag(r, "stdout") {
		streams.Out = out
	}
	if flag(r, "stderr") && !tty {
		streams.Err = errs
	}
	if flag(r, "stdin") && c.Config.OpenStdin {
		streams.In = h.input(tty)
		if tty {
			streams.DetachKeys = keys
		}
	} else {
		h.drop()
	}
	return streams
}

// await waits with an attachment until somebody else starts the container.
func (s *Server) await(id string, a *attaching) {
	defer a.cancel()
	started := s.untilStarted(id, a)
	if !s.pending.drop(id, a) {
		return // who has taken it sees to it
	}
	if !started {
		a.h.close()
		return
	}
	s.attachNow(id, a.h, a.streams)
}

// untilStarted waits until a container is started; not if it is removed, or the client is gone,
// or somebody has taken the attachment.
func (s *Server) untilStarted(id string, a *attaching) bool {
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	go func() {
		select {
		case <-a.h.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	started := false
	enough := errors.New("enough")
	begun := func() error { // and what was before?
		c, err := s.e.Inspect(ctx, id, false)
		if err != nil {
			return err
		}
		if started = c.State.Running; started {
			return enough
		}
		return nil
	}
	_ = s.e.EventsOf(ctx, id, begun, func(m events.Message) error {
		started = m.Action == events.ActionStart
		if started || m.Action == events.ActionDestroy {
			return enough
		}
		return nil
	})
	return started
}

// attachNow attaches to a container that runs.
func (s *Server) attachNow(id string, h *hijacked, streams *engine.Streams) {
	a, err := s.e.Attach(s.done, id, streams)
	if err != nil {
		s.log.WithError(err).WithField("container", id).Debug("attach")
		h.close()
		return
	}
	s.carry(h, a, nothing)
}

// carry waits for the end of an attachment, or of its client, and ends the other. It calls ended
// before the client is told, by the connection's end.
func (s *Server) carry(h *hijacked, a *engine.Attachment, ended func(engine.Ending)) {
	over := make(chan struct{})
	go func() {
		select {
		case <-h.lost:
			a.Detach()
		case <-s.done.Done():
			a.Detach()
		case <-over:
		}
	}()
	ending, err := a.Wait()
	close(over)
	if err != nil {
		s.log.WithError(err).Debug("attached")
	}
	ended(ending)
	h.close()
}

// nothing is for an end of which the engine knows all there is to know.
func nothing(engine.Ending) {}

// start is POST /containers/{id}/start.
func (s *Server) start(w http.ResponseWriter, r *http.Request) error {
	c, err := s.e.Inspect(r.Context(), r.PathValue("id"), false)
	if err != nil {
		return err
	}
	err = s.startContainer(r.Context(), c.ID)
	if err != nil && before(r, 44) {
		err = oldStartError(err)
	}
	return done(w, err)
}

// startContainer starts a container with the streams of those who wait for it.
func (s *Server) startContainer(ctx context.Context, id string) error {
	waiting := s.pending.take(id)
	if len(waiting) == 0 {
		_, err := s.e.Start(ctx, id, nil)
		return err
	}
	for _, w := range waiting {
		w.cancel()
	}
	first, others := waiting[0], waiting[1:]
	a, err := s.e.Start(ctx, id, first.streams)
	if engine.Code(err) == engine.NotModified { // the other door was faster
		others = waiting
	} else if err != nil {
		for _, w := range waiting {
			w.h.close()
		}
		return err
	}
	if a != nil {
		s.background(func() { s.carry(first.h, a, nothing) })
	}
	for _, w := range others {
		s.background(func() { s.attachNow(id, w.h, w.streams) })
	}
	return err
}

// detachKeys are the bytes that the words mean: a letter, or ctrl- and one of a-z @ [ \ ] ^ _.
func detachKeys(text string) ([]byte, error) {
	if text == "" {
		return []byte{'P' & 0x1f, 'Q' & 0x1f}, nil
	}
	var keys []byte
	for _, word := range strings.Split(text, ",") {
		rest, ctrl := strings.CutPrefix(word, "ctrl-")
		switch {
		case len(word) == 1:
			keys = append(keys, word[0])
		case ctrl && len(rest) == 1 && rest[0] >= 'a' && rest[0] <= 'z':
			keys = append(keys, rest[0]&0x1f)
		case ctrl && len(rest) == 1 && rest[0] >= '@' && rest[0] <= '_':
			keys = append(keys, rest[0]&0x1f)
		default:
			return nil, invalid("invalid detach keys (%s): unknown character: '%s'", text, word)
		}
	}
	return keys, nil
}
