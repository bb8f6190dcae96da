//go:build linux

package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
)

// EventOptions say which events to give: those since a time, if there is one; and those that come
// until a time, if there is one, or for ever.
type EventOptions struct {
	Since, Until string // see parseTime
	Filters      Filters
}

// Events calls f for each event, in order, until it fails or the context ends.
func (e *Engine) Events(ctx context.Context, o EventOptions, f func(events.Message) error) error {
	if err := o.Filters.check("container", "event", "image", "label", "network", "scope", "type",
		"volume", "daemon"); err != nil {
		return err
	}
	if err := e.open(); err != nil {
		return err
	}
	now := time.Now()
	since, until := now, time.Time{}
	var err error
	if o.Since != "" {
		if since, err = parseTime(o.Since, now); err != nil {
			return err
		}
	}
	if o.Until != "" {
		if until, err = parseTime(o.Until, now); err != nil {
			return err
		}
	}
	r := &eventReader{path: e.eventsPath(), give: func(m events.Message) error {
		at := time.Unix(0, m.TimeNano)
		if at.Before(since) || !until.IsZero() && at.After(until) || !o.Filters.event(m) {
			return nil
		}
		return f(m)
	}}
	return r.run(ctx, o.Since != "", until)
}

// event says whether an event passes the filters.
func (f Filters) event(m events.Message) bool {
	is := func(kind events.Type) func(string) bool {
		return func(v string) bool {
			return m.Type == kind && (strings.HasPrefix(m.Actor.ID, v) || m.Actor.Attributes["name"] == v)
		}
	}
	image := func(v string) bool {
		name := m.Actor.Attributes["image"]
		if m.Type == events.ImageEventType {
			name = m.Actor.Attributes["name"]
		}
		return m.Actor.ID == v || name == v || strings.HasPrefix(name, v+":")
	}
	return f.any("type", func(v string) bool { return string(m.Type) == v }) &&
		f.any("event", func(v string) bool {
			return string(m.Action) == v || strings.HasPrefix(string(m.Action), v+":")
		}) &&
		f.any("container", is(events.ContainerEventType)) &&
		f.any("network", is(events.NetworkEventType)) &&
		f.any("volume", is(events.VolumeEventType)) &&
		f.any("image", image) && f.any("scope", func(v string) bool { return v == "local" }) &&
		f.labels(m.Actor.Attributes)
}

// eventReader reads the file of events, and goes on when it is begun anew.
type eventReader struct {
	path  string
	only  []byte // a line in which this is not, need not be parsed
	begun func() error
	give  func(events.Message) error
	file  *os.File
	rest  []byte
	watch *folderWatch
}

// begin is the moment from which on nothing is missed. With past, what happened before is given,
// too.
func (r *eventReader) begin(past bool) error {
	var err error
	if r.watch, err = folders.watch(filepath.Dir(r.path)); err != nil {
		return err
	}
	if past {
		old, err := os.Open(r.path + ".1")
		if err != nil {
			return nil //nolint:nilerr // there was not so much
		}
		defer old.Close()
		r.file = old
		err = r.read()
		r.file, r.rest = nil, nil
		return err
	}
	now, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.file = now
	_, err = now.Seek(0, io.SeekEnd)
	return err
}

func (r *eventReader) close() {
	if r.watch != nil {
		r.watch.close()
	}
	if r.file != nil {
		r.file.Close()
	}
}

func (r *eventReader) run(ctx context.Context, past bool, until time.Time) error {
	defer r.close()
	if err := r.begin(past); err != nil {
		return err
	}
	if r.begun != nil {
		if err := r.begun(); err != nil {
			return err
		}
	}
	for {
		over := !until.IsZero() && time.Now().After(until) // before the last look
		if err := r.catchUp(); err != nil || over {
			return err
		}
		wait := time.Minute
		if !until.IsZero() {
			wait = min(wait, max(time.Until(until), time.Millisecond))
		}
		if err := r.watch.wait(ctx, wait); err != nil {
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
}

// catchUp reads to the end of the newest file.
func (r *eventReader) catchUp() error {
	for {
		if r.file != nil {
			if err := r.read(); err != nil {
				return err
			}
		}
		next, err := os.Open(r.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.file == nil {
			r.file = next
			continue
		}
		mine, err := r.file.Stat()
		now, err2 := next.Stat()
		if err := errors.Join(err, err2); err != nil || os.SameFile(mine, now) {
			next.Close()
			return err
		}
		if err := r.read(); err != nil {
			next.Close()
			return err
		}
		r.file.Close()
		r.file, r.rest = next, nil
	}
}

func (r *eventReader) read() error {
	in := bufio.NewReader(r.file)
	for {
		line, err := in.ReadBytes('\n')
		line = append(r.rest, line...)
		r.rest = nil
		if err != nil {
			r.rest = bytes.Clone(line)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if !bytes.Contains(line, r.only) {
			continue
		}
		var m events.Message
		if json.Unmarshal(line, &m) != nil {
			continue // half a line, of a full disk
		}
		if err := r.give(m); err != nil {
			return err
		}
	}
}

// EventsOf calls f for each event of a container that happens from now on, until it fails or the
// context ends. It calls begun first, when nothing is missed any more.
func (e *Engine) EventsOf(
	ctx context.Context, id string, begun func() error, f func(events.Message) error,
) error {
	if err := e.open(); err != nil {
		return err
	}
	r := &eventReader{path: e.eventsPath(), only: []byte(id), begun: begun,
		give: func(m events.Message) error {
			if m.Type != events.ContainerEventType || m.Actor.ID != id {
				return nil
			}
			return f(m)
		}}
	return r.run(ctx, false, time.Time{})
}
