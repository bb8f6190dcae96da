//go:build linux

package initproc

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// waitFor waits for a process for so many seconds, and ends it and its group then.
func waitFor(done <-chan error, seconds, pid int) error {
	select {
	case err := <-done:
		return err
	case <-time.After(time.Duration(seconds) * time.Second):
		_ = unix.Kill(-pid, unix.SIGKILL)
		if err := <-done; err == nil {
			return nil // it was just in time
		}
		return fmt.Errorf("it takes longer than %d s", seconds)
	}
}
