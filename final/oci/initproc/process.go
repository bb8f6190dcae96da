//go:build linux

package initproc

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
)

// finish makes this process the container's own: what can fail first, what cannot be
// undone last. It returns only if that failed.
func (c *container) finish() error {
	p := c.Spec.Process
	if p == nil { // which only start is to complain about
		if err := c.awaitStart(); err != nil {
			return err
		}
		return errors.New("config.json has no process to start")
	}
	if p.OOMScoreAdj != nil {
		if err := c.writeProc("self/oom_score_adj", fmt.Sprint(*p.OOMScoreAdj)); err != nil {
			return fmt.Errorf("oomScoreAdj: %w", err)
		}
	}
	if err := SetScheduling(p); err != nil {
		return err
	}
	if err := c.setPersonality(); err != nil {
		return err
	}
	if err := c.setMemoryPolicy(); err != nil {
		return err
	}
	if err := c.setLabels(p); err != nil {
		return err
	}
	if c.slave != nil {
		if err := c.takeTerminal(); err != nil {
			return err
		}
	}
	if p.User.Umask != nil {
		c.umask = int(*p.User.Umask)
	}
	unix.Umask(c.umask)
	if err := chdir(p.Cwd); err == nil {
		c.inCwd = true
	} else if !errors.Is(err, unix.EACCES) {
		return err // what root may not enter (of a user namespace), the user perhaps may
	}
	if err := c.addHome(); err != nil {
		return err
	}
	path, err := LookPath(p.Args[0], p.Env)
	if err != nil {
		return &programError{err}
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	own, err := OwnCapabilities()
	if err != nil {
		return err
	}
	sets, warning := NewCapabilitySets(p.Capabilities, own)
	if warning != "" {
		c.send(Message{Type: "warning", Error: warning})
	}
	if err := c.awaitStart(); err != nil {
		return err
	}
	return c.become(path, p, sets)
}

// become drops privileges, runs the startContainer hooks and executes the process. What the hooks
// are is the image's to say: they may do no more than the process, and have its environment.
func (c *container) become(path string, p *specs.Process, sets *CapabilitySets) error {
	if err := sets.dropBounding(); err != nil {
		return err
	}
	if !p.NoNewPrivileges && c.Filter != nil {
		if err := c.Filter.Load(); err != nil { // while there is CAP_SYS_ADMIN
			return err
		}
	}
	if err := c.setUser(&p.User); err != nil {
		return err
	}
	if !c.inCwd {
		if err := chdir(p.Cwd); err != nil {
			return err
		}
	}
	if err := sets.apply(); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS", err)
		}
		if c.Filter != nil {
			if err := c.Filter.Load(); err != nil {
				return err
			}
		}
	}
	if c.Spec.Hooks != nil {
		hooks := c.Spec.Hooks.StartContainer
		err := c.runHooks("startContainer", hooks, "", p.Env, specs.StateCreated)
		if err != nil {
			return err
		}
	}
	if err := setLimits(p.Rlimits); err != nil { // they are the process's, not the hooks'
		return err
	}
	if err := unix.Exec(path, p.Args, p.Env); err != nil {
		return &programError{&os.PathError{Op: "exec", Path: path, Err: err}}
	}
	return nil
}

// programError is an error of the program that was to be executed, not of the container.
type programError struct{ error }

func (e *programError) Unwrap() error { return e.error }

// ProgramStatus is the exit status that a shell gives for an error of executing a program: 127 if
// there is none, 126 if it cannot be executed.
func ProgramStatus(err error) int {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return 127
	}
	return 126
}

// setLimits sets resource limits of this process.
func setLimits(limits []specs.POSIXRlimit) error {
	for _, l := range limits {
		resource, err := Resource(l)
		if err != nil {
			return err
		}
		limit := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		if err := unix.Prlimit(0, resource, &limit, nil); err != nil {
			return fmt.Errorf("rlimits: %s %d:%d: %w", l.Type, l.Soft, l.Hard, err)
		}
	}
	return nil
}

var resources = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE,
	"RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
	"RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_STACK": unix.RLIMIT_STACK,
}

// Resource checks a resource limit and returns its number: getrlimit(2).
func Resource(l specs.POSIXRlimit) (int, error) {
	n, ok := resources[l.Type]
	if !ok {
		return 0, fmt.Errorf("rlimits: type %q is unknown", l.Type)
	}
	if l.Soft > l.Hard {
		return 0, fmt.Errorf("rlimits: %s: soft %d is above hard %d", l.Type, l.Soft, l.Hard)
	}
	return n, nil
}

// SetScheduling sets the scheduler and the priority of input and output of this thread.
func SetScheduling(p *specs.Process) error {
	if p.Scheduler != nil {
		attr, err := SchedulerAttr(p.Scheduler)
		if err != nil {
			return err
		}
		if err := unix.SchedSetAttr(0, attr, 0); err != nil {
			return fmt.Errorf("scheduler: sched_setattr: %w", err)
		}
	}
	if p.IOPriority == nil {
		return nil
	}
	priority, err := IOPriority(p.IOPriority)
	if err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, 1, 0, uintptr(priority)); errno != 0 {
		return fmt.Errorf("ioPriority: ioprio_set: %w", errno)
	}
	return nil
}

// SchedulerAttr is process.scheduler as sched_setattr(2) takes it.
func SchedulerAttr(s *specs.Scheduler) (*unix.SchedAttr, error) {
	policies := map[specs.LinuxSchedulerPolicy]uint32{
		specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3,
		specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
	}
	flags := map[specs.LinuxSchedulerFlag]uint64{
		specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4,
		specs.SchedFlagKeepPolicy: 8, specs.SchedFlagKeepParams: 16,
		specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64,
	}
	policy, ok := policies[s.Policy]
	if !ok {
		return nil, fmt.Errorf("scheduler: policy %q is unknown", s.Policy)
	}
	attr := &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}
	for _, f := range s.Flags {
		bit, ok := flags[f]
		if !ok {
			return nil, fmt.Errorf("scheduler: flag %q is unknown", f)
		}
		attr.Flags |= bit
	}
	return attr, nil
}

// IOPriority is process.ioPriority as ioprio_set(2) takes it.
func IOPriority(io *specs.LinuxIOPriority) (int, error) {
	classes := map[specs.IOPriorityClass]int{
		specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3,
	}
	class, ok := classes[io.Class]
	if !ok || io.Priority < 0 || io.Priority > 7 {
		return 0, fmt.Errorf("ioPriority: class %q, priority %d: want IOPRIO_CLASS_RT, _BE or _IDLE "+
			"and 0 to 7", io.Class, io.Priority)
	}
	return class<<13 | io.Priority, nil
}

// Personality is linux.personality as personality(2) takes it.
func Personality(p *specs.LinuxPersonality) (uintptr, error) {
	domain := uintptr(0)
	switch p.Domain {
	case specs.PerLinux:
	case specs.PerLinux32:
		domain = 8
	default:
		return 0, fmt.Errorf("personality %q: want LINUX or LINUX32", p.Domain)
	}
	if len(p.Flags) > 0 {
		return 0, fmt.Errorf("personality: flags %v are not supported", p.Flags)
	}
	return domain, nil
}

func (c *container) setPersonality() error {
	if c.Spec.Linux.Personality == nil {
		return nil
	}
	domain, err := Personality(c.Spec.Linux.Personality)
	if err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, domain, 0, 0); errno != 0 {
		return os.NewSyscallError("personality", errno)
	}
	return nil
}

// setLabels asks for the labels that the process is to have after exec.
func (c *container) setLabels(p *specs.Process) error {
	if p.ApparmorProfile != "" {
		err := c.writeProc("thread-self/attr/apparmor/exec", "exec "+p.ApparmorProfile)
		if errors.Is(err, fs.ErrNotExist) {
			err = c.writeProc("thread-self/attr/exec", "exec "+p.ApparmorProfile)
		}
		if err != nil {
			return fmt.Errorf("apparmorProfile %q (does this kernel have AppArmor, and the profile?): %w",
				p.ApparmorProfile, err)
		}
	}
	if p.SelinuxLabel != "" {
		if err := c.writeProc("thread-self/attr/exec", p.SelinuxLabel); err != nil {
			return fmt.Errorf("selinuxLabel %q (does this kernel have SELinux?): %w", p.SelinuxLabel, err)
		}
	}
	return nil
}

// takeTerminal makes the slave standard input, output and error, and the terminal that
// controls this session.
func (c *container) takeTerminal() error {
	fd := int(c.slave.Fd())
	if err := unix.IoctlSetInt(fd, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	for i := range 3 {
		if err := unix.Dup3(fd, i, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return nil
}

// chdir goes into the working directory, and sees that it is in the container: a
// descriptor of the host would be the way to one that is not (CVE-2024-21626).
func chdir(path string) error {
	if err := unix.Chdir(path); err != nil {
		return &os.PathError{Op: "chdir to process.cwd", Path: path, Err: err}
	}
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buffer)
	if err != nil || n < 1 || buffer[0] != '/' {
		return fmt.Errorf("process.cwd %q is outside of the container's root", path)
	}
	return nil
}

// LookPath finds the program along the PATH of the process's own environment.
func LookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, checkExecutable(name)
	}
	var last error
	for _, path := range SearchPath(name, env) {
		err := checkExecutable(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && last == nil {
			last = err
		}
	}
	if last != nil {
		return "", last
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH: %w", name, unix.ENOENT)
}

// SearchPath lists where a program may be: one path if its name has a slash.
func SearchPath(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path := ""
	for _, e := range env {
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			path = p
		}
	}
	var all []string
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		all = append(all, dir+"/"+name)
	}
	return all
}

func checkExecutable(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = &os.PathError{Op: "exec", Path: path, Err: unix.EISDIR}
	}
	if err == nil && info.Mode()&0o111 == 0 {
		err = &os.PathError{Op: "exec", Path: path, Err: unix.EACCES}
	}
	return err
}

// awaitStart says that all is ready, and waits for the start: through the socket if this
// is a run, through the FIFO after a create. What goes wrong afterwards is written there,
// and nothing else: that the other side is closed, by exec, means that all went well.
func (c *container) awaitStart() error {
	cgroup.Forget() // from here on it may be a long time
	c.send(Message{Type: "ready"})
	fifo := 3 + c.Preserve + FIFOFD
	var st unix.Stat_t
	if err := unix.Fstat(fifo, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		if err := c.receive("start"); err != nil {
			return err
		}
		return c.closeOthers()
	}
	c.socket.Close()
	path := fmt.Sprintf("self/fd/%d", fifo)
	for {
		fd, err := unix.Openat(int(c.procfs.Fd()), path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: "the start FIFO", Err: err}
		}
		unix.Close(fifo)
		c.startFIFO = fd
		break
	}
	return c.closeOthers()
}

// closeOthers sees to it that exec closes all but standard input, output and error and
// what the caller asked to preserve.
func (c *container) closeOthers() error {
	return os.NewSyscallError("close_range",
		unix.CloseRange(uint(3+c.Preserve), math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC))
}

// setUser changes to the user of the process. The capabilities are kept: apply takes those
// that are too many.
func (c *container) setUser(u *specs.User) error {
	for fd := range 3 {
		if ToBeGiven(fd, u) { // if not, the program can do with what it has inherited
			_ = unix.Fchown(fd, int(u.UID), int(u.GID))
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_KEEPCAPS", err)
	}
	if err := c.setgroups(u.AdditionalGids); err != nil {
		return err
	}
	// Of this thread: exec leaves no other.
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("setresgid %d (is it mapped?): %w", u.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("setresuid %d (is it mapped?): %w", u.UID, errno)
	}
	return os.NewSyscallError("prctl PR_SET_KEEPCAPS", unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0))
}

// ToBeGiven says whether a standard stream is to become the user's: a pipe is, or the program
// could not open it once more as /dev/stdout. Files and terminals of the machine stay whose they
// are.
func ToBeGiven(fd int, u *specs.User) bool {
	var st unix.Stat_t
	return u.UID != 0 && unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO &&
		st.Uid != u.UID
}

func (c *container) setgroups(gids []uint32) error {
	if c.setgroupsDenied {
		if len(gids) == 0 {
			return nil
		}
		return errors.New("additionalGids: an ordinary user's user namespace has no setgroups")
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gids)), pointer(gids), 0)
	if errno != 0 {
		return fmt.Errorf("setgroups %v: %w", gids, errno)
	}
	return nil
}

func pointer(gids []uint32) uintptr {
	if len(gids) == 0 {
		return 0
	}
	return uintptr(unsafe.Pointer(&gids[0]))
}
