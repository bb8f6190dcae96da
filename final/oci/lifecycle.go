//go:build linux

package oci

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/oci/initproc"
)

// Start lets a created container's process run, and returns when it does.
func (r *Runtime) Start(id string) error {
	c, err := r.load(id, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer c.Close()
	if status := c.Status(); status != specs.StateCreated {
		return fmt.Errorf("cannot start container %q: it is %s", id, status)
	}
	if spec, err := c.spec(); err != nil || spec.Process == nil {
		return errors.Join(err, errors.New("config.json has no process to start"))
	}
	fd, err := unix.Open(c.fifo(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the start FIFO: %w", err)
	}
	fifo := os.NewFile(uintptr(fd), c.fifo())
	defer fifo.Close()
	message, err := c.startMessage(fd)
	if err != nil {
		return err
	}
	if err := os.Remove(c.fifo()); err != nil {
		return err
	}
	if len(message) > 0 {
		err := errors.New(string(message))
		if strings.HasPrefix(err.Error(), initproc.HookFailed("startContainer")) {
			return r.giveUp(c, err)
		}
		return err
	}
	if err := c.poststart(); err != nil {
		return r.giveUp(c, err)
	}
	return nil
}

// startMessage returns what init writes to the FIFO: it opens it now, and exec closes it, so
// that what comes in between is an error.
func (c *Container) startMessage(fd int) ([]byte, error) {
	var message []byte
	buffer := make([]byte, 4096)
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		ready, err := unix.Poll(poll, 100)
		if err != nil && err != unix.EINTR {
			return nil, os.NewSyscallError("poll", err)
		}
		// Look before reading: what it wrote before it ended is there then.
		ended := ready <= 0 && !c.alive()
		if ready <= 0 && !ended {
			continue
		}
		n, err := unix.Read(fd, buffer)
		switch {
		case n > 0:
			message = append(message, buffer[:n]...)
		case err == unix.EAGAIN || err == unix.EINTR:
		case ended && len(message) == 0:
			return nil, errors.New("the container's process ended before it was started")
		default:
			return message, nil
		}
	}
}

// giveUp ends a container of which a hook has failed: runtime.md, "Lifecycle", goes on at
// step 12 then, which is to destroy it.
func (r *Runtime) giveUp(c *Container, err error) error {
	c.Close()
	if failed := r.Delete(c.ID, true); failed != nil {
		return fmt.Errorf("%w; to undo it: %w", err, failed)
	}
	return err
}

// Kill sends a signal to the container's process, or to all of the container's.
func (r *Runtime) Kill(id string, sig unix.Signal, all bool) error {
	c, err := r.load(id, -1)
	if err != nil {
		return err
	}
	defer c.Close()
	if all {
		group, err := c.group()
		if err != nil {
			return err
		}
		if err := group.Signal(sig); err != nil {
			return err
		}
		if sig == unix.SIGKILL && group.Frozen() {
			return group.Freeze(false) // in version 1 a frozen process does not even die
		}
		return nil
	}
	status := c.Status()
	if status == specs.StateStopped && sig == unix.SIGKILL && c.killRest() {
		return nil
	}
	if status == specs.StateStopped || status == specs.StateCreating {
		return errNotRunning(id)
	}
	// A number alone could be another process's by now.
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if !c.alive() {
		return errNotRunning(id)
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return fmt.Errorf("signal container %q: %w", id, err)
	}
	if sig == unix.SIGKILL {
		spec, err := c.spec()
		if err != nil {
			return err
		}
		group, err := c.group()
		if err != nil {
			return err
		}
		// Without a pid namespace the others do not end with the first.
		if !hasNew(spec, specs.PIDNamespace) {
			if err := group.Signal(sig); err != nil {
				return err
			}
		}
		if status == "paused" {
			return group.Freeze(false)
		}
	}
	return nil
}

// killRest ends what is left in the control group when the first process is gone, which is so only
// without a pid namespace. It says whether there was anything.
func (c *Container) killRest() bool {
	spec, err := c.spec()
	if err != nil || hasNew(spec, specs.PIDNamespace) || len(c.CgroupShared) > 0 {
		return false
	}
	group, err := c.group()
	if err != nil {
		return false
	}
	pids, err := group.Pids()
	return err == nil && len(pids) > 0 && group.Signal(unix.SIGKILL) == nil
}

// errNotRunning has the words that containerd looks for.
func errNotRunning(id string) error { return fmt.Errorf("kill %q: container not running", id) }

func hasNew(spec *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == kind && ns.Path == "" {
			return true
		}
	}
	return false
}

// Delete removes what is left of a stopped container; with force also of one that runs,
// was killed in the middle of create, or is not there.
func (r *Runtime) Delete(id string, force bool) error {
	c, err := r.load(id, unix.LOCK_EX)
	if err != nil {
		if force && errors.Is(err, ErrNotExist) {
			return nil
		}
		return err
	}
	defer c.Close()
	status := c.Status()
	if status != specs.StateStopped && !force {
		return fmt.Errorf("cannot delete container %q: it is %s (use kill, or --force)", id, status)
	}
	if status != specs.StateStopped || c.alive() {
		if err := c.end(); err != nil {
			return err
		}
	}
	return c.destroy()
}

// end kills all of the container's processes and waits until the first has ended.
func (c *Container) end() error {
	group, err := c.group()
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err == nil {
		defer unix.Close(fd)
		if c.alive() {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
	if len(c.CgroupShared) == 0 { // the others in there are not the container's
		if err := group.Signal(unix.SIGKILL); err != nil {
			return err
		}
	}
	if group.Frozen() {
		if err := group.Freeze(false); err != nil {
			return err
		}
	}
	for limit := time.Now().Add(10 * time.Second); c.alive(); {
		if time.Now().After(limit) {
			return fmt.Errorf("process %d of container %q does not end", c.Pid, c.ID)
		}
		if fd >= 0 {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// destroy removes the control group and the folder, and runs the poststop hooks.
func (c *Container) destroy() error {
	if err := c.removeGroup(); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir()); err != nil {
		return err
	}
	c.poststop()
	return nil
}

// removeGroup removes the control group where it was made for this container, with all that
// is left in it: a container without a pid namespace does not end with its first process.
func (c *Container) removeGroup() error {
	if c.CgroupPath == "" {
		return nil
	}
	group, err := cgroup.Open(c.CgroupPath)
	if err != nil {
		return err
	}
	group.Without(c.CgroupShared)
	if err := group.Signal(unix.SIGKILL); err != nil {
		return err
	}
	return group.Remove()
}

// Pause stops all processes of a container, or lets them go on.
func (r *Runtime) Pause(id string, pause bool) error {
	c, err := r.load(id, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer c.Close()
	status := c.Status()
	if pause && status != specs.StateRunning && status != specs.StateCreated {
		return fmt.Errorf("cannot pause container %q: it is %s", id, status)
	}
	if !pause && status != "paused" {
		return fmt.Errorf("cannot resume container %q: it is %s", id, status)
	}
	group, err := c.group()
	if err != nil {
		return err
	}
	return group.Freeze(pause)
}

// Update changes limits of a container.
func (r *Runtime) Update(id string, change func(*specs.LinuxResources) error) error {
	c, err := r.load(id, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer c.Close()
	if c.Status() == specs.StateStopped {
		return fmt.Errorf("cannot update container %q: it is stopped", id)
	}
	group, err := c.group()
	if err != nil {
		return err
	}
	var resources specs.LinuxResources
	if err := change(&resources); err != nil {
		return err
	}
	if err := group.Set(&resources); err != nil {
		return err
	}
	return group.SetDevices(resources.Devices)
}

// Pids are the processes of a container, by their numbers outside.
func (r *Runtime) Pids(id string) ([]int, error) {
	c, err := r.load(id, -1)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	return group.Pids()
}

// Stats are what a container uses.
func (r *Runtime) Stats(id string) (*cgroup.Stats, error) {
	c, err := r.load(id, -1)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if c.Status() == specs.StateStopped {
		return nil, fmt.Errorf("container %q is not running", id)
	}
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	return group.Stats(), nil
}

// OOMKilled says whether the kernel has killed a process of the container's for want of memory.
func (r *Runtime) OOMKilled(id string) bool {
	kills, err := r.OOMKills(id)
	return err == nil && kills > 0
}

// OOMKills is how many processes of the container's it has killed so.
func (r *Runtime) OOMKills(id string) (uint64, error) {
	c, err := r.load(id, -1)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	group, err := c.group()
	if err != nil {
		return 0, err
	}
	return group.OOMKills(), nil
}

// Wait waits for a process that this one has started, and returns the exit status as a
// shell has it.
func Wait(pid int) (int, error) {
	var ws unix.WaitStatus
	for {
		got, err := unix.Wait4(pid, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("wait4", err)
		}
		if got == pid && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		if got == pid {
			return ws.ExitStatus(), nil
		}
	}
}
