//go:build linux

package union

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Serve answers the kernel for a union, until it is mounted no more. device is a descriptor of
// /dev/fuse, which it takes. Somebody else mounts it, with this descriptor: before or soon; ready
// is called when it is mounted, and cancelled says that it will not be.
func Serve(o Options, device *os.File, ready func(), cancelled func() bool) error {
	u, err := Open(o)
	if err != nil {
		return err
	}
	defer u.Close() //nolint:errcheck // the mount has gone, nobody is there to hear it
	unix.Umask(0)   // modes are as the kernel says
	// It ends with the mount and not with a terminal or its session.
	signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGPIPE)
	for {
		mounted, err := isMounted(int(device.Fd()))
		if err != nil {
			return err
		}
		if mounted {
			break
		}
		if cancelled() {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	// The library owns a descriptor from now on, so it gets one of its own.
	fd, err := unix.FcntlInt(device.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err := errors.Join(err, device.Close()); err != nil {
		return err
	}
	server, err := fuse.NewServer(u.nodes(), fmt.Sprintf("/dev/fd/%d", fd), u.mountOptions())
	if err != nil {
		return fmt.Errorf("begin to serve the union: %w", err)
	}
	ready()
	server.Serve()
	return nil
}

// isMounted: poll(2) on a descriptor of /dev/fuse that is no mount's is an error.
func isMounted(fd int) (bool, error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := unix.Poll(poll, 0)
	if err != nil && err != unix.EINTR {
		return false, os.NewSyscallError("poll", err)
	}
	return poll[0].Revents&(unix.POLLERR|unix.POLLIN) == unix.POLLIN, nil
}

func (u *Union) mountOptions() *fuse.MountOptions {
	return &fuse.MountOptions{
		Logger: log.New(io.Discard, "", 0), MaxBackground: 64, MaxWrite: 1 << 20,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_RENAME_SWAP,
		// The kernel drops what it has read of a file that has changed, unless nobody else can.
		ExplicitDataCacheControl: u.cached,
	}
}

// nodes are what the kernel asks.
func (u *Union) nodes() fuse.RawFileSystem {
	timeout := time.Duration(0)
	if u.cached {
		timeout = time.Hour
	}
	return fs.NewNodeFS(&node{u: u}, &fs.Options{
		EntryTimeout: &timeout, AttrTimeout: &timeout, NegativeTimeout: &timeout,
		NullPermissions: true, RootStableAttr: &fs.StableAttr{Ino: 1},
		Logger: log.New(io.Discard, "", 0),
	})
}

// The descriptors of a process that serves a union, as package fuse starts it.
const (
	deviceFD  = 3
	controlFD = 4
)

// Main is the process that serves a union: it reads its options as JSON from descriptor 4, says
// "mounted" there, and answers the kernel on descriptor 3. The other end of 4 is closed when there
// is no more to wait for.
func Main() error {
	control := os.NewFile(controlFD, "control")
	var o Options
	if err := json.NewDecoder(control).Decode(&o); err != nil {
		return fmt.Errorf("read the union's options: %w", err)
	}
	err := Serve(o, os.NewFile(deviceFD, "/dev/fuse"), func() {
		_, _ = control.WriteString("mounted\n") // who asked may be gone already
		control.Close()
	}, func() bool { return hungUp(control) })
	if err != nil {
		_, _ = fmt.Fprintln(control, err)
	}
	return err
}

func hungUp(f *os.File) bool {
	poll := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLRDHUP}}
	_, err := unix.Poll(poll, 0)
	return (err == nil || errors.Is(err, unix.EINTR)) && poll[0].Revents != 0
}
