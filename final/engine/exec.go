//go:build linux

package engine

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"minidocker/final/shim"
)

// Exec runs one more process in a running container. Without streams it is detached: the
// attachment tells of its end all the same. An error is a StartError if it is the process's.
func (e *Engine) Exec(
	ctx context.Context, ref string, x *container.ExecCreateRequest, s *Streams,
) (*Attachment, error) {
	id := newID()
	if err := e.PrepareExec(id, ref, x); err != nil {
		return nil, err
	}
	return e.ExecAs(ctx, id, ref, x, s)
}

// ExecAs is Exec with an ID for the process, 64 hexadecimal digits, which inspect and events show.
func (e *Engine) ExecAs(
	_ context.Context, id, ref string, x *container.ExecCreateRequest, s *Streams,
) (*Attachment, error) {
	r, state, err := e.runningContainer(ref)
	if err != nil {
		return nil, err
	}
	if len(x.Cmd) == 0 || x.Cmd[0] == "" {
		return nil, failed(Invalid, "no exec command specified")
	}
	if e.paused(r.ID) {
		return nil, failed(Conflict, "container %s is paused, unpause the container before exec", r.ID)
	}
	process, err := e.execProcess(r, state, x)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = &Streams{}
	}
	a, err := newExecAttachment(e, r, s, x.Tty)
	if err != nil {
		return nil, err
	}
	defer a.closeFar()
	var answer *answer
	// Before it runs, or its end may be told first.
	e.containerEvent(r, "exec_start: "+strings.Join(x.Cmd, " "), map[string]string{"execID": id})
	request := shim.Request{Do: "exec", Exec: id, Process: process, Attach: a.attach}
	if a.conn, answer, err = e.ask(r.ID, request, a.far...); err != nil {
		a.close()
		return nil, err
	}
	a.pid = answer.Pid
	if len(answer.files) > 0 {
		if a.master, err = pollable(answer.files[0]); err != nil {
			a.close()
			return nil, err
		}
	}
	a.begin()
	return a, nil
}

// PrepareExec says whether such a process can be had in a running container, before it is started
// with ExecAs: its user is looked up.
func (e *Engine) PrepareExec(id, ref string, x *container.ExecCreateRequest) error {
	r, state, err := e.runningContainer(ref)
	if err != nil {
		return err
	}
	if _, err = e.execProcess(r, state, x); err == nil {
		e.containerEvent(r, "exec_create: "+strings.Join(x.Cmd, " "), map[string]string{"execID": id})
	}
	return err
}

// newExecAttachment makes the pipes; with a terminal there are none.
func newExecAttachment(e *Engine, r *record, s *Streams, tty bool) (*Attachment, error) {
	pipes := *s
	if tty {
		pipes = Streams{}
	}
	a, err := newAttachment(e, r, &pipes)
	if err != nil {
		return nil, err
	}
	a.s, a.exec = s, true
	if tty {
		s.Err = nil
	}
	return a, nil
}

// pollable makes a terminal's master one of which reads hold up no thread.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	return dupNonblock(f)
}

// execProcess is the process that an exec asks for: what it does not say is as the container's
// first process has it.
func (e *Engine) execProcess(
	r *record, state *shim.State, x *container.ExecCreateRequest,
) (*specs.Process, error) {
	var user *specs.User
	name := x.User
	if name == "" {
		name = r.Config.User
	}
	err := e.withRoot(state.Pid, func(root *os.File) error {
		var err error
		user, err = lookUp(root, name, r.HostConfig.GroupAdd)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.runtime().Process(r.ID, func(p *specs.Process) error {
		p.Args, p.Terminal, p.User = x.Cmd, x.Tty, *user
		p.Env = mergeEnv(environment(r.Config), x.Env)
		if x.Tty && !slices.Contains(p.Env, "TERM=xterm") {
			p.Env = mergeEnv([]string{"TERM=xterm"}, p.Env)
		}
		if x.WorkingDir != "" {
			p.Cwd = x.WorkingDir
		}
		if x.ConsoleSize != nil {
			p.ConsoleSize = &specs.Box{Height: x.ConsoleSize[0], Width: x.ConsoleSize[1]}
		}
		caps, err := capabilitiesOf(r.HostConfig)
		if err != nil {
			return err
		}
		if x.Privileged {
			caps = allCapabilities()
		}
		p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
		if p.User.UID != 0 && !x.Privileged {
			p.Capabilities.Permitted, p.Capabilities.Effective = nil, nil
		}
		return nil
	})
}

// withRoot calls f with the root folder of a running process.
func (e *Engine) withRoot(pid int, f func(root *os.File) error) error {
	root, err := os.OpenFile("/proc/"+itoa(pid)+"/root", os.O_RDONLY|oPath, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	return f(root)
}
