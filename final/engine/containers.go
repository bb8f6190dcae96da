//go:build linux

package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"minidocker/final/oci"
	"minidocker/final/shim"
)

// containerEvent notes an event of a container's.
func (e *Engine) containerEvent(r *record, action string, attributes map[string]string) {
	c := &shim.Config{ID: r.ID, Name: r.Name, Image: r.Config.Image, Labels: r.Config.Labels}
	shim.Happened(e.eventsPath(), shim.ContainerEvent(c, action, attributes))
}

// runningContainer is a running container, by what a user calls it.
func (e *Engine) runningContainer(ref string) (*record, *shim.State, error) {
	r, state, err := e.get(ref)
	if err != nil {
		return nil, nil, err
	}
	if state.Status != "running" {
		return nil, nil, failed(Conflict, "container %s is not running", r.ID)
	}
	return r, state, nil
}

// Kill sends a signal to a container's first process; "": SIGKILL.
// SIGKILL is waited for.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	sig := unix.SIGKILL
	if signal != "" {
		var err error
		if sig, err = parseSignal(signal); err != nil {
			return err
		}
	}
	r, _, err := e.runningContainer(ref)
	if Code(err) == Conflict {
		return failed(Conflict, "cannot kill container: %s: %w", ref, err)
	}
	if err != nil {
		return err
	}
	stop := unix.SIGTERM
	if r.Config.StopSignal != "" {
		if stop, err = parseSignal(r.Config.StopSignal); err != nil {
			return err
		}
	}
	if sig == unix.SIGKILL || sig == stop {
		if err := e.wanted(r.ID); err != nil {
			return err
		}
	}
	var ended <-chan error
	if sig == unix.SIGKILL {
		ended = e.watch(ctx, r.ID)
	}
	if err := e.runtime().Kill(r.ID, sig, false); err != nil {
		return failed(Conflict, "cannot kill container: %s: %w", ref, err)
	}
	e.containerEvent(r, "kill", map[string]string{"signal": itoa(int(sig))})
	if ended == nil {
		return nil
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		return failed(Internal, "container %s does not end, not even by SIGKILL", r.ID)
	}
}

// wanted tells the shim that somebody wants the container to end, so that it is not started again.
func (e *Engine) wanted(id string) error {
	for {
		conn, _, err := e.ask(id, shim.Request{Do: "stopped"})
		if err == nil {
			return conn.Close()
		}
		if Code(err) != Conflict {
			return err
		}
		again, err := e.wantedBetween(id)
		if err != nil || !again {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// wantedBetween does the same where no shim listens: the container has ended, or it is between
// one shim and the next, which starts it again. again is whether that one runs now.
func (e *Engine) wantedBetween(id string) (again bool, err error) {
	l, err := e.lock(id) // which waits until whoever starts it is done
	if Code(err) == NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer l.unlock()
	state, err := shim.ReadState(l.dir())
	if err != nil || !shim.Alive(l.runDir()) {
		return false, nil //nolint:nilerr // it has never run
	}
	if state.Status == "restarting" {
		state.Stopped = true
		return false, state.Write(l.dir())
	}
	return state.Status == "running", nil
}

// Stop ends a container: by its signal, and if it has not ended after the time, in seconds, by
// SIGKILL. It is NotModified if the container does not run.
func (e *Engine) Stop(ctx context.Context, ref, signal string, timeout *int) error {
	r, state, err := e.get(ref)
	if err != nil {
		return err
	}
	if state.Status != "running" && state.Status != "restarting" {
		return failed(NotModified, "container %s is not running", r.ID)
	}
	if err := e.stop(ctx, r, signal, timeout); err != nil {
		return err
	}
	e.containerEvent(r, "stop", nil)
	return nil
}

func (e *Engine) stop(ctx context.Context, r *record, signal string, timeout *int) error {
	if signal == "" {
		signal = r.Config.StopSignal
	}
	if signal == "" {
		signal = "SIGTERM"
	}
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
	seconds := 10
	if r.Config.StopTimeout != nil {
		seconds = *r.Config.StopTimeout
	}
	if timeout != nil {
		seconds = *timeout
	}
	if err := e.wanted(r.ID); err != nil {
		return err
	}
	ended := e.watch(ctx, r.ID)
	runtime := e.runtime()
	// A paused process acts on no signal.
	if e.paused(r.ID) {
		_ = runtime.Pause(r.ID, false) // or somebody else has let it go on
	}
	if err := ignoreEnded(runtime.Kill(r.ID, sig, false)); err != nil {
		return err
	}
	var limit <-chan time.Time
	if seconds >= 0 {
		limit = time.After(time.Duration(seconds) * time.Second)
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit:
	}
	if err := ignoreEnded(runtime.Kill(r.ID, unix.SIGKILL, false)); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		return failed(Internal, "container %s does not end, not even by SIGKILL", r.ID)
	}
}

// ignoreEnded takes it for done if there is nothing to send a signal to any more.
func ignoreEnded(err error) error {
	// Its shim may be deleting it at this moment.
	if err != nil && (errors.Is(err, oci.ErrNotExist) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, fs.ErrNotExist) ||
		strings.Contains(err.Error(), "not running")) {
		return nil
	}
	return err
}

// watch tells when a container's shim is gone, which is when all is over.
func (e *Engine) watch(ctx context.Context, id string) <-chan error {
	ended := make(chan error, 1)
	conn, _, err := e.ask(id, shim.Request{Do: "wait"})
	go func() {
		if err == nil {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			for {
				var reply shim.Reply
				if _, err := conn.Receive(&reply); err != nil {
					break
				}
			}
		}
		ended <- e.untilGone(ctx, id)
	}()
	return ended
}

// untilGone waits until no shim has a container.
func (e *Engine) untilGone(ctx context.Context, id string) error {
	for wait := time.Millisecond; shim.Alive(e.runDir(id)); wait = min(2*wait, 50*time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}

// Restart stops a container, if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, ref, signal string, timeout *int) error {
	r, state, err := e.get(ref)
	if err != nil {
		return err
	}
	if r.HostConfig.AutoRemove { // which its end is not to be this time
		if err := e.setAutoRemove(r.ID, false, nil); err != nil {
			return err
		}
	}
	if state.Status == "running" || state.Status == "restarting" {
		err = e.stop(ctx, r, signal, timeout)
	}
	start := func(l *locked) error {
		_, err := e.startStopped(l, nil)
		return err
	}
	switch {
	case r.HostConfig.AutoRemove && err != nil:
		return errors.Join(err, e.setAutoRemove(r.ID, true, nil))
	case err != nil:
		return err
	case r.HostConfig.AutoRemove:
		err = e.setAutoRemove(r.ID, true, start)
	default:
		_, err = e.Start(ctx, r.ID, nil)
	}
	if err != nil && Code(err) != NotModified {
		return err
	}
	e.containerEvent(r, "restart", nil)
	return nil
}

// setAutoRemove changes whether a container is removed at its end, and calls then, if it is there,
// before anybody else may see to a container that has ended.
func (e *Engine) setAutoRemove(id string, remove bool, then func(*locked) error) error {
	l, err := e.lock(id) // which does what is left to do at its last end
	if err != nil {
		return err
	}
	defer l.unlock()
	l.HostConfig.AutoRemove = remove
	if err := e.write(l.record); err != nil || then == nil {
		return err
	}
	return then(l)
}

// Pause stops all processes of a container for a while.
func (e *Engine) Pause(_ context.Context, ref string) error {
	return e.freeze(ref, true, "pause")
}

// Unpause lets them go on.
func (e *Engine) Unpause(_ context.Context, ref string) error {
	return e.freeze(ref, false, "unpause")
}

func (e *Engine) freeze(ref string, pause bool, action string) error {
	r, _, err := e.runningContainer(ref)
	if err != nil {
		return err
	}
	if was := e.paused(r.ID); was && pause {
		return failed(Conflict, "container %s is already paused", r.ID)
	} else if !was && !pause {
		return failed(Conflict, "container %s is not paused", r.ID)
	}
	if err := e.runtime().Pause(r.ID, pause); err != nil {
		return err
	}
	e.containerEvent(r, action, nil)
	return nil
}

// RemoveOptions say how a container is removed.
type RemoveOptions struct {
	Force   bool // also if it runs
	Volumes bool // with the volumes that nobody has named
}

// Remove removes a container.
func (e *Engine) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	for ended := false; ; ended = true {
		l, err := e.lock(ref)
		if ended && Code(err) == NotFound {
			return nil // it was to be removed at its end, and is
		}
		if err != nil {
			return err
		}
		state, err := e.state(l.ID)
		if err == nil && (state.Status == "running" || state.Status == "restarting") {
			l.unlock()
			if !o.Force {
				what := "stop the container before attempting removal or force remove"
				if e.paused(l.ID) {
					what = "unpause and then " + what
				}
				return failed(Conflict, "cannot remove container %q: container is %s: %s", "/"+l.Name,
					state.Status, what)
			}
			none := 0
			if err := e.stop(ctx, l.record, "SIGKILL", &none); err != nil {
				return err
			}
			continue
		}
		if err == nil && shim.Alive(l.runDir()) { // it is at its end
			l.unlock()
			if err := e.untilGone(ctx, l.ID); err != nil {
				return err
			}
			continue
		}
		defer l.unlock()
		if err != nil && !o.Force {
			return err
		}
		return e.remove(l, o.Volumes)
	}
}

// remove removes a container that does not run, and is locked.
func (e *Engine) remove(l *locked, volumes bool) error {
	if err := e.ended(l); err != nil {
		return err
	}
	if err := e.layers.Remove(l.ID); err != nil {
		return err
	}
	e.release(l.Name, l.ID)
	// Without its record it is no container any more, whatever happens then.
	if err := os.Remove(filepath.Join(l.dir(), "container.json")); err != nil {
		return err
	}
	var all error
	if volumes {
		for _, m := range l.Mounts {
			if m.Type != mount.TypeVolume || !m.Anonymous {
				continue
			}
			if err := e.deleteVolume(m.Name); err != nil && Code(err) != Conflict &&
				!errors.Is(err, fs.ErrNotExist) {
				all = errors.Join(all, err)
			}
		}
	}
	all = errors.Join(all, os.RemoveAll(l.dir()))
	if all == nil {
		e.containerEvent(l.record, string(events.ActionDestroy), nil)
	}
	return all
}

// Rename gives a container another name.
func (e *Engine) Rename(_ context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if err := validName(name); err != nil {
		return err
	}
	l, err := e.lock(ref)
	if err != nil {
		return err
	}
	defer l.unlock()
	if l.Name == name {
		return failed(Invalid, "Renaming a container with the same name as its current name")
	}
	if err := e.take(name, l.ID); err != nil {
		return err
	}
	old := l.Name
	l.Name = name
	if err := e.write(l.record); err != nil {
		l.Name = old
		e.release(name, l.ID)
		return err
	}
	e.release(old, l.ID)
	if err := e.tellName(l); err != nil {
		return err
	}
	e.containerEvent(l.record, "rename", map[string]string{"oldName": "/" + old})
	return nil
}

// tellName tells the neighbours and the shim of a running container its new name.
func (e *Engine) tellName(l *locked) error {
	if !shim.Alive(l.runDir()) {
		return nil
	}
	if err := e.networks.Rename(l.ID, l.Name); err != nil {
		return err
	}
	conn, _, err := e.ask(l.ID, shim.Request{Do: "rename", Name: l.Name})
	if Code(err) == Conflict { // it has ended meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// Update changes a container's limits, of which those that are zero stay as they are, and when it
// is started again.
func (e *Engine) Update(
	_ context.Context, ref string, u container.UpdateConfig,
) (container.UpdateResponse, error) {
	response := container.UpdateResponse{Warnings: []string{}}
	l, err := e.lock(ref)
	if err != nil {
		return response, err
	}
	defer l.unlock()
	host := *l.HostConfig
	mergeResources(&host.Resources, &u.Resources)
	if err := validateResources(&host.Resources); err != nil {
		return response, err
	}
	if u.RestartPolicy.Name != "" {
		if err := container.ValidateRestartPolicy(u.RestartPolicy); err != nil {
			return response, &Error{Invalid, err}
		}
		if host.AutoRemove && !u.RestartPolicy.IsNone() {
			return response, failed(Conflict, "Restart policy cannot be updated because AutoRemove is "+
				"enabled for the container")
		}
		host.RestartPolicy = u.RestartPolicy
	}
	if shim.Alive(l.runDir()) {
		if err := e.updateRunning(l, &host, u); err != nil {
			return response, err
		}
	}
	l.HostConfig = &host
	if err := e.write(l.record); err != nil {
		return response, err
	}
	e.containerEvent(l.record, "update", nil)
	return response, nil
}

// records are those of all containers, in no order.
func (e *Engine) records() ([]*record, error) {
	entries, err := os.ReadDir(filepath.Join(e.o.Root, "containers"))
	if err != nil {
		return nil, err
	}
	var all []*record
	for _, entry := range entries {
		r, err := e.read(entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			e.clear(entry.Name())
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// clear removes the folder of a container that was never finished, if nobody is at it.
func (e *Engine) clear(id string) {
	fd, err := unix.Open(e.dir(id), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || exists(e.dir(id)+"/container.json") {
		return
	}
	if e.layers.Exists(id) && e.layers.Remove(id) != nil {
		return
	}
	names, err := os.ReadDir(filepath.Join(e.o.Root, "names"))
	if err != nil {
		return
	}
	for _, name := range names { // it may have taken one already
		e.release(name.Name(), id)
	}
	os.RemoveAll(e.dir(id))
}
