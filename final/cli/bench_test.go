//go:build linux

package cli

import "testing"

// What the command line costs of a run, without the engine.
func BenchmarkRun(b *testing.B) {
	s := newSession()
	for b.Loop() {
		s.run("run", "-d", "--rm", "-p", "8080:80", "-e", "A=1", "-v", "/a:/b", "-m", "64m", "--network", "front", "busybox", "true")
	}
}

func BenchmarkPs(b *testing.B) {
	s := newSession()
	for b.Loop() {
		s.run("ps")
	}
}
