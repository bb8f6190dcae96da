//go:build linux

package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siPid is where si_pid is: behind si_signo, si_errno and si_code, aligned as a pointer is.
func siPid(info *unix.Siginfo) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(info), unsafe.Sizeof(uintptr(0))*2)
}
