//go:build linux

package engine

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// children are shims that this process has started and that outlive whoever asked for them. A
// command ends, and they become init's; in a daemon that stays they have to be waited for.
type children struct {
	mu   sync.Mutex
	pids map[int]bool
}

// leave is for a shim that nobody waits for.
func (e *Engine) leave(child *os.Process) {
	pid := child.Pid
	_ = child.Release() // a child's number is its own until it is waited for
	if reaped(pid) {
		return
	}
	e.left.mu.Lock()
	defer e.left.mu.Unlock()
	if e.left.pids == nil {
		e.left.pids = map[int]bool{}
	}
	e.left.pids[pid] = true
}

// Reap takes note of shims that have ended. A process that stays calls it at SIGCHLD: to wait in
// a goroutine for each would hold a thread for each.
func (e *Engine) Reap() {
	e.left.mu.Lock()
	defer e.left.mu.Unlock()
	for pid := range e.left.pids {
		if reaped(pid) {
			delete(e.left.pids, pid)
		}
	}
}

// reaped says whether a child has ended, and is waited for.
func reaped(pid int) bool {
	got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return got == pid || err == unix.ECHILD
}
