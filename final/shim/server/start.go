//go:build linux

// Package server is a container's shim: see package shim for what it is to others. It has two
// lives, of one process. The first makes the container: that takes memory, of which Go gives
// little back. So when the container runs, the process executes its program once more, as one
// that watches, with the descriptors that it needs: children stay.
//
// One that ends at once is not worth that.
//
//	Main:  Start ─> create the container, Prepare by the engine ─> run it ─> Started ─┐
//	Watch: streams, log, requests, health checks ─> wait ─> State, Ended, delete <─ execve
package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"minidocker/final/oci"
	"minidocker/final/shim"
)

// WatchArg is the word by which the program is executed again.
const WatchArg = "shim-watch"

// watched is what the second life is told: the configuration, and descriptors, -1 for none.
type watched struct {
	Config  shim.Config
	State   shim.State
	Control int // connection to whoever has started it
	Lock    int
	Listen  int // of the socket, bound
	Stdin   int // to the container
	Stdout  int // from the container; with a terminal it is its master, both ways
	Stderr  int
	Attach  [3]int // of the one who has started it
	DNS     [2]int // the resolver's sockets, UDP and TCP
	Holds   bool   // there is somebody to say Ended to
}

// descriptors are all of them.
func (w *watched) descriptors() []int {
	all := []int{w.Control, w.Lock, w.Listen, w.Stdin, w.Stdout, w.Stderr}
	return slices.Concat(all, w.Attach[:], w.DNS[:])
}

// first is the first life.
type first struct {
	w       watched
	conn    *shim.Conn
	start   shim.Start
	root    *os.File
	trees   map[string]*os.File
	far     []*os.File // the container's ends of its streams, closed when it has them
	console *os.File
}

// Main is the first life: descriptor 3 is the connection to the engine. It returns the exit
// status.
func Main() int {
	unignore()
	// Whoever loses its parent in the container is this process's to wait for.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		return 1
	}
	conn, err := shim.FromFD(3)
	if err != nil {
		fmt.Fprintln(os.Stderr, "minirunc: a shim is started by minidocker, not by hand:", err)
		return 1
	}
	f := &first{conn: conn}
	if err = f.run(); err == nil {
		return 0
	}
	status := 125
	if failed := (*startError)(nil); errors.As(err, &failed) {
		status = failed.status
	}
	f.w.State.Status, f.w.State.ExitCode, f.w.State.Error = "created", status, err.Error()
	if f.w.Config.Dir != "" {
		_ = f.w.State.Write(f.w.Config.Dir) // what matters is told:
	}
	_ = conn.Send(shim.Reply{Is: shim.Failed, Error: err.Error(), Status: status})
	return 1
}

// startError is a failure with an exit status of its own: there is no such program, or it is none.
type startError struct {
	error
	status int
}

func (e *startError) Unwrap() error { return e.error }

// run returns if it fails, or if the container has ended already.
func (f *first) run() error {
	files, err := f.conn.Receive(&f.start)
	if err != nil {
		return fmt.Errorf("receive what to start: %w", err)
	}
	w := &f.w
	*w = watched{Config: f.start.Config, Control: -1, Lock: -1, Listen: -1, Stdin: -1,
		Stdout: -1, Stderr: -1, Attach: [3]int{-1, -1, -1}, DNS: [2]int{-1, -1}}
	if err := f.sort(files); err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) {
		return os.NewSyscallError("setsid", err)
	}
	if w.Listen, err = listen(w.Config.Run); err != nil {
		return err
	}
	stdio, err := f.streams()
	if err != nil {
		return err
	}
	runtime := &oci.Runtime{Root: w.Config.Runtime, Rootless: w.Config.Rootless != "",
		Warn: func(string, ...any) {}}
	// What a shim that was killed has left.
	if err := runtime.Delete(w.Config.ID, true); err != nil {
		return err
	}
	c, err := runtime.Create(w.Config.ID, oci.Options{
		Bundle: w.Config.Run, Config: f.start.Bundle, Stdio: stdio, Console: f.console, Root: f.root,
		Trees: f.trees, Run: true, Prepare: f.prepare,
	})
	if err != nil {
		return asStartError(err)
	}
	w.State = shim.State{Status: "running", Pid: c.Pid, StartedAt: time.Now().UTC(),
		RestartCount: w.Config.Retries}
	if w.Config.Health != nil {
		w.State.Health = &shim.Health{Status: "starting"}
	}
	c.Close()
	if err := f.runs(); err != nil {
		return errors.Join(err, runtime.Delete(w.Config.ID, true))
	}
	return nil
}

// sort names the descriptors that came beside the start.
func (f *first) sort(files []*os.File) error {
	want := 1 + len(f.start.Trees) + f.start.Attach.Count()
	if f.start.Root {
		want++
	}
	if len(files) != want {
		return fmt.Errorf("%d descriptors came with the start, not %d", len(files), want)
	}
	f.w.Lock, files = int(files[0].Fd()), files[1:]
	if f.start.Root {
		f.root, files = files[0], files[1:]
	}
	f.trees = map[string]*os.File{}
	for _, destination := range f.start.Trees {
		f.trees[destination], files = files[0], files[1:]
	}
	in, out, errs, err := f.start.Attach.Streams(files)
	if err != nil {
		return err
	}
	for i, s := range []*os.File{in, out, errs} {
		if s != nil {
			f.w.Attach[i] = int(s.Fd())
		}
	}
	f.w.Holds = f.start.Attach != nil
	return nil
}

// asStartError gives an error of the container's first program its exit status, as Docker does.
func asStartError(err error) error {
	if status := oci.ProgramStatus(err); status != 0 {
		return &startError{err, status}
	}
	return err
}

// listen binds the shim's socket; a connection waits until the second life accepts it.
func listen(run string) (int, error) {
	dir, err := unix.Open(run, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: run, Err: err}
	}
	defer unix.Close(dir)
	if err := unix.Unlinkat(dir, shim.Socket, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return -1, &os.PathError{Op: "unlink", Path: run + "/" + shim.Socket, Err: err}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir, shim.Socket)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return -1, &os.PathError{Op: "bind", Path: run + "/" + shim.Socket, Err: err}
	}
	return fd, os.NewSyscallError("listen", unix.Listen(fd, 64))
}

// streams makes the container's streams and returns its own ends; with a terminal init makes
// that, and sends it.
func (f *first) streams() ([]*os.File, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if f.w.Config.Terminal {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("socketpair", err)
		}
		f.w.Stdout, f.console = fds[0], os.NewFile(uintptr(fds[1]), "console")
		f.far = []*os.File{null}
		return []*os.File{null, null, null}, nil
	}
	in := null
	if f.w.Config.OpenStdin {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return nil, os.NewSyscallError("pipe2", err)
		}
		in, f.w.Stdin = os.NewFile(uintptr(p[0]), "stdin"), p[1]
	}
	var out, errs [2]int
	if err := errors.Join(unix.Pipe2(out[:], unix.O_CLOEXEC),
		unix.Pipe2(errs[:], unix.O_CLOEXEC)); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	f.w.Stdout, f.w.Stderr = out[0], errs[0]
	f.far = []*os.File{null, in, os.NewFile(uintptr(out[1]), "stdout"),
		os.NewFile(uintptr(errs[1]), "stderr")}
	return f.far[1:], nil
}

// prepare lets the engine do its part, the network, while init does its own.
func (f *first) prepare(pid int) error {
	if err := f.conn.Send(shim.Reply{Is: shim.Prepare, Pid: pid}); err != nil {
		return fmt.Errorf("tell the engine: %w", err)
	}
	var answer shim.Reply
	if _, err := f.conn.Receive(&answer); err != nil {
		return fmt.Errorf("the engine is gone: %w", err)
	}
	if answer.Is != shim.Go {
		return errors.New(answer.Error)
	}
	return f.openDNS(pid)
}

// runs is the end of the first life: all is well.
func (f *first) runs() error {
	w := &f.w
	for _, far := range f.far {
		far.Close()
	}
	if f.w.Config.Terminal {
		master, err := receiveMaster(w.Stdout)
		if err != nil {
			return err
		}
		w.Stdout = master
		size := &unix.Winsize{Row: w.Config.Rows, Col: w.Config.Columns}
		if size.Row > 0 || size.Col > 0 {
			_ = unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, size) // a size is a convenience
		}
	}
	if err := w.State.Write(w.Config.Dir); err != nil {
		return err
	}
	// If nobody is there any more, it runs all the same.
	_ = f.conn.Send(shim.Reply{Is: shim.Started, Pid: w.State.Pid})
	control, err := f.conn.File()
	if err != nil {
		return err
	}
	w.Control = int(control.Fd())
	if soonOver(w.State.Pid) {
		s, err := newServer(w)
		if err == nil {
			s.serve()
		}
		return err
	}
	return execWatch(w)
}

// soon is how long a container may take to be one that is not worth a second life: too short for
// anybody to notice that its first words wait.
const soon = 20 * time.Millisecond

// soonOver says whether a process ends within that time.
func soonOver(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	for end := time.Now().Add(soon); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}},
			int(left.Milliseconds())+1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// receiveMaster gets the terminal that init has made.
func receiveMaster(socket int) (int, error) {
	defer unix.Close(socket)
	data, rights := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("receive the terminal: it has not come")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("receive the terminal: it has not come")
	}
	return fds[0], nil
}

// execWatch begins the second life. It returns only if it fails.
func execWatch(w *watched) error {
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	told, err := unix.MemfdCreate("watched", 0)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	if _, err := unix.Pwrite(told, data, 0); err != nil {
		return os.NewSyscallError("pwrite", err)
	}
	for _, fd := range w.descriptors() {
		if fd >= 0 {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
				return os.NewSyscallError("fcntl F_SETFD", err)
			}
		}
	}
	// By the descriptor: the file that it runs from may be known by no name.
	self, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/self/exe", Err: err}
	}
	args := []string{os.Args[0], WatchArg, strconv.Itoa(told)}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	environment := append(os.Environ(), "GODEBUG=madvdontneed=1", "GOMAXPROCS=1")
	envv, err := syscall.SlicePtrFromStrings(environment)
	if err != nil {
		return err
	}
	empty := []byte{0}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(self),
		uintptr(unsafe.Pointer(&empty[0])), uintptr(unsafe.Pointer(&argv[0])),
		uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return os.NewSyscallError("execveat", errno)
}
