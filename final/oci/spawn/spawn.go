//go:build linux

// Package spawn starts a process the way a container's needs it: born in its control
// group, joined to namespaces by descriptor (a user namespace too, which a process with
// several threads cannot join), and in new ones, before the first instruction of the
// program that it becomes.
//
// Go cannot run code between fork and exec: its threads do not survive the fork. So the
// child runs none but a list of system calls that was prepared before, with raw calls,
// on memory that is the copy of the parent's; that is what package syscall does itself,
// with a fixed list. The hooks into the runtime (which hold signals back meanwhile) are
// those that the Go project keeps stable for such packages: see "hall of shame" in
// runtime/proc.go.
package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// kind tells what the child does beside making the call.
type kind uint8

const (
	plain       kind = iota // the first error ends the list
	try                     // an error does not matter
	search                  // an execve: the next may be the right one
	await                   // read one byte; end of file means that the parent gave up
	reclone                 // clone once more; the first child ends
	openAs                  // its result becomes the descriptor of the number in the fifth argument
	attempt                 // an error does not matter, but is kept in mind
	otherwise               // only if the attempt before failed
	closeOthers             // close_range, but for the reports and the second argument
	survive                 // the next exec leaves the descriptor for reports open
	inside                  // getcwd: an answer that begins with / means inside of the root
)

type step struct {
	name string // of the call, for errors
	kind kind
	trap uintptr
	args [6]uintptr
	seen *byte // what inside looks at
}

// Plan is a list of what the child does. A Plan is used once.
type Plan struct {
	steps      []step
	keep       []any // memory that the steps point to
	flags      uintptr
	into       int // descriptor of a cgroup of version 2, or -1
	two        bool
	above      int           // numbers from here on are not the child's own
	trampoline int           // the file for ExecProtected, or 0
	spare      []*rawfd.File // copies that are ours, to close when the child is there
}

// Descriptor is an open file: an *os.File or an *rawfd.File.
type Descriptor interface {
	Fd() uintptr
	Name() string
}

// New returns a plan for a child in new namespaces (CLONE_NEW…, but for NEWTIME), born in
// the control group that the descriptor stands for; -1 for the parent's.
func New(flags uintptr, cgroupFD int) *Plan {
	return &Plan{flags: flags, into: cgroupFD}
}

// Call appends a system call; name is for its error.
func (p *Plan) Call(name string, trap uintptr, args ...uintptr) {
	p.add(name, plain, trap, args...)
}

// Try appends a system call whose error does not matter.
func (p *Plan) Try(name string, trap uintptr, args ...uintptr) { p.add(name, try, trap, args...) }

func (p *Plan) add(name string, k kind, trap uintptr, args ...uintptr) {
	s := step{name: name, kind: k, trap: trap}
	copy(s.args[:], args)
	p.steps = append(p.steps, s)
}

// Pointer returns the address of a string that ends with a zero byte, as an argument. The
// plan keeps it alive and, being on the heap, where it is.
func (p *Plan) Pointer(s string) uintptr {
	b := append([]byte(s), 0)
	p.keep = append(p.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Keep returns the address of the value that v points to, as an argument.
func Keep[T any](p *Plan, v *T) uintptr {
	p.keep = append(p.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// Either appends a system call that is made at once and, if that fails, again by
// Otherwise, later, when it must succeed.
func (p *Plan) Either(name string, trap uintptr, args ...uintptr) {
	p.add(name, attempt, trap, args...)
}

// Otherwise appends the second attempt.
func (p *Plan) Otherwise(name string, trap uintptr, args ...uintptr) {
	p.add(name, otherwise, trap, args...)
}

// CloseFrom appends that all descriptors from that one on are closed, now and not by exec:
// no path such as /proc/self/fd/7 leads to them any more.
func (p *Plan) CloseFrom(first int) {
	p.add("close_range", closeOthers, unix.SYS_CLOSE_RANGE, uintptr(first))
}

// KeepSlice returns the address of a slice's first element, as an argument; 0 if it has none.
func KeepSlice[T any](p *Plan, s []T) uintptr {
	if len(s) == 0 {
		return 0
	}
	p.keep = append(p.keep, s)
	return uintptr(unsafe.Pointer(&s[0]))
}

// Open appends a system call of at most four arguments whose result is a descriptor, and
// returns the number that it will have: one that is held free for it, since the number that
// the kernel gives cannot be known beforehand.
func (p *Plan) Open(name string, trap uintptr, args ...uintptr) (uintptr, error) {
	number, err := p.reserve(os.Stdin)
	if err != nil {
		return 0, err
	}
	p.add(name, openAs, trap, args...)
	p.steps[len(p.steps)-1].args[4] = number
	return number, nil
}

// WriteFile appends that the child writes a file below a folder.
func (p *Plan) WriteFile(folder Descriptor, path, value string) error {
	p.keep = append(p.keep, folder)
	number, err := p.Open("open "+path, unix.SYS_OPENAT, folder.Fd(), p.Pointer(path),
		unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.Call("write "+path, unix.SYS_WRITE, number, p.Pointer(value), uintptr(len(value)))
	p.Call("close", unix.SYS_CLOSE, number)
	return nil
}

// reserve makes a copy of a descriptor whose number is not one of the child's own.
func (p *Plan) reserve(f Descriptor) (uintptr, error) {
	number, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, p.above)
	if err != nil {
		return 0, &os.PathError{Op: "fcntl F_DUPFD_CLOEXEC", Path: f.Name(), Err: err}
	}
	p.spare = append(p.spare, rawfd.New(number, f.Name()))
	return uintptr(number), nil
}

// Close closes what the plan has opened.
func (p *Plan) Close() {
	for _, f := range p.spare {
		f.Close()
	}
	p.spare = nil
}

// Limit appends the setting of a resource limit.
func (p *Plan) Limit(name string, resource int, soft, hard uint64) {
	p.Call("rlimits: "+name, unix.SYS_PRLIMIT64, 0, uintptr(resource),
		Keep(p, &unix.Rlimit{Cur: soft, Max: hard}), 0)
}

// Inside appends the check that the working directory is below the root.
func (p *Plan) Inside() {
	b := make([]byte, unix.PathMax)
	p.keep = append(p.keep, b)
	p.add("the working directory is outside of the root", inside, unix.SYS_GETCWD,
		uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	p.steps[len(p.steps)-1].seen = &b[0]
}

// Enter appends the step into a control group of version 1: tasks is open on its file.
func (p *Plan) Enter(tasks Descriptor) {
	p.keep = append(p.keep, tasks)
	p.Call("write 0 to "+tasks.Name(), unix.SYS_WRITE, tasks.Fd(), p.Pointer("0"), 1)
}

// Join appends setns(2). The types of namespaces may be 0 for "as the descriptor says".
func (p *Plan) Join(f Descriptor, types uintptr) {
	p.keep = append(p.keep, f)
	p.Call("setns "+f.Name(), unix.SYS_SETNS, f.Fd(), types)
}

// Unshare appends unshare(2).
func (p *Plan) Unshare(flags uintptr) { p.Call("unshare", unix.SYS_UNSHARE, flags) }

// Await appends that the child waits for a byte from r, whose writing end is the
// parent's alone.
func (p *Plan) Await(r Descriptor) {
	p.keep = append(p.keep, r)
	b := make([]byte, 1)
	p.keep = append(p.keep, b)
	p.add("wait for the parent", await, unix.SYS_READ, r.Fd(), uintptr(unsafe.Pointer(&b[0])), 1)
}

// Tell appends that the child writes a byte to w.
func (p *Plan) Tell(w Descriptor) {
	p.keep = append(p.keep, w)
	p.Call("write", unix.SYS_WRITE, w.Fd(), p.Pointer("x"), 1)
}

// Clone appends a second clone(2), after which the list goes on in the new process: a
// process that joined a pid namespace is not in it, its children are. Both are children
// of the caller of Start.
func (p *Plan) Clone(flags uintptr) {
	p.two = true
	p.add("clone", reclone, unix.SYS_CLONE, flags|unix.CLONE_PARENT|uintptr(unix.SIGCHLD))
}

// Above says that descriptors below n are the child's own, before Descriptors does: numbers
// that are held free by Open, WriteFile and ExecProtected are from n on.
func (p *Plan) Above(n int) { p.above = max(p.above, n) }

// Descriptors appends that the child has these as 0, 1, 2 …; CloseFrom or exec closes the
// others. The files may have any numbers: copies out of the way are made before the fork.
func (p *Plan) Descriptors(files []Descriptor) error {
	p.above = max(p.above, len(files))
	var copies []uintptr
	for _, f := range files {
		number, err := p.reserve(f)
		if err != nil {
			return err
		}
		copies = append(copies, number)
	}
	for i, number := range copies {
		p.Call("dup3", unix.SYS_DUP3, number, uintptr(i), 0)
	}
	p.Call("close_range", unix.SYS_CLOSE_RANGE, uintptr(len(files)), ^uintptr(0)>>33,
		unix.CLOSE_RANGE_CLOEXEC)
	return nil
}

// Exec appends execve(2) of the first path that is there.
func (p *Plan) Exec(paths, args, env []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return fmt.Errorf("an argument with a zero byte: %w", err)
	}
	envv, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return fmt.Errorf("an environment variable with a zero byte: %w", err)
	}
	p.keep = append(p.keep, argv, envv)
	for _, path := range paths {
		p.add("execve "+path, search, unix.SYS_EXECVE, p.Pointer(path),
			uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
	}
	return nil
}

// ExecFD appends execveat(2) of a file by its descriptor.
func (p *Plan) ExecFD(f Descriptor, args, env []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	p.keep = append(p.keep, argv, envv, f)
	p.add("execveat", search, unix.SYS_EXECVEAT, f.Fd(), p.Pointer(""),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH)
	return nil
}

// Error is the failure of one of the child's steps.
type Error struct {
	Step  string
	Errno syscall.Errno
}

func (e *Error) Error() string { return e.Step + ": " + e.Errno.Error() }

// Unwrap returns the error number.
func (e *Error) Unwrap() error { return e.Errno }

// Child is a child that was started.
type Child struct {
	Pid    int
	plan   *Plan
	first  int
	report *rawfd.File
}

// cloneArgs is struct clone_args of linux/sched.h.
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls uint64
	setTid, setTidSize, cgroup                                           uint64
}

// Start starts the child. It goes through its list while the parent goes on; Wait says how
// that went. Whatever the steps point to must not move: call from a goroutine that has
// not given anything of its stack to the plan.
func (p *Plan) Start() (*Child, error) {
	defer p.Close()
	r, pipe, err := rawfd.Pipe()
	if err != nil {
		return nil, err
	}
	defer pipe.Close()
	report, err := p.reserve(pipe)
	if err != nil {
		r.Close()
		return nil, err
	}
	args := &cloneArgs{flags: uint64(p.flags), exitSignal: uint64(unix.SIGCHLD)}
	if p.into >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(p.into)
	}
	if p.trampoline > 0 {
		if err := p.writeTrampoline(report); err != nil {
			r.Close()
			return nil, err
		}
	}
	for i := range p.steps {
		if s := &p.steps[i]; s.kind == closeOthers {
			if s.args[1] = report; p.trampoline > 0 {
				s.args[1] = uintptr(p.trampoline)
			}
		}
	}
	if p.shares() {
		args.flags |= unix.CLONE_VM | unix.CLONE_VFORK
	}
	message := make([]byte, 8)
	pid, errno := p.fork(args, report, message)
	runtime.KeepAlive(p)
	runtime.KeepAlive(args)
	if errno != 0 {
		r.Close()
		return nil, &Error{"clone", errno}
	}
	c := &Child{Pid: pid, plan: p, first: pid, report: r}
	if p.two {
		return c, nil // the second one's number comes with Second
	}
	return c, nil
}

// shares says whether the child may use this process's memory, and this thread wait until it
// has executed its program: nothing is copied then. Not if the child waits for the parent;
// nor for an ordinary user, whose own files in /proc the child's PR_SET_DUMPABLE would close
// to this process as well. That prctl comes before the child is in a pid namespace with
// others, who may not look at this process's memory: see Clone. And a time namespace is
// joined only by a process whose memory is its own.
func (p *Plan) shares() bool {
	return os.Geteuid() == 0 && !slices.ContainsFunc(p.steps, func(s step) bool {
		time := s.trap == unix.SYS_SETNS && (s.args[1] == 0 || s.args[1]&unix.CLONE_NEWTIME != 0)
		return time || s.kind == await
	})
}

// fork is the fork itself. beforeFork keeps this goroutine on its thread, without signals.
func (p *Plan) fork(args *cloneArgs, report uintptr, message []byte) (int, syscall.Errno) {
	trap, a1, a2 := uintptr(unix.SYS_CLONE), uintptr(args.flags)|uintptr(unix.SIGCHLD), uintptr(0)
	if args.flags&unix.CLONE_INTO_CGROUP != 0 {
		trap, a1, a2 = unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args)
	}
	syscall.ForkLock.Lock()
	beforeFork()
	pid, errno := clone(trap, a1, a2, p.steps, report, message)
	afterFork()
	syscall.ForkLock.Unlock()
	return int(pid), syscall.Errno(errno)
}

// vfork makes one of the two calls of clone(2) such that the child may have the same stack.
func vfork(trap, a1, a2 uintptr) (pid, errno uintptr)

// clone returns in the parent alone. The child may be on the same stack, below which the
// parent waits: it must not change a variable here.
//
//go:norace
//go:noinline
//go:nosplit
func clone(
	trap, a1, a2 uintptr, steps []step, report uintptr, message []byte,
) (pid, errno uintptr) {
	pid, errno = vfork(trap, a1, a2)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	afterForkInChild()
	walk(steps, report, message)
	return 0, 0
}

// walk makes the calls. It runs in the child, where there is no runtime: nothing in it
// may allocate, grow the stack or block on anything but the kernel.
//
//go:norace
//go:nosplit
func walk(steps []step, report uintptr, message []byte) {
	var errno syscall.Errno
	failed := false
	i := 0
	for ; i < len(steps); i++ {
		s := &steps[i]
		var r uintptr
		if s.kind == closeOthers {
			first, kept, other := s.args[0], report, s.args[1]
			if other < kept {
				kept, other = other, kept
			}
			syscall.RawSyscall6(s.trap, first, kept-1, 0, 0, 0, 0)
			syscall.RawSyscall6(s.trap, kept+1, other-1, 0, 0, 0, 0)
			syscall.RawSyscall6(s.trap, other+1, ^uintptr(0)>>33, 0, 0, 0, 0)
			continue
		}
		if s.kind == survive {
			s.args[0] = report
		}
		if s.kind == otherwise && !failed {
			continue
		}
		for {
			r, _, errno = syscall.RawSyscall6(s.trap,
				s.args[0], s.args[1], s.args[2], s.args[3], s.args[4], s.args[5])
			if errno != syscall.EINTR {
				break
			}
		}
		switch s.kind {
		case plain, otherwise, survive:
			if errno != 0 {
				goto end
			}
		case try:
		case attempt:
			failed = errno != 0
		case openAs:
			if errno != 0 {
				goto end
			}
			_, _, errno = syscall.RawSyscall6(unix.SYS_DUP3, r, s.args[4], unix.O_CLOEXEC, 0, 0, 0)
			if errno != 0 {
				goto end
			}
			syscall.RawSyscall6(unix.SYS_CLOSE, r, 0, 0, 0, 0, 0)
		case search:
			last := i+1 == len(steps) || steps[i+1].kind != search
			if last || errno != syscall.ENOENT && errno != syscall.EACCES && errno != syscall.ENOTDIR {
				goto end
			}
		case await:
			if errno == 0 && r == 0 {
				errno = syscall.ECANCELED
			}
			if errno != 0 {
				goto end
			}
		case inside:
			if errno == 0 && *s.seen != '/' {
				errno = syscall.EACCES
			}
			if errno != 0 {
				goto end
			}
		case reclone:
			if errno != 0 {
				goto end
			}
			if r != 0 { // the number of the one that goes on
				put(message, 0xffff, uint32(r))
				syscall.RawSyscall6(unix.SYS_WRITE, report, uintptr(unsafe.Pointer(&message[0])), 8, 0, 0, 0)
				for {
					syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
				}
			}
		}
	}
	i--
end:
	put(message, uint32(i), uint32(errno))
	syscall.RawSyscall6(unix.SYS_WRITE, report, uintptr(unsafe.Pointer(&message[0])), 8, 0, 0, 0)
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 125, 0, 0, 0, 0, 0)
	}
}

//go:norace
//go:nosplit
func put(b []byte, x, y uint32) {
	b[0], b[1], b[2], b[3] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
	b[4], b[5], b[6], b[7] = byte(y), byte(y>>8), byte(y>>16), byte(y>>24)
}

// Second waits for the number of the process that the plan's Clone made, and reaps the
// first one. Pid is the second's from then on.
func (c *Child) Second() error {
	if !c.plan.two || c.Pid != c.first {
		return nil
	}
	i, value, err := c.read()
	if errors.Is(err, io.EOF) {
		err = errors.New("the child ended before its second clone")
	}
	if err != nil {
		c.report.Close()
		c.reap(c.first)
		return err
	}
	if i != 0xffff {
		c.report.Close()
		c.reap(c.first)
		return &Error{c.plan.stepName(i), syscall.Errno(value)}
	}
	c.Pid = int(value)
	c.reap(c.first)
	return nil
}

func (c *Child) reap(pid int) {
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

func (c *Child) read() (uint32, uint32, error) {
	var message [8]byte
	if _, err := io.ReadFull(c.report, message[:]); err != nil {
		return 0, 0, err
	}
	return binary.LittleEndian.Uint32(message[:]), binary.LittleEndian.Uint32(message[4:]), nil
}

// Wait waits until the child has executed its program, and returns the error of the step
// that failed, if one did; the child is reaped then.
func (c *Child) Wait() error {
	if err := c.Second(); err != nil {
		return err
	}
	defer c.report.Close()
	i, value, err := c.read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	c.reap(c.Pid)
	return &Error{c.plan.stepName(i), syscall.Errno(value)}
}

// trampolineStep is the number of a step that the trampoline reports.
const trampolineStep = 0xfffe

// stepName is the name of a step that was reported, by whomever.
func (p *Plan) stepName(i uint32) string {
	switch {
	case int(i) < len(p.steps):
		return p.steps[i].name
	case i == trampolineStep:
		return "execve"
	}
	return "an unknown step"
}
