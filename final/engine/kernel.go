//go:build linux

package engine

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"minidocker/final/oci/initproc"
)

const oPath = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC

// boundCapabilities are those in this process's bounding set: nobody below it can have others.
var boundCapabilities = sync.OnceValue(func() []string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(status), "CapBnd:")
	digits, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	set, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return nil
	}
	var all []string
	for n, name := range initproc.Capabilities() {
		if set&(1<<n) != 0 {
			all = append(all, name)
		}
	}
	return all
})

// dupNonblock is a second descriptor of an open file, which does not block.
func dupNonblock(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl F_SETFL", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
