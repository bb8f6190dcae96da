//go:build linux

// Package filelimit keeps the soft limit on open files that this program was started
// with. Package syscall raises it when it is initialised; a container is to have the
// caller's.
//
// Packages are initialised in the order of their import paths once all that they import
// are, so that this one, which imports nothing at all, is before syscall: see "Program
// initialization" in the specification of Go. Hence the system call in assembly.
package filelimit

const resourceNofile = 7 // RLIMIT_NOFILE of asm-generic/resource.h

var limit = read()

// Soft is the limit that a process has.
func Soft() uint64 { return limit[0] }

// Hard is up to where it may raise it.
func Hard() uint64 { return limit[1] }

// read returns a struct rlimit64.
func read() [2]uint64 {
	var l [2]uint64
	if getrlimit(resourceNofile, &l) != 0 {
		return [2]uint64{1024, 4096} // as the kernel has it
	}
	return l
}

// getrlimit is prlimit64(0, resource, nil, limit); its result is 0 or an error number
// with a minus.
//
//go:noescape
func getrlimit(resource uintptr, limit *[2]uint64) int
