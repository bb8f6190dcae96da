//go:build linux

package engine

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"minidocker/final/shim"
)

// Wait waits until a container does not run, ends the next time, or is removed.
func (e *Engine) Wait(
	ctx context.Context, ref string, c container.WaitCondition,
) (container.WaitResponse, error) {
	wait, err := e.Waiting(ref, c)
	if err != nil {
		return container.WaitResponse{}, err
	}
	return wait(ctx)
}

// Waiting begins to wait: when it has returned, no end is missed any more. What it returns does
// the waiting, and must be called, once.
func (e *Engine) Waiting(ref string, c container.WaitCondition) (
	func(context.Context) (container.WaitResponse, error), error,
) {
	switch c {
	case "", container.WaitConditionNotRunning, container.WaitConditionNextExit,
		container.WaitConditionRemoved:
	default:
		return nil, failed(Invalid, "invalid condition: %q", c)
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	id, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	w := &waiting{e: e, id: id, condition: c}
	w.events = &eventReader{path: e.eventsPath(), only: []byte(id), give: w.happened}
	_, state, err := e.get(id)
	if err == nil && state.Status == "restarting" && c != container.WaitConditionRemoved {
		w.condition = container.WaitConditionNextExit // nobody is there yet who would tell
	}
	if err == nil && w.condition != "" && w.condition != container.WaitConditionNotRunning {
		if err = w.events.begin(false); err == nil {
			_, state, err = e.get(id) // as it is now that no event is missed
		}
	}
	if err != nil {
		w.events.close()
		return nil, err
	}
	w.code, w.started = int64(state.ExitCode), state.Status == "running"
	if !w.started && state.Status != "restarting" {
		w.idle = true
	}
	return w.wait, nil
}

// waiting is somebody who waits for a container.
type waiting struct {
	e         *Engine
	id        string
	condition container.WaitCondition
	events    *eventReader
	idle      bool // it did not run at the beginning

	code           int64
	started, ended bool
	removed        bool
}

func (w *waiting) happened(m events.Message) error {
	if m.Type != events.ContainerEventType || m.Actor.ID != w.id {
		return nil
	}
	switch m.Action {
	case events.ActionStart:
		w.started = true
	case events.ActionDie:
		w.ended, w.started = true, false
		n, err := strconv.ParseInt(m.Actor.Attributes["exitCode"], 10, 64)
		if err == nil {
			w.code = n
		}
	case events.ActionDestroy:
		w.removed = true
	}
	return nil
}

func (w *waiting) wait(ctx context.Context) (container.WaitResponse, error) {
	defer w.events.close()
	var err error
	switch w.condition {
	case "", container.WaitConditionNotRunning:
		if !w.idle {
			w.code, err = w.e.waitShim(ctx, w.id)
		}
	default:
		err = w.follow(ctx)
	}
	return container.WaitResponse{StatusCode: w.code}, err
}

// follow waits by the events. Of a shim that was killed there are none.
func (w *waiting) follow(ctx context.Context) error {
	const most = 2 * time.Second
	for {
		// Both before the last look at the events.
		lost := w.started && !shim.Alive(w.e.runDir(w.id))
		gone := !exists(w.e.dir(w.id))
		if err := w.events.catchUp(); err != nil {
			return err
		}
		if lost && !w.ended {
			w.ended, w.code = true, 137
		}
		switch {
		case gone || w.removed:
			return nil
		case w.ended && w.condition == container.WaitConditionNextExit:
			return w.e.untilDone(ctx, w.id)
		}
		if err := w.events.watch.wait(ctx, most); err != nil {
			return err
		}
	}
}

// untilDone waits, after a container's end, until its shim has done what else there is to do, so
// that the container can be started or removed; not if it is started again, by the shim.
func (e *Engine) untilDone(ctx context.Context, id string) error {
	state, err := e.state(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case state.Status == "restarting" || state.Status == "running":
		return nil
	}
	return e.untilGone(ctx, id)
}

// waitShim waits for the end that a shim tells of.
func (e *Engine) waitShim(ctx context.Context, id string) (int64, error) {
	conn, _, err := e.ask(id, shim.Request{Do: "wait"})
	if err == nil {
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		var reply shim.Reply
		if _, err := conn.Receive(&reply); err == nil && reply.Is == shim.Ended {
			return int64(reply.Status), e.untilDone(ctx, id)
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err := e.untilGone(ctx, id); err != nil {
		return 0, err
	}
	state, err := e.state(id)
	if err != nil {
		return 0, err
	}
	return int64(state.ExitCode), nil
}
