//go:build linux

package server

import (
	"errors"
	"fmt"
	"net"
	"os"

	"minidocker/final/shim"
)

// listen accepts clients until the container has ended and is not to be started again.
func (s *server) listen() error {
	f := os.NewFile(uintptr(s.Listen), shim.Socket)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return errors.New("the socket is no unix socket")
	}
	listener.SetUnlinkOnClose(false)
	go func() {
		for {
			c, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			go s.answer(shim.NewConn(c))
		}
	}()
	go func() { <-s.gone; listener.Close() }()
	return nil
}

// join says that somebody is to be told of the end; not if that has been told.
func (s *server) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told {
		return false
	}
	s.clients.Add(1)
	return true
}

// answerControl tells the end to whoever has started the container, if it is there still.
func (s *server) answerControl() {
	defer s.clients.Done()
	gone := s.untilGone(s.control)
	select {
	case <-gone:
		s.mu.Lock()
		s.Holds = false
		s.mu.Unlock()
	case <-s.over:
		_ = s.control.Send(s.result) // or it is gone
	}
}

// untilGone is closed when the other side of a connection hangs up.
func (s *server) untilGone(c *shim.Conn) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var nothing shim.Reply
			if _, err := c.Receive(&nothing); err != nil {
				return
			}
		}
	}()
	return gone
}

// goodbye tells whoever has started the container that all the shim's work is done, so that it
// does the rest. It says whether there is somebody.
func (s *server) goodbye() bool {
	s.mu.Lock()
	holds := s.Holds
	s.mu.Unlock()
	return holds && s.control.Send(shim.Reply{Is: shim.Done}) == nil
}

// answer does what one client wants.
func (s *server) answer(c *shim.Conn) {
	defer c.Close()
	var r shim.Request
	files, err := c.Receive(&r)
	if err != nil {
		return
	}
	switch r.Do {
	case "attach":
		s.attach(c, &r, files)
	case "exec":
		s.exec(c, &r, files)
	case "wait":
		s.wait(c)
	case "resize":
		reply(c, s.streams.resize(r.Rows, r.Columns))
	case "stopped":
		s.mu.Lock()
		s.State.Stopped = true
		s.mu.Unlock()
		s.writeState()
		reply(c, nil)
	case "rename":
		s.mu.Lock()
		s.Config.Name = r.Name
		s.mu.Unlock()
		reply(c, nil)
	case "policy":
		s.mu.Lock()
		s.Config.Restart, s.Config.MaxRetries = r.Restart, r.MaxRetries
		s.mu.Unlock()
		reply(c, nil)
	case "dns":
		reply(c, s.beginDNS(r.DNS))
	default:
		reply(c, fmt.Errorf("the shim cannot %q", r.Do))
	}
}

// reply says whether something went well. A client that is gone has nothing to be told.
func reply(c *shim.Conn, err error) {
	if err != nil {
		_ = c.Send(shim.Reply{Is: shim.Failed, Error: err.Error(), Status: 125})
		return
	}
	_ = c.Send(shim.Reply{Is: shim.Done})
}

// wait tells a client of the end, or lets it go.
func (s *server) wait(c *shim.Conn) {
	if !s.join() {
		reply(c, errors.New("the container has ended"))
		return
	}
	defer s.clients.Done()
	reply(c, nil)
	select {
	case <-s.over:
		_ = c.Send(s.result)
	case <-s.untilGone(c):
	}
}

// attach adds a client to the streams.
func (s *server) attach(c *shim.Conn, r *shim.Request, files []*os.File) {
	in, out, errs, err := r.Attach.Streams(files)
	if err != nil {
		reply(c, err)
		return
	}
	if !s.join() {
		reply(c, errors.New("the container has ended"))
		return
	}
	defer s.clients.Done()
	k := s.streams.attach(reopened(in), reopened(out), reopened(errs), true)
	reply(c, nil)
	select {
	case <-s.over:
		_ = c.Send(s.result)
	case <-s.untilGone(c):
		s.streams.detach(k)
	}
}

// reopened is a received file, made pollable.
func reopened(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	fd, err := dup(f)
	f.Close()
	if err != nil {
		return nil
	}
	return pollable(fd, "attached")
}
