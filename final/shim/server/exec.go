//go:build linux

package server

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"minidocker/final/oci"
	"minidocker/final/shim"
)

// execution is a process beside the first.
type execution struct {
	id     string
	status chan int
}

func dup(f *os.File) (int, error) {
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
}

// pidOf is si_pid of a SIGCHLD's siginfo: see sigaction(2).
func pidOf(info *unix.Siginfo) int {
	return int(*(*int32)(siPid(info)))
}

func (s *server) isExec(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.execs[pid] != nil
}

// reapExecs waits for those that have ended.
func (s *server) reapExecs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, e := range s.execs {
		if ws, ended := reap(pid); ended {
			e.status <- exitStatus(ws)
			delete(s.execs, pid)
		}
	}
}

// start starts a process in the container. Its children are waited for by await.
func (s *server) start(id string, o oci.ExecOptions) (int, *execution, error) {
	s.oci.Lock()
	defer func() {
		s.oci.Unlock()
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}()
	pid, err := s.runtime.Exec(s.Config.ID, o)
	if err != nil {
		return 0, nil, err
	}
	e := &execution{id: id, status: make(chan int, 1)}
	s.mu.Lock()
	s.execs[pid] = e
	s.State.Execs = append(slices.Clone(s.State.Execs), id)
	s.mu.Unlock()
	return pid, e, nil
}

// ended notes that a process has ended.
func (s *server) ended(e *execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.State.Execs = slices.DeleteFunc(slices.Clone(s.State.Execs),
		func(id string) bool { return id == e.id })
}

// exec runs a process for a client. Without a terminal it has the client's own pipes; with one
// the client gets the master.
func (s *server) exec(c *shim.Conn, r *shim.Request, files []*os.File) {
	o, master, err := s.execOptions(r, files)
	defer closeAll(files)
	if err != nil {
		reply(c, err)
		return
	}
	if !s.join() {
		reply(c, errors.New("the container has ended"))
		return
	}
	defer s.clients.Done()
	pid, e, err := s.start(r.Exec, *o)
	closeAll(files) // so that the client sees the end
	var terminal []*os.File
	if master >= 0 {
		if err == nil {
			var fd int
			if fd, err = receiveMaster(master); err == nil {
				terminal = []*os.File{os.NewFile(uintptr(fd), "terminal")}
			}
		} else {
			unix.Close(master)
		}
	}
	if err != nil {
		status := oci.ProgramStatus(err)
		if status == 0 {
			status = 126
		}
		_ = c.Send(shim.Reply{Is: shim.Failed, Error: err.Error(), Status: status})
		return
	}
	s.writeState()
	_ = c.Send(shim.Reply{Is: shim.Done, Pid: pid}, terminal...)
	closeAll(terminal)
	s.awaitExec(c, r, pid, e)
}

// awaitExec tells the client of the end, and the events.
func (s *server) awaitExec(c *shim.Conn, r *shim.Request, pid int, e *execution) {
	status := 137
	select {
	case status = <-e.status:
	case <-s.over: // the container's end is the end of all
		if ws, ended := reap(pid); ended && ws.Exited() {
			status = ws.ExitStatus()
		}
	}
	s.ended(e)
	_ = c.Send(shim.Reply{Is: shim.Ended, Status: status})
	s.event("exec_die", map[string]string{"execID": r.Exec, "exitCode": fmt.Sprint(status)})
	select {
	case <-s.over:
	default:
		s.writeState()
	}
}

// execOptions are those of package oci, and the socket that the terminal comes through, or -1.
func (s *server) execOptions(r *shim.Request, files []*os.File) (*oci.ExecOptions, int, error) {
	if r.Process == nil {
		return nil, -1, errors.New("exec: there is no process")
	}
	o := &oci.ExecOptions{Process: r.Process}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, -1, err
	}
	if r.Process.Terminal {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, -1, os.NewSyscallError("socketpair", err)
		}
		o.Console = os.NewFile(uintptr(fds[1]), "console")
		null.Close()
		return o, fds[0], nil
	}
	o.Stdio = []*os.File{null, null, null}
	if r.Attach != nil {
		in, out, errs, err := r.Attach.Streams(files)
		if err != nil {
			return nil, -1, err
		}
		for i, f := range []*os.File{in, out, errs} {
			if f != nil {
				o.Stdio[i] = f
			}
		}
	}
	return o, -1, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
