//go:build linux

package fuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/driver"
)

// options and branch are those of package union, which is not linked in here.
type options struct {
	Branches []branch `json:"branches"`
	UDBA     string   `json:"udba"`
}

type branch struct {
	Path     string `json:"path"`
	Writable bool   `json:"writable,omitempty"`
}

// servers are the processes that this one has started and that are not mounted yet.
type servers struct {
	command []string
	mu      sync.Mutex
	waiting map[*server]bool
}

// server is this process's part in it:
//
//	here                                              the server
//	/dev/fuse ──────── the same open file ──────────  descriptor 3
//	control   ── options as JSON ─▶  ◀─ "mounted" ──  descriptor 4
//
// The device is held until it is mounted, and no longer: the mount is dead when the last process
// that has the device lets go of it, and that is to be the server.
type server struct {
	device, control *os.File
	fd              int // device's
	answered        chan struct{}
	answer          string // "mounted", or what is wrong; to be read when it has answered
}

func (s *servers) commandLine() []string {
	if len(s.command) > 0 {
		return s.command
	}
	self, err := os.Executable()
	if err != nil {
		self = "minidocker"
	}
	return []string{filepath.Join(filepath.Dir(self), "minidockerd"), "union-serve"}
}

// start starts a server for a union, and says how to mount what it serves.
func (s *servers) start(union any, o driver.MountOptions) (driver.Mount, *server, error) {
	var mount driver.Mount
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return mount, nil, fmt.Errorf("no FUSE (modprobe fuse): %w", err)
	}
	control, err := s.run(device)
	if err == nil {
		err = json.NewEncoder(control).Encode(union)
	}
	if err != nil {
		device.Close()
		if control != nil {
			control.Close()
		}
		return mount, nil, fmt.Errorf("start the server of a union: %w", err)
	}
	one := &server{
		device: device, fd: int(device.Fd()), control: control, answered: make(chan struct{}),
	}
	s.keep(one)
	all := []string{
		fmt.Sprintf("fd=%d", one.fd), "rootmode=40000", fmt.Sprintf("user_id=%d", os.Geteuid()),
		fmt.Sprintf("group_id=%d", os.Getegid()), "default_permissions", "allow_other",
	}
	if o.ReadOnly {
		all = append(all, "ro")
	}
	if o.Label != "" {
		all = append(all, fmt.Sprintf("context=%q", o.Label))
	}
	return driver.Mount{Type: "fuse", Source: "minidocker", Options: all}, one, nil
}

// run starts the process, and gives this side of the socket to it.
func (s *servers) run(device *os.File) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil { // so that Close ends a read
		return nil, os.NewSyscallError("fcntl", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "control")
	command := s.commandLine()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{device, theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	go func() { _ = cmd.Wait() }() // how it ends is not ours
	return ours, nil
}

// keep holds the device until it is mounted.
func (s *servers) keep(one *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[*server]bool{}
	}
	s.waiting[one] = true
	go func() {
		text, _ := io.ReadAll(one.control) // up to its end, or ours
		one.answer = strings.TrimSpace(string(text))
		close(one.answered)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.waiting[one] {
			return
		}
		if one.answer != "mounted" {
			one.spoil()
			return
		}
		delete(s.waiting, one)
		_ = one.close() // nothing is written
	}()
}

// spoil makes of the device something that cannot be mounted, as nobody would serve it. It keeps
// its number, so that another does not get it.
func (s *server) spoil() {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return
	}
	defer null.Close()
	_ = unix.Dup3(int(null.Fd()), s.fd, unix.O_CLOEXEC) // both are open
}

func (s *server) close() error { return errors.Join(s.device.Close(), s.control.Close()) }

// Close gives up what is not mounted.
func (s *servers) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for one := range s.waiting {
		errs = append(errs, one.close())
	}
	s.waiting = nil
	return errors.Join(errs...)
}
