//go:build linux

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/oci"
	"minidocker/final/shim"
)

// server is the second life.
type server struct {
	*watched
	runtime *oci.Runtime
	lock    *os.File
	control *shim.Conn // nil when whoever has started it is gone
	log     *logFile
	streams *streams

	// oci is held while package oci waits for children of its own.
	oci  sync.Mutex
	kick chan struct{} // a child may be waited for now

	mu    sync.Mutex
	execs map[int]*execution
	told  bool // the end has been told: too late to wait for it
	again bool // it is to be started again
	// over is closed when the container has ended; result is set by then. gone is closed when
	// nothing can be asked of this shim any more.
	over    chan struct{}
	gone    chan struct{}
	result  shim.Reply
	clients sync.WaitGroup // those that are to be told
}

// Watch is the second life: told is the number of the descriptor that says of what. It returns
// the exit status.
func Watch(told string) int {
	debug.SetGCPercent(20) // a small heap, and seldom anything to collect
	w, err := readWatched(told)
	var s *server
	if err == nil {
		s, err = newServer(w)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		return 1
	}
	s.serve()
	return 0
}

// readWatched reads what execWatch has written.
func readWatched(told string) (*watched, error) {
	fd, err := strconv.Atoi(told)
	if err != nil {
		return nil, errors.New("a shim is started by minidocker, not by hand")
	}
	f := os.NewFile(uintptr(fd), "watched")
	defer f.Close()
	w := &watched{}
	if err := json.NewDecoder(f).Decode(w); err != nil {
		return nil, fmt.Errorf("what to watch: %w", err)
	}
	for _, fd := range w.descriptors() {
		if fd >= 0 {
			unix.CloseOnExec(fd)
		}
	}
	return w, nil
}

func newServer(w *watched) (*server, error) {
	s := &server{
		watched: w, lock: os.NewFile(uintptr(w.Lock), "lock"), execs: map[int]*execution{},
		over: make(chan struct{}), gone: make(chan struct{}), kick: make(chan struct{}, 1),
		runtime: &oci.Runtime{Root: w.Config.Runtime, Rootless: w.Config.Rootless != "",
			Warn: func(string, ...any) {}},
	}
	var err error
	if s.control, err = shim.FromFD(w.Control); err != nil {
		return nil, err
	}
	return s, nil
}

// serve is the whole of the second life.
func (s *server) serve() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	// Caught, and not ignored: what is ignored stays so in the processes that it starts.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGPIPE)
	var err error
	if s.Config.LogDriver != "none" {
		if s.log, err = openLog(s.Config.Dir, s.Config.LogMaxSize, s.Config.LogMaxFiles); err != nil {
			s.warn("log: %v", err)
		}
	}
	s.streams = newStreams(s)
	if err := s.listen(); err != nil {
		s.warn("listen: %v", err)
	}
	s.clients.Add(1)
	go s.answerControl()
	stop := s.background()
	status := s.await(children)
	stop()
	s.finish(status)
}

// warn says what is wrong where somebody may see it: in the container's folder.
func (s *server) warn(format string, args ...any) {
	f, err := os.OpenFile(s.Config.Dir+"/shim.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s "+format+"\n", append([]any{time.Now().Format(time.RFC3339)}, args...)...)
}

// background starts what goes on beside the container, and returns what ends it.
func (s *server) background() (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	if s.Config.Health != nil {
		all.Add(1)
		go func() { defer all.Done(); s.checkHealth(done) }()
	}
	if s.Config.DNS != nil {
		all.Add(1)
		go func() { defer all.Done(); s.resolve(done) }()
	}
	return func() { close(done); all.Wait() }
}

// await waits for the container's first process, and for all others that end before it.
func (s *server) await(children chan os.Signal) int {
	for {
		if ws, ended := reap(s.State.Pid); ended {
			return exitStatus(ws)
		}
		s.reapExecs()
		if s.oci.TryLock() { // those that lost their parent in a pid namespace of others
			s.reapOthers()
			s.oci.Unlock()
		}
		select {
		case <-children:
		case <-s.kick:
		}
	}
}

func reap(pid int) (unix.WaitStatus, bool) {
	var ws unix.WaitStatus
	for {
		got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		return ws, got == pid || err == unix.ECHILD
	}
}

// reapOthers waits for children that nobody else waits for.
func (s *server) reapOthers() {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		pid := pidOf(&info)
		if err != nil || pid == 0 || pid == s.State.Pid || s.isExec(pid) {
			return // the next turn has it
		}
		reap(pid)
	}
}

func exitStatus(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// finish is all that comes after the container's end.
func (s *server) finish(status int) {
	// Processes that live on, without a pid namespace of their own, may hold the streams open.
	flushed := s.streams.flushed(200 * time.Millisecond)
	oom := s.runtime.OOMKilled(s.Config.ID)
	again := s.startAgain(status)
	s.again = again
	s.mu.Lock()
	st := &s.State
	st.Status, st.Pid, st.ExitCode, st.FinishedAt = "exited", 0, status, time.Now().UTC()
	st.OOMKilled, st.Execs = oom, nil
	if again {
		st.Status = "restarting"
	}
	s.result = shim.Reply{Is: shim.Ended, Status: status}
	s.mu.Unlock()
	if !again { // for whoever comes next, if all who know of it are killed now
		s.markEnding()
	}
	if flushed {
		s.tell()
	}
	s.oci.Lock() // for good: no exec begins any more
	if err := s.runtime.Delete(s.Config.ID, true); err != nil {
		s.warn("delete: %v", err)
	}
	if !flushed {
		s.streams.flushed(2 * time.Second)
		s.tell()
	}
	s.streams.close()
	if again {
		s.restart()
		return
	}
	held := s.goodbye()
	_ = os.Remove(s.Config.Run + "/" + shim.Socket)
	s.lock.Close() // from here on the engine may do with it what it likes
	if !held {
		s.engine("ended", nil)
	}
}

// tell writes the state and lets everybody know.
func (s *server) tell() {
	if s.log != nil {
		s.log.close()
	}
	s.writeState()
	attributes := map[string]string{"exitCode": strconv.Itoa(s.State.ExitCode)}
	if s.State.OOMKilled {
		s.event("oom", nil)
	}
	s.event("die", attributes)
	s.mu.Lock()
	s.told = true
	s.mu.Unlock()
	close(s.over)
	if !s.again {
		close(s.gone)
	}
	s.clients.Wait()
}

func (s *server) writeState() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.State.Write(s.Config.Dir); err != nil {
		s.warn("state: %v", err)
	}
}

func (s *server) event(action string, attributes map[string]string) {
	s.mu.Lock()
	m := shim.ContainerEvent(&s.Config, action, attributes)
	s.mu.Unlock()
	shim.Happened(s.Config.Events, m)
}
