//go:build linux

package api

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types"
	"golang.org/x/sys/unix"
)

// Streams on the wire. With a terminal the bytes go as they are. Without one, what a container
// says comes in frames, so that the client can tell the two streams apart:
//
//	┌────────┬───┬───┬───┬────┬────┬────┬────┬─────────┐
//	│ stream │ 0 │ 0 │ 0 │ length, big-endian │ bytes … │
//	└────────┴───┴───┴───┴────┴────┴────┴────┴─────────┘
//	 1: output, 2: error
//
// What the client says has no frames.
const (
	streamOut   = 1
	streamError = 2
	frameHeader = 8
)

// frames puts what is written in frames of one stream. mu is one for both streams.
type frames struct {
	to     io.Writer
	mu     *sync.Mutex
	stream byte
	frame  []byte
}

func (f *frames) Write(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frame = append(f.frame[:0], f.stream, 0, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(f.frame[4:], uint32(len(data)))
	f.frame = append(f.frame, data...)
	n, err := f.to.Write(f.frame)
	return max(n-frameHeader, 0), err
}

// outputs are the writers for a container's two streams.
func outputs(to io.Writer, terminal bool) (out, err io.Writer) {
	if terminal {
		return to, to
	}
	mu := &sync.Mutex{}
	return &frames{to: to, mu: mu, stream: streamOut}, &frames{to: to, mu: mu, stream: streamError}
}

// hijacked is a connection that is not HTTP's any more.
type hijacked struct {
	conn   net.Conn
	buffer io.Reader // the connection, and before it what HTTP's reader has read already
	head   string
	begun  chan struct{} // closed when the head is sent
	// lost is closed when the client is gone.
	lost chan struct{}
	once sync.Once
	read sync.Once // the client has read the head
}

// hijack takes the connection over. begin says so to the client: until then, writes wait.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request, terminal bool) (*hijacked, error) {
	kind := types.MediaTypeRawStream
	if !terminal && !before(r, 42) {
		kind = types.MediaTypeMultiplexedStream
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	if a, ok := w.(*answer); ok {
		a.status = http.StatusSwitchingProtocols
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + kind +
			"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	head += "Api-Version: " + w.Header().Get("Api-Version") + "\r\n" +
		"Ostype: " + w.Header().Get("Ostype") + "\r\n\r\n"
	h := &hijacked{conn: conn, buffer: rw.Reader, head: head,
		begun: make(chan struct{}), lost: make(chan struct{})}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		h.lose()
	}
	return h, nil
}

// begin answers the client, which may talk then.
func (h *hijacked) begin() {
	if _, err := io.WriteString(h.conn, h.head); err != nil {
		h.lose()
	}
	close(h.begun)
}

func (h *hijacked) close() {
	h.lose()
	_ = h.conn.Close() // all has been said
}

func (h *hijacked) lose() { h.once.Do(func() { close(h.lost) }) }

// Write writes to the client. If that fails, it is gone.
func (h *hijacked) Write(data []byte) (int, error) {
	<-h.begun
	h.read.Do(h.untilRead)
	n, err := h.conn.Write(data)
	if err != nil {
		h.lose()
		return n, errGone
	}
	return n, nil
}

// untilRead waits, not for long, until the client has taken the head. There are those that read it
// with a buffer, and the stream without (docker-py does, and what stands on it): they would lose
// what comes together with the head. Only a unix socket says what the other side has not read yet.
func (h *hijacked) untilRead() {
	const most = 200 * time.Millisecond
	conn, ok := h.conn.(*net.UnixConn)
	if !ok {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	pause := 50 * time.Microsecond
	for began := time.Now(); time.Since(began) < most; pause = min(2*pause, time.Millisecond) {
		unread := 0
		err := raw.Control(func(fd uintptr) { unread, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err != nil || unread == 0 {
			return
		}
		time.Sleep(pause)
	}
}

// errGone is what a writer says of a client that is gone. It is not EPIPE, which to the engine
// means that the container's output goes nowhere.
var errGone = errors.New("the client is gone")

// errHalf ends a terminal's input: there it does not mean what Ctrl-D does.
var errHalf = errors.New("the client says nothing more")

// input is what the client says.
func (h *hijacked) input(terminal bool) io.Reader { return &input{h, terminal} }

type input struct {
	h        *hijacked
	terminal bool
}

func (i *input) Read(data []byte) (int, error) {
	n, err := i.h.buffer.Read(data)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		i.h.lose()
	} else {
		go i.h.watch()
	}
	if i.terminal && n == 0 {
		return 0, errHalf
	}
	return n, err
}

// watch finds out whether a client that says nothing more is still there to listen: one that has
// closed only its half is.
func (h *hijacked) watch() {
	const pause = 500 * time.Millisecond
	for !h.hungUp() {
		select {
		case <-h.lost:
			return
		case <-time.After(pause):
		}
	}
	h.lose()
}

// drop finds out about a client that may say nothing, and to whom nothing is said.
func (h *hijacked) drop() {
	go func() {
		if _, err := io.Copy(io.Discard, h.buffer); err != nil {
			h.lose()
			return
		}
		h.watch()
	}()
}

// hungUp says whether the other side has closed all of a connection: poll(2), POLLHUP.
func (h *hijacked) hungUp() bool {
	conn := h.conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true // closed here
	}
	up := true
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		up = err != nil || n == 0 || p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) == 0
	})
	return err != nil || !up
}
