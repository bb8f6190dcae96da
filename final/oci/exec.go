//go:build linux

package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/oci/filelimit"
	"minidocker/final/oci/initproc"
	"minidocker/final/oci/seccomp"
	"minidocker/final/oci/spawn"
	"minidocker/final/rawfd"
)

// ExecOptions are those of exec.
type ExecOptions struct {
	Process       *specs.Process
	PidFile       string
	ConsoleSocket string
	PidfdSocket   string
	ConsolePlain  bool // as in Options
	// Groups are the control groups below the container's for it to be in, by controller of
	// version 1, or by "" for all.
	Groups map[string]string
	// Paused says that the container may be paused: the process then waits with it.
	Paused bool

	Stdio   []*os.File // the process's streams; nil: the caller's own
	Console *os.File   // the connected socket that ConsoleSocket would be the path of
}

// Process completes a process for exec: what it does not say is as in the container's own.
func (r *Runtime) Process(id string, change func(*specs.Process) error) (*specs.Process, error) {
	c, err := r.load(id, -1)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	spec, err := c.spec()
	if err != nil {
		return nil, err
	}
	p := spec.Process
	if p == nil {
		p = &specs.Process{Cwd: "/"}
	}
	if err := change(p); err != nil {
		return nil, err
	}
	if r.Reexec != nil && !spawnProtected(spec, p) {
		return p, r.Reexec()
	}
	return p, nil
}

// spawnProtected says whether spawn's ExecProtected will do, or the whole program must be
// protected.
func spawnProtected(spec *specs.Spec, p *specs.Process) bool {
	return spawn.HasTrampoline && p.ApparmorProfile == "" && p.SelinuxLabel == "" &&
		seccomp.Allows(spec.Linux.Seccomp, "fcntl")
}

// Exec starts one more process in a running container, and returns its number outside.
//
// There is no init in between: the child of the fork makes every call that is needed
// itself, and executes the program. It is in the container from its first call on, and
// what it has of the runtime are descriptors that exec closes.
func (r *Runtime) Exec(id string, opts ExecOptions) (int, error) {
	c, err := r.load(id, unix.LOCK_SH)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	status := c.Status()
	if status != specs.StateRunning && status != specs.StateCreated &&
		(status != "paused" || !opts.Paused) {
		return 0, fmt.Errorf("cannot exec in a %s container: %q", status, id)
	}
	spec, err := c.spec()
	if err != nil {
		return 0, err
	}
	if err := validateProcess(opts.Process); err != nil {
		return 0, err
	}
	filter, err := seccomp.Compile(spec.Linux.Seccomp)
	if err != nil {
		return 0, err
	}
	e := &execution{Container: c, opts: opts, spec: spec, filter: filter}
	defer e.close()
	if status == "paused" { // whoever lets it go on takes the lock, and this waits for that
		c.Close()
	}
	pid, err := e.start()
	if err != nil {
		return 0, err
	}
	if opts.PidfdSocket != "" {
		if err := sendPidfd(opts.PidfdSocket, pid); err != nil {
			return pid, err
		}
	}
	if opts.PidFile != "" {
		if err := writePidFile(opts.PidFile, pid); err != nil {
			return pid, err
		}
	}
	return pid, nil
}

// programError is an error of the child of exec: of the program, or of its folder and user.
type programError struct{ error }

func (e *programError) Unwrap() error { return e.error }

type execution struct {
	*Container
	opts   ExecOptions
	spec   *specs.Spec
	filter *seccomp.Program
	stdio  []spawn.Descriptor // from 0 on
	files  []io.Closer
}

func (e *execution) close() {
	for _, f := range e.files {
		f.Close()
	}
}

func (e *execution) start() (int, error) {
	p := e.opts.Process
	group, err := e.group()
	if err != nil {
		return 0, err
	}
	entrances, err := group.EntrancesBelow(e.opts.Groups)
	if err != nil {
		return 0, err
	}
	defer entrances.Close()
	plan := spawn.New(0, entrances.Into())
	defer plan.Close()
	if e.stdio, err = e.openStdio(); err != nil {
		return 0, err
	}
	// Limits and labels while there are the caller's rights, and its own /proc.
	if err := e.limits(plan); err != nil {
		return 0, err
	}
	if err := e.labels(plan); err != nil {
		return 0, err
	}
	// Nobody in the container may trace this process (CVE-2016-9962).
	plan.Call("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	affinity := p.ExecCPUAffinity
	if affinity == nil {
		affinity = &specs.CPUAffinity{}
	}
	if err := setAffinity(plan, affinity.Initial, nil); err != nil {
		return 0, err
	}
	for _, tasks := range entrances.Tasks {
		plan.Enter(tasks)
	}
	var final initproc.Mask
	if affinity.Initial == "" {
		final = initproc.EveryCPU()
	}
	if err := setAffinity(plan, affinity.Final, final); err != nil {
		return 0, err
	}
	init, flags, user, err := e.namespaces()
	if err != nil {
		return 0, err
	}
	plan.Join(init, flags)
	// No descriptor of the runtime's is there any more when the container can see the
	// process, or a path of the container's is followed (CVE-2024-21626).
	if err := plan.Descriptors(e.stdio); err != nil {
		return 0, err
	}
	plan.CloseFrom(len(e.stdio))
	if user {
		// Root of that namespace; the user of the process comes later.
		plan.Try("setgroups", unix.SYS_SETGROUPS, 0, 0)
		plan.Call("setresgid 0", unix.SYS_SETRESGID, 0, 0, 0)
		plan.Call("setresuid 0", unix.SYS_SETRESUID, 0, 0, 0)
	}
	plan.Clone(0) // into the pid namespace
	plan.Call("setsid", unix.SYS_SETSID)
	if p.Terminal {
		plan.Call("take the terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	if p.User.Umask != nil {
		plan.Call("umask", unix.SYS_UMASK, uintptr(*p.User.Umask))
	}
	if err := e.become(plan, user); err != nil {
		return 0, err
	}
	root, err := e.root()
	if err != nil {
		return 0, err
	}
	p.Env = initproc.WithHome(p.Env, root, p.User.UID)
	execute := plan.Exec
	if spawnProtected(e.spec, p) {
		execute = plan.ExecProtected
	}
	if err := execute(initproc.SearchPath(p.Args[0], p.Env), p.Args, p.Env); err != nil {
		return 0, err
	}
	child, err := plan.Start()
	if err != nil {
		return 0, err
	}
	if err := child.Wait(); err != nil {
		step := (*spawn.Error)(nil)
		executes := errors.As(err, &step) && strings.HasPrefix(step.Step, "execve")
		switch {
		case executes && step.Errno == unix.ENOENT && !strings.Contains(p.Args[0], "/"):
			err = fmt.Errorf("exec: %q: executable file not found in $PATH: %w", p.Args[0], err)
		case executes:
			err = &os.PathError{Op: "exec", Path: p.Args[0], Err: step.Errno}
		default:
			err = fmt.Errorf("exec %q: %w", p.Args[0], err)
		}
		return 0, &programError{err}
	}
	return child.Pid, nil
}

// setAffinity appends the choice of the processors that a process may run on: those of a list, or
// others if it is empty, and if there are any.
func setAffinity(plan *spawn.Plan, list string, others initproc.Mask) error {
	if list == "" {
		if others != nil { // by default the caller's would be left, also in another cpuset
			plan.Try("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, 0, uintptr(8*len(others)),
				spawn.KeepSlice(plan, others))
		}
		return nil
	}
	mask, err := initproc.ParseMask(list)
	if err != nil {
		return fmt.Errorf("process.execCPUAffinity: %w", err)
	}
	plan.Call("process.execCPUAffinity: sched_setaffinity "+list, unix.SYS_SCHED_SETAFFINITY, 0,
		uintptr(8*len(mask)), spawn.KeepSlice(plan, mask))
	return nil
}

// become appends what makes the child the process's user, with what that may do.
func (e *execution) become(plan *spawn.Plan, joinsUser bool) error {
	p := e.opts.Process
	sets, err := e.capabilities(joinsUser)
	if err != nil {
		return err
	}
	plan.Either("chdir "+p.Cwd, unix.SYS_CHDIR, plan.Pointer(p.Cwd))
	for n := 0; n <= sets.Last; n++ {
		if sets.Bounding&(1<<n) == 0 {
			plan.Call("prctl PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		}
	}
	if !p.NoNewPrivileges {
		e.seccomp(plan)
	}
	e.user(plan, sets)
	if p.NoNewPrivileges {
		plan.Call("prctl PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		e.seccomp(plan)
	}
	return nil
}

// capabilities are the process's sets. Whoever joins another user namespace has all of it.
func (e *execution) capabilities(joinsUser bool) (*initproc.CapabilitySets, error) {
	own, err := initproc.OwnCapabilities()
	if err != nil {
		return nil, err
	}
	if joinsUser {
		own = initproc.AllCapabilities
	}
	sets, warning := initproc.NewCapabilitySets(e.opts.Process.Capabilities, own)
	if warning != "" {
		e.runtime.Warn("%s", warning)
	}
	return sets, nil
}

// namespaces opens the container's process, whose namespaces are joined in one call:
// setns(2) with a pidfd, since Linux 5.8. Those that are this process's own anyway are
// left out: joining one's own user namespace is an error.
func (e *execution) namespaces() (*rawfd.File, uintptr, bool, error) {
	fd, err := unix.PidfdOpen(e.Pid, 0)
	if err != nil {
		return nil, 0, false, os.NewSyscallError("pidfd_open", err)
	}
	f := rawfd.New(fd, "the container's namespaces")
	e.files = append(e.files, f)
	if !e.alive() { // the number was another's, then
		return nil, 0, false, fmt.Errorf("container %q is not running", e.ID)
	}
	var flags uintptr
	user := false
	for kind, ns := range namespaceFlags {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", e.Pid, ns.file))
		if err != nil {
			if kind == specs.TimeNamespace {
				continue // since Linux 5.6
			}
			return nil, 0, false, err
		}
		// Not self: this thread may be in others than the process's first one.
		ours, err := os.Readlink("/proc/thread-self/ns/" + ns.file)
		if err != nil {
			return nil, 0, false, err
		}
		if theirs != ours {
			flags |= ns.flag
			user = user || kind == specs.UserNamespace
		}
	}
	if flags == 0 {
		flags = unix.CLONE_NEWNS // the same one: no harm
	}
	return f, flags, user, nil
}

// openStdio are the descriptors from 0 on: the caller's own, or a terminal that is opened in
// the container's devpts, on its own side, and whose master goes to the console socket.
func (e *execution) openStdio() ([]spawn.Descriptor, error) {
	if !e.opts.Process.Terminal {
		return e.runtime.streams(e.opts.Stdio), nil
	}
	if e.opts.ConsoleSocket == "" && e.opts.Console == nil {
		return nil, errors.New("a terminal needs a --console-socket, unless the caller has one itself")
	}
	slave, err := e.openTerminal()
	if err != nil {
		return nil, err
	}
	return []spawn.Descriptor{slave, slave, slave}, nil
}

// streams are the descriptors from 0 on that a process gets: those given or the caller's
// own, and those to preserve.
func (r *Runtime) streams(given []*os.File) []spawn.Descriptor {
	if given == nil {
		given = []*os.File{os.Stdin, os.Stdout, os.Stderr}
	}
	var files []spawn.Descriptor
	for _, f := range given {
		files = append(files, f)
	}
	for i := range r.Preserve {
		files = append(files, rawfd.New(3+i, "preserved"))
	}
	return files
}

// root opens the container's root.
func (e *execution) root() (*rawfd.File, error) {
	root, err := rawfd.Open(fmt.Sprintf("/proc/%d/root", e.Pid), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	e.files = append(e.files, root)
	return root, nil
}

// openTerminal opens a terminal of the container's devpts through its root, resolved
// beneath it, and sends the master's end away.
func (e *execution) openTerminal() (*rawfd.File, error) {
	root, err := e.root()
	if err != nil {
		return nil, err
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(int(root.Fd()), "dev/pts/ptmx", &how)
	if err != nil {
		return nil, fmt.Errorf("terminal: open /dev/pts/ptmx in the container: %w", err)
	}
	master := rawfd.New(fd, "master")
	defer master.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		return nil, errors.New("terminal: /dev/pts/ptmx in the container is not of a devpts")
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, fmt.Errorf("open the terminal's slave: %w", errno)
	}
	slave := rawfd.New(int(peer), "terminal")
	e.files = append(e.files, slave)
	if e.opts.ConsolePlain {
		if err := initproc.PlainTerminal(int(peer)); err != nil {
			return nil, err
		}
	}
	if size := e.opts.Process.ConsoleSize; size != nil {
		ws := &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
			return nil, fmt.Errorf("set the terminal's size: %w", err)
		}
	}
	socket := e.opts.Console
	if socket == nil {
		if socket, err = dial(e.opts.ConsoleSocket); err != nil {
			return nil, fmt.Errorf("console socket: %w", err)
		}
	}
	defer socket.Close()
	err = unix.Sendmsg(int(socket.Fd()), []byte("/dev/ptmx"), unix.UnixRights(fd), nil, 0)
	if err != nil {
		return nil, fmt.Errorf("send the terminal through the console socket: %w", err)
	}
	return slave, nil
}

// limits appends resource limits, scheduling and the preference of the out-of-memory
// killer, which are set while there is the right to.
func (e *execution) limits(plan *spawn.Plan) error {
	p := e.opts.Process
	if err := e.rlimits(plan); err != nil {
		return err
	}
	if err := e.scheduling(plan); err != nil {
		return err
	}
	if p.OOMScoreAdj != nil {
		return e.write(plan, "self/oom_score_adj", fmt.Sprint(*p.OOMScoreAdj))
	}
	return nil
}

// scheduling appends the scheduler and the priority of input and output, and the container's
// personality and memory policy.
func (e *execution) scheduling(plan *spawn.Plan) error {
	p := e.opts.Process
	if p.Scheduler != nil {
		attr, err := initproc.SchedulerAttr(p.Scheduler)
		if err != nil {
			return err
		}
		plan.Call("scheduler: sched_setattr", unix.SYS_SCHED_SETATTR, 0, spawn.Keep(plan, attr), 0)
	}
	if p.IOPriority != nil {
		priority, err := initproc.IOPriority(p.IOPriority)
		if err != nil {
			return err
		}
		plan.Call("ioPriority: ioprio_set", unix.SYS_IOPRIO_SET, 1, 0, uintptr(priority))
	}
	if e.spec.Linux.Personality != nil {
		domain, err := initproc.Personality(e.spec.Linux.Personality)
		if err != nil {
			return err
		}
		plan.Call("personality", unix.SYS_PERSONALITY, domain)
	}
	if e.spec.Linux.MemoryPolicy == nil {
		return nil
	}
	m, err := initproc.NewMemoryPolicy(e.spec.Linux.MemoryPolicy)
	if err != nil {
		return err
	}
	plan.Call("linux.memoryPolicy: set_mempolicy", unix.SYS_SET_MEMPOLICY, uintptr(m.Mode),
		spawn.KeepSlice(plan, m.Nodes), uintptr(m.Bits()))
	return nil
}

// rlimits appends the resource limits; that on open files is the caller's, which Go has raised.
func (e *execution) rlimits(plan *spawn.Plan) error {
	plan.Limit("RLIMIT_NOFILE", unix.RLIMIT_NOFILE, filelimit.Soft(), filelimit.Hard())
	for _, l := range e.opts.Process.Rlimits {
		resource, err := initproc.Resource(l)
		if err != nil {
			return err
		}
		plan.Limit(l.Type, resource, l.Soft, l.Hard)
	}
	return nil
}

// labels appends the wish for labels of AppArmor and SELinux.
func (e *execution) labels(plan *spawn.Plan) error {
	p := e.opts.Process
	if p.ApparmorProfile != "" {
		if _, err := os.Stat("/proc/self/attr/apparmor/exec"); err != nil {
			return fmt.Errorf("apparmorProfile %q: this kernel has no AppArmor", p.ApparmorProfile)
		}
		err := e.write(plan, "thread-self/attr/apparmor/exec", "exec "+p.ApparmorProfile)
		if err != nil {
			return err
		}
	}
	if p.SelinuxLabel != "" {
		if !selinuxEnabled() {
			return fmt.Errorf("selinuxLabel %q: this kernel has no SELinux", p.SelinuxLabel)
		}
		return e.write(plan, "thread-self/attr/exec", p.SelinuxLabel)
	}
	return nil
}

// write appends the write of a file of /proc. The child has another number than this
// process: it is the one to follow "self".
func (e *execution) write(plan *spawn.Plan, path, value string) error {
	proc, err := rawfd.Open("/proc", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	e.files = append(e.files, proc)
	return plan.WriteFile(proc, path, value)
}

// seccomp appends the filter.
func (e *execution) seccomp(plan *spawn.Plan) {
	if e.filter == nil {
		return
	}
	fprog := &struct {
		count  uint16
		filter uintptr
	}{uint16(len(e.filter.Instructions)), spawn.KeepSlice(plan, e.filter.Instructions)}
	plan.Call("seccomp", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(e.filter.Flags),
		spawn.Keep(plan, fprog))
}

// user appends the change to the process's user and capabilities.
func (e *execution) user(plan *spawn.Plan, sets *initproc.CapabilitySets) {
	u := e.opts.Process.User
	for i, f := range e.stdio[:min(3, len(e.stdio))] {
		if initproc.ToBeGiven(int(f.Fd()), &u) {
			plan.Try("fchown", unix.SYS_FCHOWN, uintptr(i), uintptr(u.UID), uintptr(u.GID))
		}
	}
	if e.opts.Process.Terminal && u.UID != 0 {
		plan.Try("fchown", unix.SYS_FCHOWN, 0, uintptr(u.UID), ^uintptr(0))
	}
	plan.Call("prctl PR_SET_KEEPCAPS", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	gids := spawn.KeepSlice(plan, u.AdditionalGids)
	if len(u.AdditionalGids) > 0 {
		plan.Call("setgroups", unix.SYS_SETGROUPS, uintptr(len(u.AdditionalGids)), gids)
	} else {
		plan.Try("setgroups", unix.SYS_SETGROUPS, 0, 0) // denied to an ordinary user's namespace
	}
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	plan.Call(fmt.Sprintf("setresgid %d (is it mapped?)", gid), unix.SYS_SETRESGID, gid, gid, gid)
	plan.Call(fmt.Sprintf("setresuid %d (is it mapped?)", uid), unix.SYS_SETRESUID, uid, uid, uid)
	plan.Call("prctl PR_SET_KEEPCAPS", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	cwd := e.opts.Process.Cwd
	plan.Otherwise("chdir "+cwd, unix.SYS_CHDIR, plan.Pointer(cwd))
	plan.Inside()
	header, data := initproc.Header(), sets.Data()
	plan.Call("capset", unix.SYS_CAPSET, spawn.Keep(plan, &header), spawn.Keep(plan, &data))
	plan.Try("prctl PR_CAP_AMBIENT", unix.SYS_PRCTL,
		unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for n := 0; n <= sets.Last; n++ {
		if sets.Ambient&(1<<n) != 0 {
			plan.Try("prctl PR_CAP_AMBIENT", unix.SYS_PRCTL,
				unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0)
		}
	}
}
