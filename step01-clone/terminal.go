//go:build linux

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the user's terminal while a container runs. A terminal sends the
// signals of its keys (Ctrl-C, Ctrl-Z) and of a resize to one process group,
// the foreground group. The container gets a group of its own, so that a key
// reaches it and not this process, and kill(0, SIGKILL) in it ends it alone.
type terminal struct {
	interactive bool          // the container becomes the foreground group
	modes       *unix.Termios // as found, nil if standard input is no terminal
}

// openTerminal looks at what standard input and output are. Only where both are
// a terminal, and this process is in its foreground, the container gets it: in
// "minidocker run ls | less" less must keep it.
func openTerminal() *terminal {
	modes, err := unix.IoctlGetTermios(unix.Stdin, unix.TCGETS)
	if err != nil {
		return &terminal{}
	}
	_, err = unix.IoctlGetTermios(unix.Stdout, unix.TCGETS)
	return &terminal{interactive: err == nil && inForeground(), modes: modes}
}

// inForeground reports whether this process is in the terminal's foreground group.
func inForeground() bool {
	group, err := unix.IoctlGetInt(unix.Stdin, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// give asks clone's caller for the child's group: the new foreground group of
// the terminal, or else a session of its own, which no terminal's key reaches.
func (t *terminal) give(attr *syscall.SysProcAttr) {
	attr.Setsid = !t.interactive
	attr.Foreground = t.interactive
	attr.Ctty = unix.Stdin
}

// wait waits for the process to end. When Ctrl-Z stops it, this process stops
// too, so that the shell that started it sees a stopped job; after the shell's
// "fg" both go on.
func (t *terminal) wait(pid int) (unix.WaitStatus, error) {
	// A background process that sets the foreground group is sent SIGTTOU, which
	// would stop it. Not earlier than here: the child inherits what is ignored.
	signal.Ignore(unix.SIGTTOU)
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		case status.Stopped() && t.interactive:
			t.setForeground(unix.Getpgrp())
			stopSelf()
			if inForeground() { // "fg"; after "bg" the terminal is the shell's
				t.setForeground(pid)
			}
			_ = unix.Kill(-pid, unix.SIGCONT) // gone by now: the next wait says so
		case !status.Stopped():
			return status, nil
		}
	}
}

// restore takes the terminal back, in the modes in which it was.
func (t *terminal) restore() {
	if t.interactive {
		t.setForeground(unix.Getpgrp())
		// An error means that the terminal was closed: there is nothing to restore.
		_ = unix.IoctlSetTermios(unix.Stdin, unix.TCSETSW, t.modes)
	}
}

// setForeground makes the process group the terminal's foreground group.
func (t *terminal) setForeground(group int) {
	// An error means that the terminal was closed: it has no foreground any more.
	_ = unix.IoctlSetPointerInt(unix.Stdin, unix.TIOCSPGRP, group)
}

// stopSelf stops this process until somebody sends it SIGCONT.
func stopSelf() {
	// To this thread, not to the process: so it takes effect before Tgkill returns.
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// forwardSignals passes on to the container what others send to this process.
func forwardSignals(init *os.Process) {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGTSTP)
	for s := range signals {
		if s == unix.SIGTSTP {
			// A session without a terminal ignores SIGTSTP; SIGSTOP it cannot.
			_ = init.Signal(unix.SIGSTOP)
			stopSelf()
			s = unix.SIGCONT
		}
		if s == unix.SIGINT || s == unix.SIGQUIT {
			// Keys, where the terminal is ours: to the whole group, as a terminal does it.
			_ = unix.Kill(-init.Pid, s.(syscall.Signal))
			continue
		}
		_ = init.Signal(s) // an error means that it is gone: wait says so
	}
}
