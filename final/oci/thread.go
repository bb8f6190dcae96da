//go:build linux

package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/oci/initproc"
	"minidocker/final/oci/spawn"
	"minidocker/final/rawfd"
)

// startByThread runs a container without an init, if it is one of those that most are: a
// thread of this process finishes it (see initproc.Finish), and the thread's child is its
// process. It says whether it has.
func (b *creation) startByThread() (bool, error) {
	o := b.opts
	if !o.Run || b.runtime.NoPivot || b.runtime.Rootless || b.runtime.NoCgroups || os.Geteuid() != 0 ||
		!initproc.ByThread(b.spec) || !spawnProtected(b.spec, b.spec.Process) {
		return false, nil
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and no unlocking: the thread ends with this function
		result <- b.onThread()
	}()
	err := <-result
	if errors.Is(err, initproc.ErrNotByThread) {
		return false, nil // nothing is left of it but the thread's, which is gone with it
	}
	if err != nil {
		return false, err
	}
	if b.PidStart, _, err = processStart(b.Pid); err != nil {
		return false, err
	}
	b.Creating = false
	if err := b.saveProcess(); err != nil {
		return false, err
	}
	if err := b.announce(); err != nil {
		return false, err
	}
	if err := b.poststart(); err != nil {
		b.hooked = true
		return false, err
	}
	return true, nil
}

// onThread is the thread's life. What it opens is in the machine's mounts until enter.
func (b *creation) onThread() error {
	entrances, err := b.group.Entrances()
	if err != nil {
		return err
	}
	defer entrances.Close()
	config, files, done, err := b.threadFiles()
	if err != nil {
		return err
	}
	defer done()
	newCgroup, err := b.enter()
	if err != nil {
		return err
	}
	prepared := b.prepareBeside()
	finished, err := initproc.Finish(config, b.spec, files)
	if err == nil {
		defer finished.Close()
	}
	notByThread := errors.Is(err, initproc.ErrNotByThread)
	if failed := <-prepared; failed != nil && (err == nil || notByThread) {
		return failed
	}
	if notByThread {
		if failed := b.keepNetwork(); failed != nil {
			return failed
		}
		return err
	}
	if err != nil {
		if initproc.IsProgramError(err) {
			return &initError{err.Error(), initproc.ProgramStatus(err)}
		}
		return err
	}
	plan := spawn.New(unix.CLONE_NEWPID, entrances.Into())
	defer plan.Close()
	if err := b.fillPlan(plan, entrances, finished, newCgroup); err != nil {
		return err
	}
	child, err := plan.Start()
	if err != nil {
		return err
	}
	if err := child.Wait(); err != nil {
		failed := (*spawn.Error)(nil)
		if errors.As(err, &failed) && failed.Step == "execve" {
			err = &os.PathError{Op: "exec", Path: finished.Path, Err: failed.Errno}
			return &initError{err.Error(), initproc.ProgramStatus(err)}
		}
		return err
	}
	b.Pid = child.Pid
	b.undo = append(b.undo, func() error { b.killInit(); return nil })
	return nil
}

// prepareBeside calls Prepare for the thread, which has the container's namespaces, and returns
// what tells its end.
func (b *creation) prepareBeside() <-chan error {
	prepared := make(chan error, 1)
	if b.opts.Prepare == nil {
		prepared <- nil
		return prepared
	}
	tid := unix.Gettid()
	go func() { prepared <- b.opts.Prepare(tid) }()
	return prepared
}

// keepNetwork lets init go on in the network namespace that Prepare has prepared.
func (b *creation) keepNetwork() error {
	if b.opts.Prepare == nil {
		return nil
	}
	b.opts.Prepare = nil
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type != specs.NetworkNamespace || ns.Path != "" {
			continue
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		b.undo = append(b.undo, f.Close)
		b.spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	return nil
}

// threadFiles opens what the container gets of the machine.
func (b *creation) threadFiles() (*initproc.Config, initproc.Files, func(), error) {
	var open []io.Closer
	done := func() {
		for _, f := range open {
			f.Close()
		}
	}
	config := &initproc.Config{
		ID: b.ID, Bundle: b.Bundle, Rootfs: b.Rootfs, CgroupPath: b.CgroupPath, Pivot: true,
		NewKeyring: !b.runtime.NoNewKeyring, Root: b.opts.Root != nil,
		ConsolePlain: b.opts.ConsolePlain,
	}
	if p := b.spec.Process; p.ConsoleSize == nil {
		p.ConsoleSize = b.opts.ConsoleSize
	}
	var files initproc.Files
	console := b.opts.Console
	if b.opts.ConsoleSocket != "" {
		var err error
		if console, err = dial(b.opts.ConsoleSocket); err != nil {
			return nil, files, done, fmt.Errorf("console socket: %w", err)
		}
	}
	if console != nil {
		open = append(open, console)
		config.Console, files.Console = true, console
	}
	if b.opts.Root != nil {
		files.Root = b.opts.Root
	}
	sources, places, err := b.openSources()
	if err != nil {
		return nil, files, done, err
	}
	config.Sources = places
	for _, f := range sources {
		open = append(open, f)
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3) // Finish closes it
		if err != nil {
			return nil, files, done, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
		}
		files.Trees = append(files.Trees, rawfd.New(fd, f.Name()))
	}
	return config, files, done, nil
}

// enter brings the thread into the container's namespaces, but for those of processes and
// control groups, which are the child's. It says whether there is a new one of the latter.
func (b *creation) enter() (newCgroup bool, err error) {
	var flags uintptr
	var joined []*rawfd.File
	for _, ns := range b.spec.Linux.Namespaces {
		switch {
		case ns.Path != "":
			f, err := openNamespace(ns)
			if err != nil {
				return false, err
			}
			defer f.Close()
			joined = append(joined, f)
		case ns.Type == specs.CgroupNamespace:
			newCgroup = true
		case ns.Type != specs.PIDNamespace:
			flags |= namespaceFlags[ns.Type].flag
		}
	}
	for _, f := range joined {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return false, fmt.Errorf("setns %s: %w", f.Name(), err)
		}
	}
	if err := unix.Unshare(int(flags)); err != nil {
		return false, os.NewSyscallError("unshare", err)
	}
	return newCgroup, nil
}

// fillPlan says what the child does: it goes into its control group, mounts /proc, takes
// what it is to have, gives up all else, and executes the program.
func (b *creation) fillPlan(
	plan *spawn.Plan, entrances *cgroup.Entrances, finished *initproc.Finished, newCgroup bool,
) error {
	p := b.spec.Process
	e := &execution{
		Container: b.Container, opts: ExecOptions{Process: p}, spec: b.spec, filter: b.filter,
	}
	streams := b.runtime.streams(b.opts.Stdio)
	if finished.Terminal != nil {
		for i := range 3 {
			streams[i] = finished.Terminal
		}
	}
	e.stdio = streams
	plan.Above(len(streams))
	for _, tasks := range entrances.Tasks {
		plan.Enter(tasks)
	}
	if err := setAffinity(plan, "", initproc.EveryCPU()); err != nil {
		return err
	}
	if newCgroup { // seen from the group that it is in by now
		plan.Unshare(unix.CLONE_NEWCGROUP)
	}
	plan.Call("setsid", unix.SYS_SETSID)
	if err := finished.MountProc(plan); err != nil {
		return err
	}
	if p.OOMScoreAdj != nil {
		err := plan.WriteFile(finished.Procfs, "self/oom_score_adj", fmt.Sprint(*p.OOMScoreAdj))
		if err != nil {
			return err
		}
	}
	if err := plan.Descriptors(streams); err != nil {
		return err
	}
	if finished.Terminal != nil {
		plan.Call("take the terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	plan.Call("umask", unix.SYS_UMASK, uintptr(finished.Umask))
	if err := e.rlimits(plan); err != nil {
		return err
	}
	if err := e.become(plan, false); err != nil {
		return err
	}
	return plan.ExecProtected([]string{finished.Path}, p.Args, p.Env)
}
