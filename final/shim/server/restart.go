//go:build linux

package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// How long to wait before the container is started again: twice as long each time, until it has
// run for a while.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	longEnough = 10 * time.Second
)

// startAgain says whether the container is to be started again.
func (s *server) startAgain(status int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.State.Stopped {
		return false
	}
	switch s.Config.Restart {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return status != 0 && (s.Config.MaxRetries == 0 || s.Config.Retries < s.Config.MaxRetries)
	}
	return false
}

// restart waits a while, and then lets the engine start the container again, with a shim of its
// own. The lock goes over to it.
func (s *server) restart() {
	delay := firstDelay
	if s.State.FinishedAt.Sub(s.State.StartedAt) < longEnough {
		for range min(s.Config.Retries, 10) {
			delay = min(2*delay, lastDelay)
		}
	}
	for end := time.Now().Add(delay); time.Now().Before(end); {
		s.mu.Lock()
		stopped := s.State.Stopped
		s.mu.Unlock()
		if stopped {
			break
		}
		time.Sleep(min(delay, 20*time.Millisecond))
	}
	if s.State.Stopped {
		s.State.Status = "exited"
		s.writeState()
		s.markEnding()
		s.lock.Close()
		s.engine("ended", nil)
		return
	}
	s.engine("restart", s.lock)
}

// markEnding leaves a note that the container has ended and that there is work for the engine.
// The engine removes it when that is done, whoever of it does it.
func (s *server) markEnding() {
	dir := filepath.Join(filepath.Dir(filepath.Dir(s.Config.Run)), "ending")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		s.warn("%v", err)
	}
	f, err := os.Create(filepath.Join(dir, s.Config.ID))
	if err != nil {
		s.warn("%v", err)
		return
	}
	f.Close()
}

// engine lets the engine do its part, in a process that outlives this one.
func (s *server) engine(what string, lock *os.File) {
	args := append(append([]string{}, s.Config.EngineArgs...), "shim-"+what, s.Config.ID)
	cmd := exec.Command(s.Config.Engine, args...)
	cmd.Env = append(os.Environ(), "PATH="+defaultPath)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	if err := cmd.Start(); err != nil {
		s.warn("%s: %v", what, err)
		if lock != nil {
			s.State.Status, s.State.Error = "exited", err.Error()
			s.writeState()
		}
	}
}

// defaultPath is where the engine finds programs: nft, modprobe.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
