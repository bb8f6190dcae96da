//go:build linux

package server

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/oci"
	"minidocker/final/shim"
)

// What Docker keeps of health checks.
const (
	healthOutput  = 4096 // bytes of a check's output
	healthResults = 5
)

// checkHealth runs the health check again and again.
func (s *server) checkHealth(done chan struct{}) {
	h := s.Config.Health
	began := time.Now()
	for {
		wait := h.Interval
		starting := h.StartPeriod > 0 && time.Since(began) < h.StartPeriod
		if starting && h.StartInterval > 0 && s.health() == "starting" {
			wait = h.StartInterval
		}
		select {
		case <-done:
			return
		case <-time.After(wait):
		}
		result, ok := s.probe(done)
		if !ok {
			return
		}
		s.note(result, h.StartPeriod > 0 && result.Start.Sub(began) < h.StartPeriod)
	}
}

// health is what the checks have found so far.
func (s *server) health() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.State.Health.Status
}

// probe runs the check once. ok is false if the container ended meanwhile.
func (s *server) probe(done chan struct{}) (result shim.HealthResult, ok bool) {
	h := s.Config.Health
	result = shim.HealthResult{Start: time.Now(), ExitCode: -1}
	defer func() { result.End = time.Now() }()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		result.Output = err.Error()
		return result, true
	}
	out, far := pollable(p[0], "health"), os.NewFile(uintptr(p[1]), "health")
	defer out.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		result.Output = err.Error()
		return result, true
	}
	defer null.Close()
	process, err := s.runtime.Process(s.Config.ID, func(p *specs.Process) error {
		p.Args, p.Terminal = h.Args, false
		return nil
	})
	if err != nil {
		result.Output = err.Error()
		return result, true
	}
	pid, e, err := s.start("health", oci.ExecOptions{
		Process: process, Stdio: []*os.File{null, far, far}})
	far.Close()
	if err != nil {
		result.Output, result.ExitCode = err.Error(), 1
		return result, true
	}
	defer s.ended(e)
	said := make(chan string, 1)
	go func() { said <- readSome(out, healthOutput) }()
	select {
	case result.ExitCode = <-e.status:
	case <-time.After(h.Timeout):
		_ = unix.Kill(pid, unix.SIGKILL)
		<-e.status
		_ = out.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		result.Output = fmt.Sprintf("Health check exceeded timeout (%v)", h.Timeout)
		if text := <-said; text != "" {
			result.Output += ": " + text
		}
		return result, true
	case <-done:
		return result, false
	}
	// What it left running may say more.
	_ = out.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	result.Output = <-said
	return result, true
}

// readSome reads to the end, and returns what comes first.
func readSome(f *os.File, most int) string {
	var text bytes.Buffer
	buffer := make([]byte, most)
	for {
		n, err := f.Read(buffer)
		text.Write(buffer[:min(n, most-text.Len())])
		if err != nil {
			return text.String()
		}
	}
}

// note keeps a result, and says so if the health has changed. In the time that the container has
// for its start a failure does not count.
func (s *server) note(result shim.HealthResult, starting bool) {
	s.mu.Lock()
	old := s.State.Health
	health := &shim.Health{Status: old.Status, FailingStreak: old.FailingStreak}
	health.Log = append(append(health.Log, old.Log...), result)
	health.Log = health.Log[max(0, len(health.Log)-healthResults):]
	switch {
	case result.ExitCode == 0:
		health.Status, health.FailingStreak = "healthy", 0
	case !starting || old.Status != "starting":
		health.FailingStreak++
		if health.FailingStreak >= s.Config.Health.Retries {
			health.Status = "unhealthy"
		}
	}
	s.State.Health = health
	s.mu.Unlock()
	s.writeState()
	if health.Status != old.Status {
		s.event("health_status: "+health.Status, nil)
	}
}
