//go:build linux

// Package netns runs functions in other network namespaces: network_namespaces(7).
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs f in the network namespace ns, an open file as /proc/PID/ns/net. Only the thread that
// runs f is in there: a goroutine that f starts is not. A socket stays in the namespace in which it
// was opened, and /proc/sys/net is that of the thread.
func Do(ns *os.File, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer home.Close()
		if err := set(ns); err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		err = f()
		back := set(home)
		if back == nil {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
		result <- errors.Join(err, back)
	}()
	return <-result
}

func set(ns *os.File) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %q: setns: %w", ns.Name(), err)
	}
	return nil
}
