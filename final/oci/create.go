//go:build linux

package oci

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/oci/filelimit"
	"minidocker/final/oci/initproc"
	"minidocker/final/oci/quickjson"
	"minidocker/final/oci/seccomp"
	"minidocker/final/oci/spawn"
	"minidocker/final/rawfd"
)

// Options are those of create and run.
type Options struct {
	Bundle string // folder with config.json
	// ConfigFile is another name for config.json, below the bundle unless it is absolute.
	ConfigFile string
	// Config is config.json's text if it is not to be read from the bundle.
	Config        []byte
	PidFile       string
	ConsoleSocket string // path of a unix socket that the terminal's master goes to
	PidfdSocket   string // path of one that a pidfd of the process goes to
	// ConsoleSize is the terminal's size if config.json has none.
	ConsoleSize *specs.Box
	// ConsolePlain leaves the ends of lines as the process writes them.
	ConsolePlain bool
	// Env are variables for the process beside those of config.json.
	Env []string
	// Run starts the container at once; Start is not called then.
	Run bool

	// Stdio are the process's streams; nil: the caller's own.
	Stdio []*os.File
	// Console is the connected socket that ConsoleSocket would be the path of.
	Console *os.File
	// Root is a mount that is attached nowhere (see fsmount.New): it becomes the root. It is
	// mounted at root.path, in the container's mount namespace only.
	Root *os.File
	// Trees are the sources of bind mounts, by their destinations, where they are mounts that are
	// attached nowhere.
	Trees map[string]*os.File
	// Prepare is called when the process is in its namespaces, which have nothing in them yet:
	// what it fails with ends the creation.
	Prepare func(pid int) error
}

// configFile is the path of config.json.
func (o *Options) configFile() string {
	switch {
	case o.ConfigFile == "":
		return filepath.Join(o.Bundle, "config.json")
	case filepath.IsAbs(o.ConfigFile):
		return o.ConfigFile
	}
	return filepath.Join(o.Bundle, o.ConfigFile)
}

// WantsTerminal says whether the configuration, which may yet be wrong, asks for a terminal.
func (o *Options) WantsTerminal() bool {
	var spec struct{ Process struct{ Terminal bool } }
	data, err := rawfd.ReadFile(o.configFile())
	return err == nil && quickjson.Unmarshal(data, &spec) == nil && spec.Process.Terminal
}

// creation is a container in the making. undo holds what is to be undone if it fails, in
// the order in which it was done.
type creation struct {
	*Container
	opts   Options
	spec   *specs.Spec
	text   []byte // of config.json
	group  *cgroup.Group
	filter *seccomp.Program
	socket *rawfd.File
	lines  *bufio.Reader
	undo   []func() error
	hooked bool // hooks have run, or tried to
}

// Create makes a container, up to its process, which waits for Start. On failure all is
// undone in reverse.
func (r *Runtime) Create(id string, opts Options) (*Container, error) {
	b := &creation{opts: opts}
	c, err := b.create(r, id)
	if err != nil {
		for i := len(b.undo) - 1; i >= 0; i-- {
			if failed := b.undo[i](); failed != nil {
				err = fmt.Errorf("%w; to undo it: %w", err, failed)
			}
		}
		if b.hooked { // runtime.md, "Lifecycle": then go on at step 12
			b.poststop()
		}
		return nil, err
	}
	return c, nil
}

func (b *creation) create(r *Runtime, id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(b.opts.Bundle)
	if err != nil {
		return nil, err
	}
	if b.spec, b.text, err = loadSpec(b.opts.configFile(), b.opts.Config); err != nil {
		return nil, err
	}
	if p := b.spec.Process; p != nil {
		p.Env = append(p.Env, b.opts.Env...)
	}
	if err := b.checkTerminal(); err != nil {
		return nil, err
	}
	if b.filter, err = seccomp.Compile(b.spec.Linux.Seccomp); err != nil {
		return nil, err
	}
	rootfs := b.spec.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(bundle, rootfs)
	}
	if rootfs, err = filepath.EvalSymlinks(rootfs); err != nil {
		return nil, fmt.Errorf("root.path: %w", err)
	}
	if info, err := os.Stat(rootfs); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("root.path %q is not a folder", rootfs)
	}
	b.Container = &Container{
		ID: id, OCIVersion: b.spec.Version, Bundle: bundle, Rootfs: rootfs, Created: time.Now().UTC(),
		Owner: os.Geteuid(), Annotations: b.spec.Annotations, Creating: true, runtime: r,
	}
	if h := b.spec.Hooks; h != nil && len(h.Poststart)+len(h.Poststop) > 0 {
		b.Hooks = &specs.Hooks{Poststart: h.Poststart, Poststop: h.Poststop}
	}
	if err := b.makeFolder(); err != nil {
		return nil, err
	}
	if err := b.makeGroup(); err != nil {
		return nil, err
	}
	if done, err := b.startByThread(); done || err != nil {
		return b.Container, err
	}
	if err := b.startInit(); err != nil {
		return nil, err
	}
	if err := b.waitReady(); err != nil {
		return nil, err
	}
	b.Creating = false
	if err := b.saveProcess(); err != nil {
		return nil, err
	}
	if err := b.announce(); err != nil {
		return nil, err
	}
	if b.opts.Run {
		if err := b.run(); err != nil {
			return nil, err
		}
	}
	b.socket.Close()
	return b.Container, nil
}

func (b *creation) checkTerminal() error {
	terminal := b.spec.Process != nil && b.spec.Process.Terminal
	given := b.opts.ConsoleSocket != "" || b.opts.Console != nil
	if terminal && !given {
		return errors.New("process.terminal is true: give a --console-socket for the terminal")
	}
	if !terminal && given {
		return errors.New("--console-socket is given, and process.terminal is false")
	}
	return nil
}

// makeFolder makes the container's folder, locked; whoever makes it owns the ID.
func (b *creation) makeFolder() error {
	if err := os.MkdirAll(b.runtime.Root, 0o700); err != nil {
		return err
	}
	err := os.Mkdir(b.dir(), 0o711)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %q", ErrExist, b.ID)
	}
	if err != nil {
		return err
	}
	b.undo = append(b.undo, func() error {
		b.Close()
		return os.RemoveAll(b.dir())
	})
	if b.lock, err = os.Open(b.dir()); err != nil {
		return err
	}
	if err := flock(b.lock, unix.LOCK_EX); err != nil {
		return err
	}
	if err := rawfd.WriteFile(filepath.Join(b.dir(), "config.json"), b.text, 0o600); err != nil {
		return err
	}
	if b.opts.Run {
		return nil
	}
	if err := unix.Mkfifo(b.fifo(), 0o622); err != nil {
		return fmt.Errorf("mkfifo: %w", err)
	}
	if err := os.Chmod(b.fifo(), 0o622); err != nil {
		return err
	}
	// The container's root opens it, who may be anybody out here.
	for _, m := range b.spec.Linux.UIDMappings {
		if m.ContainerID == 0 {
			_ = os.Chown(b.fifo(), int(m.HostID), -1)
		}
	}
	return nil
}

// makeGroup makes the control group and sets its limits.
func (b *creation) makeGroup() error {
	if b.runtime.NoCgroups {
		return b.noGroup()
	}
	path := b.spec.Linux.CgroupsPath
	if strings.Contains(path, ":") && !strings.HasPrefix(path, "/") {
		return fmt.Errorf("linux.cgroupsPath %q is of systemd's kind (SLICE:PREFIX:NAME), "+
			"which takes --systemd-cgroup; this runtime makes control groups itself", path)
	}
	if path == "" {
		path = "/" + b.ID // one level: each group costs its making and its removal
	}
	group, err := cgroup.Open(path)
	if err != nil {
		return err
	}
	b.group, b.CgroupPath, b.CgroupMounts = group, group.Path, group.Mounts()
	b.CgroupShared = group.Existing()
	if b.spec.Linux.CgroupsPath == "" && len(b.CgroupShared) > 0 {
		if pids, err := group.Pids(); err == nil && len(pids) > 0 {
			return fmt.Errorf("control group %s is in use", group.Path)
		}
	}
	if len(b.CgroupShared) > 0 && group.Frozen() {
		return fmt.Errorf("container's cgroup unexpectedly frozen: %s was there before, and paused",
			group.Path)
	}
	if err := b.save(); err != nil {
		return err
	}
	b.undo = append(b.undo, b.removeGroup)
	soft := b.runtime.Rootless || os.Geteuid() != 0
	if err := group.Create(b.spec.Linux.Resources, soft); err != nil {
		return err
	}
	if mounts := group.Mounts(); len(mounts) < len(b.CgroupMounts) {
		b.CgroupMounts = mounts
		if err := b.save(); err != nil {
			return err
		}
	}
	if err := group.Set(b.spec.Linux.Resources); err != nil {
		return err
	}
	if r := b.spec.Linux.Resources; r != nil && os.Geteuid() == 0 && !inUserNamespace() {
		return group.SetDevices(r.Devices)
	}
	return nil
}

// noGroup leaves the container in the control groups of the caller. Only rules for devices may
// be left out with it: engines that ask for this have them in every configuration.
func (b *creation) noGroup() error {
	b.group, b.CgroupMounts = &cgroup.Group{}, []string{}
	if err := b.group.Set(b.spec.Linux.Resources); err != nil {
		return fmt.Errorf("--cgroup-manager disabled: %w", err)
	}
	return b.save()
}

// inUserNamespace says whether root is only a namespace's root, who may not say anything
// about devices.
func inUserNamespace() bool {
	data, err := rawfd.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(data)), " ") != "0 0 4294967295"
}

// startInit starts init in its control group and namespaces, and sends it its
// configuration.
func (b *creation) startInit() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	theirs := rawfd.New(pair[1], "socket")
	defer theirs.Close()
	b.socket = rawfd.New(pair[0], "socket")
	b.lines = bufio.NewReader(b.socket)
	b.undo = append(b.undo, b.socket.Close)

	files := b.runtime.streams(b.opts.Stdio)
	var fifo *rawfd.File
	if !b.opts.Run {
		fd, err := unix.Open(b.fifo(), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the start FIFO: %w", err)
		}
		fifo = rawfd.New(fd, b.fifo())
	} else if fifo, err = rawfd.Open("/dev/null", unix.O_RDWR); err != nil {
		return err
	}
	defer fifo.Close()
	files = append(files, theirs, fifo)
	if console := b.opts.Console; console != nil {
		defer console.Close()
		files = append(files, console)
	} else if b.opts.ConsoleSocket != "" {
		console, err := dial(b.opts.ConsoleSocket)
		if err != nil {
			return fmt.Errorf("console socket: %w", err)
		}
		defer console.Close()
		files = append(files, console)
	} else {
		files = append(files, fifo) // not used
	}
	sources, places, err := b.openSources()
	if err != nil {
		return err
	}
	for _, f := range sources {
		defer f.Close()
		files = append(files, f)
	}
	devices, err := b.openDevices()
	if err != nil {
		return err
	}
	for _, f := range devices {
		defer f.Close()
		files = append(files, f)
	}
	if b.opts.Root != nil {
		files = append(files, b.opts.Root)
	}
	binary, err := ownBinary()
	if err != nil {
		return err
	}
	defer binary.Close()
	entrances, err := b.group.Entrances()
	if err != nil {
		return err
	}
	defer entrances.Close()
	child, err := b.launch(entrances, files, func(p *spawn.Plan) error {
		args := []string{"minirunc", "init", strconv.Itoa(b.runtime.Preserve)}
		// One processor: with more, Go wakes threads that have nothing to do.
		return p.ExecFD(binary, args, []string{"GOMAXPROCS=1"})
	})
	if err != nil {
		return err
	}
	b.Pid = child.Pid
	b.undo = append(b.undo, func() error { b.killInit(); return nil })
	if b.PidStart, _, err = processStart(b.Pid); err != nil {
		return err
	}
	if err := b.saveProcess(); err != nil {
		return err
	}
	theirs.Close() // so that its end is seen
	if err := b.moveDevices(b.Pid); err != nil {
		return err
	}
	config := &initproc.Config{
		ID: b.ID, Bundle: b.Bundle, Rootfs: b.Rootfs, CgroupPath: b.CgroupPath,
		Filter: b.filter, NewKeyring: !b.runtime.NoNewKeyring,
		Pivot: !b.runtime.NoPivot, Preserve: b.runtime.Preserve,
		Console: b.opts.ConsoleSocket != "" || b.opts.Console != nil,
		Sources: places, Root: b.opts.Root != nil, ConsoleSize: b.opts.ConsoleSize,
		ConsolePlain: b.opts.ConsolePlain, Env: b.opts.Env, Devices: len(devices),
	}
	if err := config.Send(b.socket, b.text); err != nil {
		return fmt.Errorf("send the configuration to init: %w", err)
	}
	if b.opts.Prepare != nil {
		return b.opts.Prepare(b.Pid)
	}
	return nil
}

// killInit ends init, and with it all in its pid namespace, and waits for it.
func (b *creation) killInit() {
	_ = unix.Kill(b.Pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(b.Pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// ownBinary opens this program for init to be started from, by a mount of its own that
// can only be read: /proc/PID/exe of a container's process would otherwise be a way to
// write to the runtime's file (CVE-2019-5736). Where that may not be done (an ordinary
// user) it is a sealed copy in memory.
func ownBinary() (*os.File, error) {
	if protected, err := isProtected(); err == nil && protected {
		return os.Open("/proc/self/exe")
	}
	return ProtectedFile("/proc/self/exe")
}

// ProtectedFile opens a program so that it can be executed, and not be written to by way of
// /proc/PID/exe of its process. The caller closes it.
func ProtectedFile(path string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
		if err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		unix.Close(fd)
	}
	return sealedCopy(path)
}

// isProtected says whether this program runs from such a file.
func isProtected() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/proc/self/exe", &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: "/proc/self/exe", Err: err}
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return true, nil
	}
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		return false, err
	}
	defer own.Close()
	seals, err := unix.FcntlInt(own.Fd(), unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_WRITE != 0, nil
}

// Protect starts this program again, from such a file, if it is not from one yet, with the
// same arguments. It is for exec: what that executes in the container could be
// /proc/self/exe, by a link or as a script's interpreter, and the file is then there for
// the container to open, and to write to when nobody executes it any more.
func Protect() error {
	if protected, err := isProtected(); err != nil || protected {
		return err
	}
	if os.Geteuid() != 0 && unix.Access("/proc/self/exe", unix.W_OK) != nil {
		return nil // nor could the container, which is no more than this user
	}
	f, err := ownBinary()
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(os.Args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	empty := []byte{0}
	// The limit on open files is to be read once more as the caller's.
	limit := unix.Rlimit{Cur: filelimit.Soft(), Max: filelimit.Hard()}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("setrlimit", err)
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, f.Fd(), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return os.NewSyscallError("execveat", errno)
}

func sealedCopy(path string) (*os.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	fd, err := unix.MemfdCreate("minirunc", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	out := os.NewFile(uintptr(fd), "minirunc")
	if _, err := out.ReadFrom(in); err != nil {
		out.Close()
		return nil, err
	}
	_, err = unix.FcntlInt(out.Fd(), unix.F_ADD_SEALS,
		unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	if err != nil {
		out.Close()
		return nil, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return out, nil
}

// dial connects to a unix socket whose path may be longer than its address has room for.
func dial(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(at)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", at)})
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return f, nil
}

// waitReady goes on with init until it has finished the container.
func (b *creation) waitReady() error {
	for {
		m, err := b.receive()
		if err != nil {
			b.hooked = b.hooked || strings.HasPrefix(err.Error(), initproc.HookFailed("createContainer"))
			return err
		}
		switch m.Type {
		case "ready":
			return nil
		case "warning":
			if b.runtime.Warn != nil {
				b.runtime.Warn("%s", m.Error)
			}
		case "hooks":
			b.hooked = true
			state := b.State()
			state.Status = specs.StateCreated // runtime.md, "State": after step 2 of the lifecycle
			//nolint:staticcheck // prestart is deprecated, and asked for all the same.
			if err := runHooks("prestart", b.spec.Hooks.Prestart, state); err != nil {
				return err
			}
			if err := runHooks("createRuntime", b.spec.Hooks.CreateRuntime, state); err != nil {
				return err
			}
			if err := b.tell("hooks"); err != nil {
				return err
			}
		default:
			return fmt.Errorf("init says %q", m.Type)
		}
	}
}

func (b *creation) receive() (initproc.Message, error) {
	var m initproc.Message
	line, err := b.lines.ReadBytes('\n')
	if err != nil {
		return m, fmt.Errorf("init has ended without a word (for want of memory?): %w", err)
	}
	if err := quickjson.Unmarshal(line, &m); err != nil {
		return m, err
	}
	if m.Type == "error" {
		return m, &initError{m.Error, m.Status}
	}
	return m, nil
}

// initError is what init has told.
type initError struct {
	text   string
	status int
}

func (e *initError) Error() string { return e.text }

// ProgramStatus is the exit status that a shell has for an error of Create with Run, or of Exec,
// if the reason is the program: 127 if there is no such, 126 if it is none. Or else it is 0.
func ProgramStatus(err error) int {
	if told := (*initError)(nil); errors.As(err, &told) {
		return told.status
	}
	if program := (*programError)(nil); errors.As(err, &program) {
		return initproc.ProgramStatus(err)
	}
	return 0
}

func (b *creation) tell(kind string) error {
	data, err := json.Marshal(initproc.Message{Type: kind})
	if err != nil {
		return err
	}
	_, err = b.socket.Write(append(data, '\n'))
	return err
}

// run starts the process at once. That the socket is closed, by exec, means that it runs.
func (b *creation) run() error {
	if err := b.tell("start"); err != nil {
		return err
	}
	line, err := b.lines.ReadBytes('\n')
	if err == nil {
		var m initproc.Message
		if err := quickjson.Unmarshal(line, &m); err != nil {
			return err
		}
		b.hooked = strings.HasPrefix(m.Error, initproc.HookFailed("startContainer"))
		return &initError{m.Error, m.Status}
	}
	if err := b.poststart(); err != nil {
		b.hooked = true
		return err
	}
	return nil
}

// runHooks runs hooks out here, with this process's environment if they have none: a script
// wants a PATH.
func runHooks(name string, hooks []specs.Hook, state *specs.State) error {
	dir := state.Bundle
	if _, err := os.Stat(dir); err != nil {
		dir = "/" // it may be gone before delete
	}
	return initproc.RunHooks(name, hooks, dir, os.Environ(), state)
}

// poststart runs the hooks that come after the start. They may use the container, with
// this same program.
func (c *Container) poststart() error {
	if c.Hooks == nil || len(c.Hooks.Poststart) == 0 {
		return nil
	}
	c.Close()
	state := c.State()
	state.Status = specs.StateRunning
	return runHooks("poststart", c.Hooks.Poststart, state)
}

// poststop runs the hooks that come after the end: each, whatever becomes of the others.
func (c *Container) poststop() {
	if c.Hooks == nil {
		return
	}
	state := c.State()
	state.Status, state.Pid = specs.StateStopped, 0
	for _, h := range c.Hooks.Poststop {
		if err := runHooks("poststop", []specs.Hook{h}, state); err != nil {
			c.runtime.Warn("%v", err)
		}
	}
}

// announce tells the process's number to whoever wants to know it.
func (b *creation) announce() error {
	if b.opts.PidfdSocket != "" {
		if err := sendPidfd(b.opts.PidfdSocket, b.Pid); err != nil {
			return err
		}
	}
	if b.opts.PidFile == "" {
		return nil
	}
	return writePidFile(b.opts.PidFile, b.Pid)
}

// sendPidfd sends a descriptor that stands for a process, which its number does only as long as
// it lives, through a unix socket.
func sendPidfd(path string, pid int) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	socket, err := dial(path)
	if err != nil {
		return fmt.Errorf("pidfd socket: %w", err)
	}
	defer socket.Close()
	err = unix.Sendmsg(int(socket.Fd()), []byte("pidfd"), unix.UnixRights(pidfd), nil, 0)
	if err != nil {
		return fmt.Errorf("send the pidfd: %w", err)
	}
	return nil
}

func writePidFile(path string, pid int) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
