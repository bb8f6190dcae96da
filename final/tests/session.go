//go:build linux

package tests

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// session is a command in the background that a script talks to.
type session struct {
	cmd      *exec.Cmd
	input    io.WriteCloser // the terminal's master, or a pipe
	terminal *os.File       // nil on pipes
	done     chan struct{}  // closed when the command has ended

	mu       sync.Mutex
	output   []byte
	expected int // how much of output earlier expects have consumed
}

type sessionsKey struct{}

// sessionEnv are the variables of the script that a session gets.
var sessionEnv = []string{
	"PATH", "HOME", "TERM", "INPUTRC", "WORK", "ROOTFS", "TMPDIR", "STEP", "MINIDOCKER_TIME_SCALE",
	"DOCKER_HOST",
}

// pause is how long to wait between two looks at something that is about to happen.
const pause = 10 * time.Millisecond

// waiting is how long to wait for what should take milliseconds: long, for nobody knows what else
// the machine does. A script that is to fail waits less: see Setup.
var waiting = 20 * time.Second

func patience() time.Duration { return scale(waiting) }

// sessions are those of one script, by name.
type sessions struct {
	byName map[string]*session
}

func newSessions() *sessions { return &sessions{byName: map[string]*session{}} }

// end kills what the script left running.
func (s *sessions) end() {
	for _, x := range s.byName {
		_ = x.cmd.Process.Kill() // it may have ended
		<-x.done
	}
}

// sessionCommand makes a script command of a method.
func sessionCommand(
	minArgs int, f func(*sessions, *testscript.TestScript, []string) error,
) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < minArgs {
			ts.Fatalf("want %d arguments and no !", minArgs)
		}
		if err := f(ts.Value(sessionsKey{}).(*sessions), ts, args); err != nil {
			ts.Fatalf("%v", err)
		}
	}
}

func (s *sessions) get(name string) (*session, error) {
	x := s.byName[name]
	if x == nil {
		return nil, fmt.Errorf("no session %q was started", name)
	}
	return x, nil
}

func (s *sessions) start(ts *testscript.TestScript, args []string) error {
	onTerminal := args[0] == "-pty"
	if onTerminal {
		args = args[1:]
	}
	if len(args) < 2 {
		return errors.New("usage: start [-pty] NAME CMD [ARG…]")
	}
	path := args[1]
	if !strings.Contains(path, "/") { // along the script's PATH, not this process's
		for _, dir := range strings.Split(ts.Getenv("PATH"), ":") {
			if info, err := os.Stat(dir + "/" + path); err == nil && info.Mode()&0o111 != 0 {
				path = dir + "/" + path
				break
			}
		}
	}
	x := &session{cmd: exec.Command(path, args[2:]...), done: make(chan struct{})}
	x.cmd.Args[0] = args[1]
	x.cmd.Dir = ts.MkAbs(".")
	for _, name := range sessionEnv {
		x.cmd.Env = append(x.cmd.Env, name+"="+ts.Getenv(name))
	}
	start := x.startOnPipes
	if onTerminal {
		start = x.startOnTerminal
	}
	if err := start(); err != nil {
		return err
	}
	s.byName[args[0]] = x
	return nil
}

func (x *session) startOnTerminal() error {
	master, err := pty.StartWithSize(x.cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		return err
	}
	x.input, x.terminal = master, master
	go func() {
		x.read(master)
	}()
	go func() {
		_ = x.cmd.Wait() // the status is in ProcessState
		close(x.done)
	}()
	return nil
}

func (x *session) startOnPipes() error {
	input, err := x.cmd.StdinPipe()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	x.input = input
	x.cmd.Stdout, x.cmd.Stderr = w, w
	if err := x.cmd.Start(); err != nil {
		return err
	}
	go x.read(r)
	go func() {
		_ = x.cmd.Wait() // the status is in ProcessState
		close(x.done)
	}()
	return nil
}

func (x *session) read(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		x.mu.Lock()
		x.output = append(x.output, buf[:n]...)
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *sessions) send(_ *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	_, err = io.WriteString(x.input, text)
	return err
}

func (s *sessions) expect(ts *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	re, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		return err
	}
	for limit := time.Now().Add(patience()); ; time.Sleep(pause) {
		x.mu.Lock()
		rest := x.output[x.expected:]
		if at := re.FindIndex(rest); at != nil {
			x.expected += at[1]
			x.mu.Unlock()
			ts.Logf("[got %q]", rest[:at[1]])
			return nil
		}
		x.mu.Unlock()
		if time.Now().After(limit) {
			return fmt.Errorf("waited for %q, got %q", args[1], rest)
		}
	}
}

func (s *sessions) eof(_ *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	return x.input.Close()
}

func (s *sessions) resize(_ *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	rows, err1 := strconv.ParseUint(args[1], 10, 16)
	cols, err2 := strconv.ParseUint(args[2], 10, 16)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return pty.Setsize(x.terminal, &pty.Winsize{Rows: uint16(rows), Cols: uint16(cols)})
}

func (s *sessions) signal(_ *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	sig := unix.SignalNum("SIG" + args[1])
	if sig == 0 {
		return fmt.Errorf("unknown signal %s", args[1])
	}
	return x.cmd.Process.Signal(sig)
}

func (s *sessions) finish(ts *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	want, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	select {
	case <-x.done:
	case <-time.After(patience()):
		return fmt.Errorf("%s does not end; its output: %q", args[0], x.text())
	}
	if got := exitStatus(x.cmd.ProcessState.Sys().(syscall.WaitStatus)); got != want {
		return fmt.Errorf("exit status %d, want %d; output: %q", got, want, x.text())
	}
	ts.Logf("[output %q]", x.text())
	return nil
}

func (x *session) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return string(x.output)
}

func (s *sessions) pid(ts *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	ts.Setenv(args[1], strconv.Itoa(x.cmd.Process.Pid))
	return nil
}

func (s *sessions) child(ts *testscript.TestScript, args []string) error {
	x, err := s.get(args[0])
	if err != nil {
		return err
	}
	for limit := time.Now().Add(patience()); ; time.Sleep(pause) {
		children, err := childrenOf(x.cmd.Process.Pid)
		if err != nil {
			return err
		}
		if len(children) == 1 && isCommand(children[0], x.cmd.Process.Pid) {
			ts.Setenv(args[1], strconv.Itoa(children[0]))
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("process %d has the children %v, want one", x.cmd.Process.Pid, children)
		}
	}
}

// isCommand reports whether the child is a container's command, not minidocker
// before it became that, nor a child that Go's runtime makes for a moment.
func isCommand(child, parent int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", child))
	parentExe, err2 := os.Readlink(fmt.Sprintf("/proc/%d/exe", parent))
	return err == nil && err2 == nil && exe != parentExe
}
