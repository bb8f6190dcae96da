//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// terminal relays between this process's own terminal and the container's, for run and
// exec in the foreground without a console socket.
type terminal struct {
	dir, path string
	listener  *net.UnixListener
	master    *os.File
	old       *unix.Termios
	done      chan struct{}
}

// newTerminal listens where init sends the master to.
func newTerminal() (*terminal, error) {
	dir, err := os.MkdirTemp("", "minirunc-")
	if err != nil {
		return nil, err
	}
	t := &terminal{dir: dir, path: filepath.Join(dir, "console"), done: make(chan struct{})}
	t.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: t.path, Net: "unix"})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return t, nil
}

// relay takes the master and copies, until the container's side is closed.
func (t *terminal) relay() {
	conn, err := t.listener.AcceptUnix()
	if err != nil {
		return
	}
	defer conn.Close()
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 64), rights)
	if err != nil {
		return
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return
	}
	t.master = os.NewFile(uintptr(fds[0]), "terminal")
	t.resize()
	if old, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		t.old = old
		raw := *old
		raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR |
			unix.IGNCR | unix.ICRNL | unix.IXON
		raw.Oflag &^= unix.OPOST
		raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		_ = unix.IoctlSetTermios(0, unix.TCSETS, &raw)
	}
	go func() { _, _ = io.Copy(t.master, os.Stdin) }()
	go func() {
		_, _ = io.Copy(os.Stdout, t.master) // ends with EIO when the last slave is closed
		close(t.done)
	}()
}

// ownSize is the size of this process's terminal, which the container's must have before
// its process looks; nil if there is none.
func ownSize() *specs.Box {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return &specs.Box{Height: uint(size.Row), Width: uint(size.Col)}
}

func (t *terminal) resize() {
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil && t.master != nil {
		_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// drain waits for the last output.
func (t *terminal) drain() {
	if t.master != nil {
		<-t.done
	}
}

func (t *terminal) close() {
	if t.old != nil {
		_ = unix.IoctlSetTermios(0, unix.TCSETS, t.old)
	}
	t.listener.Close()
	if err := os.RemoveAll(t.dir); err != nil {
		fmt.Fprintln(os.Stderr, "minirunc:", err)
	}
}
