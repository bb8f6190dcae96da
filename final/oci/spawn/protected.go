//go:build linux

package spawn

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// ExecProtected is Exec by way of a trampoline: a program of some forty instructions, in a
// sealed file that is in memory only and for this once. The child executes that first, and it
// the program, which then finds nothing of this program's in /proc/self/exe, be it a link to
// that itself (CVE-2019-5736).
//
// Two things are the caller's to see to: that a filter lets fcntl(2) pass, and that no label
// waits for the next execve(2).
func (p *Plan) ExecProtected(paths, args, env []string) error {
	file, err := memfd()
	if err != nil {
		return err
	}
	all := append(append(append([]string{}, paths...), ""), args...)
	argv, err := syscall.SlicePtrFromStrings(all)
	if err != nil {
		return fmt.Errorf("an argument with a zero byte: %w", err)
	}
	envv, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return fmt.Errorf("an environment variable with a zero byte: %w", err)
	}
	p.keep = append(p.keep, argv, envv)
	// Out of the way of the child's own numbers, as the others are.
	number, err := p.reserve(file)
	file.Close()
	if err != nil {
		return err
	}
	p.trampoline = int(number)
	p.add("keep the report", survive, unix.SYS_FCNTL, 0, unix.F_SETFD, 0)
	p.add("execveat", search, unix.SYS_EXECVEAT, number, p.Pointer(""),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH)
	return nil
}

// memfd makes a file that may be executed, whatever vm.memfd_noexec is by default.
func memfd() (*rawfd.File, error) {
	const flags, executable = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING, 0x10 // MFD_EXEC
	fd, err := unix.MemfdCreate("trampoline", flags|executable)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("trampoline", flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return rawfd.New(fd, "trampoline"), nil
}

// writeTrampoline fills the file, when the descriptor for reports is known.
func (p *Plan) writeTrampoline(report uintptr) error {
	if _, err := unix.Write(p.trampoline, elf(uint32(report))); err != nil {
		return fmt.Errorf("write the trampoline: %w", err)
	}
	_, err := unix.FcntlInt(uintptr(p.trampoline), unix.F_ADD_SEALS,
		unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	return os.NewSyscallError("fcntl F_ADD_SEALS", err)
}
