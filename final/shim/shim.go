//go:build linux

// Package shim is how the engine and a container's shim speak to each other. A shim is one small
// process for each running container: it has the container's first process as its child, keeps
// the container's streams, its exit status, its health checks and its restarts. The engine, and
// any command, may come and go meanwhile. Package server is the shim itself.
//
//	engine ──socketpair──> shim        Start, once, then what Start asks for
//	anybody ──shim.sock──> shim        Request, one a connection
//
// Messages are packets of JSON (SOCK_SEQPACKET), with descriptors beside them (SCM_RIGHTS).
//
// What others may know of a container without asking its shim is its State, a file that only the
// shim writes while it lives. It lives as long as it holds the lock on the container's run folder.
package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// The names in a container's run folder.
const (
	Socket   = "shim.sock"
	LockFile = "lock" // whoever holds it is the container's shim, see Lock
)

// StateFile is the name in a container's folder.
const StateFile = "state.json"

// State is what a container is at the moment. Only its shim changes it while that lives, and the
// engine, which has the container locked, at other times.
type State struct {
	// Status is a word of Docker's: created, running, restarting, exited or dead. That it is
	// paused is a matter of its control group.
	Status       string    `json:"status"`
	Pid          int       `json:"pid,omitempty"` // of the first process, outside
	ExitCode     int       `json:"exitCode"`
	Error        string    `json:"error,omitempty"`
	OOMKilled    bool      `json:"oomKilled,omitempty"`
	StartedAt    time.Time `json:"startedAt,omitzero"`
	FinishedAt   time.Time `json:"finishedAt,omitzero"`
	RestartCount int       `json:"restartCount,omitempty"`
	// Stopped says that somebody wanted it to end: then it is not started again.
	Stopped bool    `json:"stopped,omitempty"`
	Health  *Health `json:"health,omitempty"`
	// Execs are the processes that run beside the first, by ID.
	Execs []string `json:"execs,omitempty"`
}

// Health is what the health checks have found.
type Health struct {
	Status        string // starting, healthy or unhealthy
	FailingStreak int
	Log           []HealthResult // the last five, the oldest first
}

// HealthResult is the result of one check.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string // the first 4096 bytes
}

// ReadState reads the state in a container's folder.
func ReadState(dir string) (*State, error) {
	data, err := rawfd.ReadFile(filepath.Join(dir, StateFile))
	if err != nil {
		return nil, err
	}
	s := &State{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read %q: %w", filepath.Join(dir, StateFile), err)
	}
	return s, nil
}

// Write replaces the state in a container's folder. It does not wait for the disk: what a crash
// of the machine loses is what ended with the machine.
func (s *State) Write(dir string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, StateFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Config is what a shim needs to know of its container.
type Config struct {
	ID, Name, Image string // Name and Image are for events
	Dir             string // the container's folder, with its State
	Run             string // the container's run folder
	Runtime         string // the root of package oci's Runtime
	Rootless        string // package rootless's Dir, "" outside of an ordinary user's place
	Engine          string // the program that Ended and Restart are said to
	EngineArgs      []string
	Events          string // the file of events
	Labels          map[string]string

	OpenStdin, StdinOnce, Terminal bool
	Rows, Columns                  uint16
	LogDriver                      string // json-file, local or none
	LogMaxSize                     int64  // bytes; 0: no limit
	LogMaxFiles                    int

	Restart     string // no, always, unless-stopped, on-failure
	MaxRetries  int    // of on-failure; 0: no limit
	Retries     int    // so far
	AutoRemove  bool
	Health      *HealthCheck
	StopSignal  int
	StopTimeout time.Duration
	DNS         *DNS
}

// HealthCheck is how a container is looked at.
type HealthCheck struct {
	Args                                          []string
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// DNS is what the resolver at 127.0.0.11 answers from.
type DNS struct {
	Run      string   // the folder of package network, see package names
	Upstream []string // addresses of name servers, for all other questions
}

// Start is the first packet to a new shim. Beside it are descriptors: the lock, the root if
// there is one, the trees, then those of Attach.
type Start struct {
	Config Config
	Bundle []byte // config.json
	Root   bool
	Trees  []string // destinations of bind mounts whose sources come along
	Attach *Attach
}

// Attach says which descriptors are beside a request: pipes, of which the shim has the far ends.
type Attach struct{ Stdin, Stdout, Stderr bool }

// Count is how many descriptors there are.
func (a *Attach) Count() int {
	if a == nil {
		return 0
	}
	n := 0
	for _, has := range []bool{a.Stdin, a.Stdout, a.Stderr} {
		if has {
			n++
		}
	}
	return n
}

// Request is what a client wants of a shim.
type Request struct {
	// Do is attach, exec, resize, wait, stopped, rename, policy or dns.
	Do     string
	Attach *Attach
	// Of exec: the process, and the ID that it has from the caller. Keep says that it goes on
	// when the caller is gone.
	Process *specs.Process
	Exec    string
	Keep    bool
	// Of resize; Exec says of what, "" for the container.
	Rows, Columns uint16
	Name          string // of rename
	// Of policy: when to start it again.
	Restart    string
	MaxRetries int
	DNS        *DNS // of dns: the container is in a network of the user's from now on
}

// Reply is what a shim says: prepare and started or failed after Start; done or failed after a
// request; and ended, once, after start, attach, exec or wait.
type Reply struct {
	Is     string
	Pid    int
	Error  string
	Status int // exit status; of failed: 125, 126 or 127
}

// The kinds of replies, and Go, the engine's answer to Prepare.
const (
	Prepare = "prepare" // the namespaces are there: Pid's
	Go      = "go"
	Started = "started"
	Failed  = "failed"
	Done    = "done"
	Ended   = "ended"
)

// maxPacket is longer than any message: a configuration has a seccomp profile in it. The socket's
// buffer must hold a packet as a whole.
const maxPacket = 4 << 20

// Conn is a connection that carries packets of JSON.
type Conn struct{ c *net.UnixConn }

// Pair makes the two ends of a connection; the second is for a process that is yet to start.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "shim")
	c, err := FromFD(fds[0])
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c, theirs, nil
}

// FromFD makes a connection of a descriptor, which is closed.
func FromFD(fd int) (*Conn, error) {
	// As root above the system's limit.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, maxPacket) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, maxPacket) // as much as may be
	}
	f := os.NewFile(uintptr(fd), "shim")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close() // of a mistake, whatever it is
		return nil, errors.New("the descriptor is no unix socket")
	}
	return &Conn{u}, nil
}

// ErrNoShim says that the container has no shim: it does not run.
var ErrNoShim = errors.New("the container is not running")

// Dial connects to a container's shim.
func Dial(run string) (*Conn, error) {
	dir, err := unix.Open(run, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, ErrNoShim
		}
		return nil, &os.PathError{Op: "open", Path: run, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// An address has room for 107 bytes only: the folder's name may be longer.
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir, Socket)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, ErrNoShim
		}
		return nil, &os.PathError{Op: "connect", Path: filepath.Join(run, Socket), Err: err}
	}
	return FromFD(fd)
}

// NewConn makes a connection of one that has been accepted.
func NewConn(c *net.UnixConn) *Conn { return &Conn{c} }

// Close ends the connection.
func (c *Conn) Close() error { return c.c.Close() }

// CloseWrite says that nothing more is sent.
func (c *Conn) CloseWrite() error { return c.c.CloseWrite() }

// File is a copy of the connection's descriptor, for another program to go on with.
func (c *Conn) File() (*os.File, error) { return c.c.File() }

// Send sends a message with files beside it.
func (c *Conn) Send(message any, files ...*os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.c.WriteMsgUnix(data, rights, nil)
	return err
}

// Receive receives a message, and the files beside it. io.EOF is the connection's end.
func (c *Conn) Receive(message any) ([]*os.File, error) {
	size, err := c.next()
	if err != nil {
		return nil, err
	}
	data, rights := make([]byte, max(size, 1)), make([]byte, unix.CmsgSpace(16*4))
	n, rn, _, _, err := c.c.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, err
	}
	files, err := unpackRights(rights[:rn])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if err := json.Unmarshal(data[:n], message); err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, fmt.Errorf("a message from the other side: %w", err)
	}
	return files, nil
}

// next waits for a packet and returns its length.
func (c *Conn) next() (int, error) {
	raw, err := c.c.SyscallConn()
	if err != nil {
		return 0, err
	}
	size := 0
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for {
			var one [1]byte
			size, _, failed = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			if failed != unix.EINTR {
				return failed != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = failed
	}
	if errors.Is(err, unix.ECONNRESET) {
		err = io.EOF
	}
	return size, err
}

func unpackRights(rights []byte) ([]*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// Streams sorts the files beside a request: in, out, err, each nil if it is not there.
func (a *Attach) Streams(files []*os.File) (in, out, err *os.File, e error) {
	if a == nil {
		return nil, nil, nil, nil
	}
	if len(files) != a.Count() {
		return nil, nil, nil, fmt.Errorf("%d descriptors for %d streams", len(files), a.Count())
	}
	next := func(has bool) *os.File {
		if !has {
			return nil
		}
		f := files[0]
		files = files[1:]
		return f
	}
	return next(a.Stdin), next(a.Stdout), next(a.Stderr), nil
}

// Lock takes the lock of a run folder, which is made. held is whether a shim has it. The lock
// belongs to the descriptor, and so to whoever has inherited it: fcntl_locking(2), "Open file
// description locks".
func Lock(run string) (lock *os.File, held bool, err error) {
	if err := os.MkdirAll(run, 0o711); err != nil {
		return nil, false, err
	}
	path := filepath.Join(run, LockFile)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == nil {
		return f, false, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, true, nil
	}
	return nil, false, &os.PathError{Op: "lock", Path: path, Err: err}
}

// Alive says whether a shim has the lock of a run folder.
func Alive(run string) bool {
	fd, err := unix.Open(filepath.Join(run, LockFile), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l)
	return err != nil || l.Type != unix.F_UNLCK
}
