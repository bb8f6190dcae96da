//go:build linux

package fsmount

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// inOneString makes an overlay by mount(2), for kernels that do not take its layers one at a time.
// That call always attaches; so it is made in a mount namespace of its own, and a copy of the mount
// taken out of there.
func (m *mount) inOneString() (*os.File, error) {
	var tree *os.File
	var err error
	onThreadOfItsOwn(func() { tree, err = m.apart() })
	return tree, err
}

// onThreadOfItsOwn runs f on a thread that ends with it: what f makes of the thread's namespaces
// and folders is nobody else's. It is never the process's first thread, which /proc/self is about.
func onThreadOfItsOwn(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so the thread ends
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		onThreadOfItsOwn(f) // this one waits meanwhile
		runtime.UnlockOSThread()
	}()
	<-done
}

func (m *mount) apart() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil { // which takes CLONE_FS with it
		return nil, os.NewSyscallError("unshare", err)
	}
	// Slaves, so that nothing shows outside; and what is unmounted outside is not held here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	data := m.text()
	if len(data) >= os.Getpagesize() {
		names, keep, err := descriptors(m.lower)
		defer keep()
		if err != nil {
			return nil, err
		}
		data = strings.Join(append([]string{"lowerdir=" + names}, m.data...), ",")
	}
	// Any folder will do to attach it, and this one is there.
	target := m.lower[0]
	var flags uintptr
	if m.set&unix.MOUNT_ATTR_RDONLY != 0 {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount(m.source, target, m.kind, flags, data); err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	return m.finish(fd)
}

// descriptors opens the folders and goes where their numbers are names, so that a hundred of them
// fit into a page.
func descriptors(folders []string) (string, func(), error) {
	var open []int
	keep := func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}
	var names []string
	for _, path := range folders {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", keep, &os.PathError{Op: "open", Path: path, Err: err}
		}
		open = append(open, fd)
		names = append(names, fmt.Sprint(fd))
	}
	err := unix.Chdir("/proc/thread-self/fd")
	return strings.Join(names, ":"), keep, os.NewSyscallError("chdir", err)
}

// messages are the kernel's own words about what a file system would not take: read(2) on fsopen's
// descriptor.
func messages(fs int) string {
	var all []string
	buf := make([]byte, 1024)
	for {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			return strings.Join(all, "; ")
		}
		// "e overlay: …" is an error, w a warning, i information.
		text := strings.TrimSpace(string(buf[:n]))
		if level, rest, ok := strings.Cut(text, " "); ok && len(level) == 1 {
			text = rest
		}
		all = append(all, text)
	}
}
