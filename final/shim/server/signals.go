//go:build linux

package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's: rt_sigaction(2).
type sigaction struct {
	handler  uintptr // 0 is SIG_DFL, 1 is SIG_IGN
	flags    uint64
	restorer uintptr
	mask     uint64
}

// unignore lets all signals do what they do by default. What a process ignores stays ignored in
// those that it starts: after nohup(1) a container would never hear of SIGHUP.
func unignore() {
	for sig := uintptr(1); sig <= 64; sig++ {
		var now sigaction
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0,
			uintptr(unsafe.Pointer(&now)), unsafe.Sizeof(now.mask), 0, 0)
		if errno != 0 || now.handler != 1 {
			continue
		}
		// Of those that cannot be changed, none is ignored.
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig,
			uintptr(unsafe.Pointer(&sigaction{})), 0, unsafe.Sizeof(now.mask), 0, 0)
	}
}
