//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"minidocker/final/engine"
	"minidocker/final/signals"
)

// attaching is how the streams here are connected to a process in a container.
type attaching struct {
	tty           bool // the process has a terminal
	in, out, err  bool
	proxy         bool   // signals go to the process
	keys          string // that detach: "ctrl-p,ctrl-q"
	detachKeys    []byte
	inputTerminal int // descriptor, -1 if the input is no terminal
}

// prepare sees whether it can be, before there is anything to clean up.
func (c *CLI) prepare(a *attaching) (err error) {
	a.inputTerminal = terminal(c.In)
	if !a.tty {
		return nil
	}
	if a.in && a.inputTerminal < 0 {
		return errors.New("cannot attach stdin to a TTY-enabled container because stdin is not " +
			"a terminal: leave out -t, or run this in a terminal")
	}
	if a.in {
		if a.keys == "" {
			a.keys = "ctrl-p,ctrl-q"
		}
		a.detachKeys, err = detachKeys(a.keys)
	}
	return err
}

// session connects the streams, passes on signals and sizes, and waits. The container's exit
// status is the result, as a *Status.
func (c *CLI) session(a *attaching, connect func(*engine.Streams) (Attachment, error)) error {
	s := &engine.Streams{DetachKeys: a.detachKeys}
	if a.in {
		s.In = c.In
	}
	if a.out || a.tty && a.err {
		s.Out = c.Out
	}
	if a.err && !a.tty {
		s.Err = c.Err
	}
	if a.tty {
		resize := make(chan struct{}, 1)
		s.Size, s.Resize = c.size, resize
		stop := watchSize(resize)
		defer stop()
	}
	caught := make(chan os.Signal, 16)
	if a.proxy {
		signals.Catch(caught)
	}
	if a.tty && a.in {
		state, err := term.MakeRaw(a.inputTerminal)
		if err != nil {
			return fmt.Errorf("set the terminal to raw mode: %w", err)
		}
		defer func() { _ = term.Restore(a.inputTerminal, state) }()
	}
	attachment, err := connect(s)
	if err != nil {
		return err
	}
	go pass(caught, attachment)
	end, err := attachment.Wait()
	if err != nil {
		return err
	}
	return ending(end)
}

func ending(end engine.Ending) error {
	switch {
	case end.Detached:
		return nil
	case end.Error != "":
		return &Status{Code: max(end.Status, 1), Err: errors.New(end.Error)}
	case end.Status != 0:
		return &Status{Code: end.Status}
	}
	return nil
}

// pass gives signals to the process, but for those that are about this one.
func pass(caught <-chan os.Signal, a Attachment) {
	for s := range caught {
		switch s := s.(syscall.Signal); s {
		case unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG, unix.SIGWINCH:
		default:
			_ = a.Signal(s) // it may have ended
		}
	}
}

// watchSize sends when the terminal's size has changed, until it is stopped.
func watchSize(resize chan<- struct{}) (stop func()) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changes:
			}
			select {
			case resize <- struct{}{}:
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changes)
		close(done)
	}
}

// terminal is the descriptor of a stream that is a terminal, else -1.
func terminal(stream any) int {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return int(f.Fd())
	}
	return -1
}

// IsTerminal says whether a stream is a terminal.
func IsTerminal(stream any) bool { return terminal(stream) >= 0 }

// size is that of the output's terminal; 0 if it is none.
func (c *CLI) size() (rows, columns uint16) {
	fd := terminal(c.Out)
	if fd < 0 {
		fd = terminal(c.In)
	}
	if fd < 0 {
		return 0, 0
	}
	width, height, err := term.GetSize(fd)
	if err != nil {
		return 0, 0
	}
	return uint16(height), uint16(width)
}

// detachKeys reads letters and ctrl-LETTER, with commas between.
func detachKeys(s string) ([]byte, error) {
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		control, ok := strings.CutPrefix(strings.ToLower(key), "ctrl-")
		switch {
		case ok && control == "@":
			keys = append(keys, 0)
		case ok && len(control) == 1 && control >= "a" && control <= "z",
			ok && len(control) == 1 && strings.Contains(`[\]^_`, control):
			keys = append(keys, strings.ToUpper(control)[0]-'@')
		case len(key) == 1:
			keys = append(keys, key[0])
		default:
			return nil, fmt.Errorf("invalid detach keys (%s): unknown character '%s'; "+
				"want letters and ctrl-LETTER with commas between, as in ctrl-p,ctrl-q", s, key)
		}
	}
	return keys, nil
}

// confirm asks a question.
func (c *CLI) confirm(question string) bool {
	fmt.Fprintf(c.Out, "%s [y/N] ", question)
	answer := make([]byte, 0, 8)
	b := make([]byte, 1)
	for {
		n, err := c.In.Read(b)
		if n == 1 && b[0] != '\n' {
			answer = append(answer, b[0])
			continue
		}
		if n == 1 || err != nil && !errors.Is(err, io.ErrNoProgress) {
			return strings.EqualFold(strings.TrimSpace(string(answer)), "y")
		}
	}
}
