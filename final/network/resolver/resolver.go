//go:build linux

// Package resolver is the name server at 127.0.0.11 in a container: it answers for the names of
// neighbours, and asks the host's servers for all else (RFC 1035). It knows neither networks nor
// containers, and links little, because it runs in each container's shim: questions cost memory
// only while they are asked.
package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/network/netns"
)

// Address is where containers find it.
const Address = "127.0.0.11"

// Names is what it answers itself. Both are called for each question, at once from several
// goroutines.
type Names interface {
	// Lookup returns the addresses of a name, IPv4 and IPv6, without a dot at its end. known is
	// false for a name to ask the others about.
	Lookup(name string) (addresses []netip.Addr, known bool)
	// Reverse returns the name of an address; empty: ask the others.
	Reverse(address netip.Addr) string
}

const (
	maxUDP     = 4096             // bytes of a question or an answer by UDP that are read
	maxAsking  = 64               // questions at once; more are refused until there are less
	patience   = 4 * time.Second  // for an upstream server; clients ask again after 5
	maxIdleTCP = 10 * time.Second // between two questions of a connection
)

// server is one container's.
type server struct {
	names    Names
	upstream []string
	busy     chan struct{} // as many as ask
}

// Open opens the sockets at port 53 of Address, UDP and TCP, in the network namespace ns, for
// Serve: what is asked before that waits.
func Open(ns *os.File) (udp, tcp *os.File, err error) {
	err = netns.Do(ns, func() error {
		var err error
		if udp, err = socket(unix.SOCK_DGRAM); err != nil {
			return err
		}
		tcp, err = socket(unix.SOCK_STREAM)
		if err == nil {
			err = os.NewSyscallError("listen", unix.Listen(int(tcp.Fd()), maxAsking))
		}
		return err
	})
	if err != nil {
		for _, f := range []*os.File{udp, tcp} {
			if f != nil {
				f.Close()
			}
		}
		return nil, nil, fmt.Errorf("open the resolver's sockets: %w", err)
	}
	return udp, tcp, nil
}

// socket is one at port 53 of Address.
func socket(kind int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), Address)
	// The address is there when lo is up, which the container's init sees to meanwhile.
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err != nil {
		f.Close()
		return nil, os.NewSyscallError("setsockopt IP_FREEBIND", err)
	}
	at := &unix.SockaddrInet4{Port: 53, Addr: netip.MustParseAddr(Address).As4()}
	if err := unix.Bind(fd, at); err != nil {
		f.Close()
		return nil, os.NewSyscallError("bind "+Address, err)
	}
	return f, nil
}

// Serve answers at the sockets that Open gave until ctx ends, and closes them. It asks upstream
// (addresses, port 53 unless they name one) from the caller's namespace, one after the other until
// one answers. The error is that of unfit sockets; with none it returns nil after the end of ctx.
func Serve(ctx context.Context, udp, tcp *os.File, names Names, upstream []string) error {
	defer udp.Close()
	defer tcp.Close()
	s := &server{names: names, busy: make(chan struct{}, maxAsking)}
	for _, u := range upstream {
		if _, _, err := net.SplitHostPort(u); err != nil {
			u = net.JoinHostPort(u, "53")
		}
		s.upstream = append(s.upstream, u)
	}
	conn, err := net.FilePacketConn(udp)
	if err != nil {
		return err
	}
	listener, err := net.FileListener(tcp)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	packets, ok1 := conn.(*net.UDPConn)
	streams, ok2 := listener.(*net.TCPListener)
	if !ok1 || !ok2 {
		return errors.Join(errors.New("the resolver's sockets are none of UDP and TCP"),
			conn.Close(), listener.Close())
	}
	defer context.AfterFunc(ctx, func() {
		_ = packets.Close() // each is read-only from here on: nothing to lose
		_ = streams.Close()
	})()
	go s.serveTCP(ctx, streams)
	s.serveUDP(ctx, packets)
	return nil
}

// serveUDP answers until the socket is closed.
func (s *server) serveUDP(ctx context.Context, conn *net.UDPConn) {
	buffer := make([]byte, maxUDP)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of memory: what else can be wrong
			continue
		}
		question := append([]byte(nil), buffer[:n]...)
		select {
		case s.busy <- struct{}{}:
		default:
			continue // the client asks again
		}
		go func() {
			defer func() { <-s.busy }()
			if answer := s.answer(ctx, "udp", question); answer != nil {
				_, _ = conn.WriteToUDPAddrPort(answer, from) // gone: it needs no answer
			}
		}()
	}
}

// serveTCP answers until the socket is closed.
func (s *server) serveTCP(ctx context.Context, listener *net.TCPListener) {
	for {
		conn, err := listener.AcceptTCP()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		select {
		case s.busy <- struct{}{}:
			go func() {
				defer func() { <-s.busy }()
				s.serveConn(ctx, conn)
			}()
		default:
			_ = conn.Close() // the client asks again
		}
	}
}

func (s *server) serveConn(ctx context.Context, conn *net.TCPConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for {
		_ = conn.SetDeadline(time.Now().Add(maxIdleTCP)) // it is open
		question, err := readMessage(conn)
		if err != nil {
			return
		}
		answer := s.answer(ctx, "tcp", question)
		if answer == nil || writeMessage(conn, answer) != nil {
			return
		}
	}
}

// readMessage reads a message of a stream: two bytes of length, and itself. RFC 1035, 4.2.2.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeMessage(w io.Writer, message []byte) error {
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(message)))
	_, err := w.Write(append(framed, message...))
	return err
}

// answer returns the answer to a question, nil for what is none.
func (s *server) answer(ctx context.Context, proto string, question []byte) []byte {
	answer, ask := own(s.names, proto == "udp", question)
	if !ask {
		return answer
	}
	for _, upstream := range s.upstream {
		if answer := s.forward(ctx, proto, upstream, question); answer != nil {
			return answer
		}
	}
	return failure(question)
}

// forward asks one server; nil if it does not answer.
func (s *server) forward(ctx context.Context, proto, upstream string, question []byte) []byte {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, proto, upstream)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience)) // it is open
	if proto == "tcp" {
		if writeMessage(conn, question) != nil {
			return nil
		}
		answer, err := readMessage(conn)
		if err != nil || !answers(answer, question) {
			return nil
		}
		return answer
	}
	if _, err := conn.Write(question); err != nil {
		return nil
	}
	buffer := make([]byte, maxUDP)
	for {
		n, err := conn.Read(buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil
		}
		if answers(buffer[:n], question) {
			return buffer[:n]
		}
	}
}
