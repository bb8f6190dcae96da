//go:build linux

// Package signals is for programs that pass the signals that they get on to a container.
package signals

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// later is when the rest is caught.
const later = 100 * time.Millisecond

// Catch catches the signals that people send, and those that are given, and a little later all
// others: Go asks a thread of its own about each, which takes 20 µs and two changes of threads,
// and there are 60. Nobody should wait for that at the start of a container. It is not undone: the
// program ends with what it passes signals on to.
func Catch(to chan<- os.Signal, more ...os.Signal) {
	signal.Notify(to, append(more, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGQUIT, unix.SIGTERM,
		unix.SIGUSR1, unix.SIGUSR2)...)
	time.AfterFunc(later, func() { signal.Notify(to) })
}
