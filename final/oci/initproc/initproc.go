//go:build linux

// Package initproc is what runs inside a container's namespaces before the container's
// own process does: it finishes the container and becomes that process. The functions
// stand in the order in which they run. It grew from init.go, mount.go, rootfs.go, dev.go
// and volume.go of steps 01 to 05.
//
// Nothing of the container's runs before all is finished. Until then only this program
// does, whose file cannot be written to from inside (see package oci), whose memory cannot
// be looked at (it is not dumpable), and whose descriptors are closed by exec.
package initproc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/oci/quickjson"
	"minidocker/final/oci/seccomp"
	"minidocker/final/rawfd"
)

// Config is what the runtime tells init through a socket: as one line of JSON, behind which
// come config.json as it was read, and the filter.
type Config struct {
	ID         string
	Spec       *specs.Spec `json:"-"`
	SpecBytes  int
	Bundle     string           // absolute
	Rootfs     string           // absolute
	CgroupPath string           // from the hierarchies' roots
	Filter     *seccomp.Program `json:"-"`
	// Instructions is the number of the filter's; 0 if there is none.
	Instructions int
	FilterFlags  uint
	ConsoleSize  *specs.Box // if config.json has none
	Console      bool       // send a terminal's master through descriptor ConsoleFD
	ConsolePlain bool       // see PlainTerminal
	Env          []string   // variables for the process beside those of config.json
	NewKeyring   bool
	// Pivot is false for chroot: --no-pivot, for roots on an initramfs.
	Pivot bool
	// Preserve is the number of descriptors from 3 on that are the container's.
	Preserve int
	// Root says that the last descriptor is a mount that becomes the root, at Rootfs.
	Root bool
	// Sources are the places in Spec.Mounts of the mounts whose sources come as
	// descriptors, behind ConsoleFD.
	Sources []int
	// Devices is how many of Spec.Linux.Devices come as descriptors behind those: all, or none.
	Devices int
}

// The descriptors that init is started with, after those to preserve.
const (
	SocketFD  = iota // to the runtime
	FIFOFD           // the path that start opens, O_PATH; not used by run
	ConsoleFD        // a unix socket for the terminal
	descriptors
)

// Message is one line of JSON through the socket.
type Message struct {
	// Type is "hooks" (from init: run the hooks now; back: done), "ready" (from init: all
	// is finished), "start" (to init, in the place of the FIFO), "warning" or "error".
	Type  string
	Error string
	// Status is ProgramStatus if it was the program that could not be executed, or else 0.
	Status int `json:",omitempty"`
}

// State is what hooks are told: the specification's state.
type State = specs.State

type container struct {
	*Config
	root      *rootfs
	newCgroup bool
	new       map[specs.LinuxNamespaceType]bool // namespaces that were made for it
	has       map[specs.LinuxNamespaceType]bool // … or joined
	socket    *rawfd.File
	lines     *bufio.Reader
	procfs    *rawfd.File // a proc of its own that nobody else can reach
	slave     *rawfd.File // the terminal
	empty     *rawfd.File // a tmpfs for all folders that are masked
	// Where the machine's control groups are.
	hierarchies []cgroup.Hierarchy
	// The mount at /dev is to be read-only in the end.
	devReadOnly bool
	startFIFO   int // 0 for a run
	inCwd       bool
	umask       int // the caller's
	// An ordinary user's user namespace has no setgroups(2).
	setgroupsDenied bool
	files           Files
	finished        *Finished // what Finish makes; nil for Main
}

// Main is the whole life of init: it returns only the exit status for a failure.
func Main(preserve int) int {
	// Credentials, filters and namespaces are a thread's: exec comes from this one.
	runtime.LockOSThread()
	socket := rawfd.New(3+preserve+SocketFD, "socket")
	if _, err := unix.Getpeername(int(socket.Fd())); err != nil {
		fmt.Fprintln(os.Stderr, "minirunc: init is started by create, not by hand")
		return 1
	}
	unix.CloseOnExec(int(socket.Fd()))
	c := &container{socket: socket, lines: bufio.NewReaderSize(socket, 1<<16)}
	if err := c.run(); err != nil {
		if c.startFIFO > 0 {
			_, _ = unix.Write(c.startFIFO, []byte(err.Error()))
		} else {
			m := Message{Type: "error", Error: err.Error()}
			if program := (*programError)(nil); errors.As(err, &program) {
				m.Status = ProgramStatus(err)
			}
			c.send(m)
		}
	}
	return 1
}

func (c *container) send(m Message) {
	data, _ := json.Marshal(m)
	// If the runtime is gone there is nobody to tell.
	_, _ = c.socket.Write(append(data, '\n'))
}

func (c *container) receive(want string) error {
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the runtime is gone: %w", err)
	}
	var m Message
	if err := quickjson.Unmarshal(line, &m); err != nil {
		return err
	}
	if m.Type != want {
		return fmt.Errorf("the runtime says %q in the place of %q", m.Type, want)
	}
	return nil
}

// run does all that is to be done, in this order.
func (c *container) run() error {
	// Nobody in the container may trace this process or open its files (CVE-2016-9962).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	if err := c.readConfig(); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	c.inherit()
	c.namespaces()
	// A session of its own: signals of the runtime's terminal are not meant for it.
	if _, err := unix.Setsid(); err != nil {
		return os.NewSyscallError("setsid", err)
	}
	if c.NewKeyring {
		if err := c.newKeyring(); err != nil {
			return err
		}
	}
	if c.new[specs.NetworkNamespace] {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if err := c.prepareProcfs(); err != nil {
		return err
	}
	rule, err := c.readProc("self/setgroups")
	c.setgroupsDenied = err == nil && rule == "deny\n"
	c.umask = unix.Umask(0o022)
	if err := c.makeRoot(); err != nil {
		return err
	}
	if c.new[specs.UTSNamespace] || c.Spec.Hostname != "" || c.Spec.Domainname != "" {
		if err := c.setNames(); err != nil {
			return err
		}
	}
	if err := c.setSysctls(); err != nil {
		return err
	}
	if err := c.protectPaths(); err != nil {
		return err
	}
	if err := c.propagate(); err != nil {
		return err
	}
	return c.finish()
}

// inherit names the descriptors that this process was started with.
func (c *container) inherit() {
	next := 3 + c.Preserve + ConsoleFD
	file := func(name string) *rawfd.File {
		f := rawfd.New(next, name)
		unix.CloseOnExec(next)
		next++
		return f
	}
	c.files.Console = file("console socket")
	for range c.Sources {
		c.files.Trees = append(c.files.Trees, file("source of a mount"))
	}
	for range c.Devices {
		c.files.Devices = append(c.files.Devices, file("device"))
	}
	if c.Root {
		c.files.Root = file("root")
	}
}

// Send sends the configuration to init.
func (c *Config) Send(socket io.Writer, spec []byte) error {
	c.SpecBytes = len(spec)
	if c.Filter != nil {
		c.Instructions, c.FilterFlags = len(c.Filter.Instructions), c.Filter.Flags
	}
	message, err := json.Marshal(c)
	if err != nil {
		return err
	}
	message = append(append(message, '\n'), spec...)
	if c.Filter != nil {
		message = append(message, c.Filter.Bytes()...)
	}
	_, err = socket.Write(message)
	return err
}

func (c *container) readConfig() error {
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	c.Config = &Config{}
	if err := quickjson.Unmarshal(line, c.Config); err != nil {
		return err
	}
	text := make([]byte, c.SpecBytes)
	if _, err := io.ReadFull(c.lines, text); err != nil {
		return err
	}
	c.Spec = &specs.Spec{}
	if err := quickjson.Unmarshal(text, c.Spec); err != nil {
		return err
	}
	Complete(c.Spec)
	if p := c.Spec.Process; p != nil {
		if p.ConsoleSize == nil {
			p.ConsoleSize = c.ConsoleSize
		}
		p.Env = append(p.Env, c.Env...)
	}
	if c.Instructions == 0 {
		return nil
	}
	program := make([]byte, c.Instructions*seccomp.InstructionSize)
	if _, err := io.ReadFull(c.lines, program); err != nil {
		return err
	}
	c.Filter = seccomp.FromBytes(program, c.FilterFlags)
	return nil
}

// Complete adds to config.json what may be missing in it.
func Complete(s *specs.Spec) {
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	for i, m := range s.Mounts {
		if m.Destination != "" && !filepath.IsAbs(m.Destination) {
			s.Mounts[i].Destination = "/" + m.Destination // allowed until 1.0, and used
		}
	}
}

func (c *container) namespaces() {
	c.new, c.has = map[specs.LinuxNamespaceType]bool{}, map[specs.LinuxNamespaceType]bool{}
	for _, ns := range c.Spec.Linux.Namespaces {
		c.has[ns.Type] = true
		if ns.Path == "" {
			c.new[ns.Type] = true
		}
	}
	c.newCgroup = c.has[specs.CgroupNamespace]
}

// newKeyring gives the container a session keyring of its own: keys of the runtime's
// session are not its business. See keyctl(2), KEYCTL_JOIN_SESSION_KEYRING.
func (c *container) newKeyring() error {
	id, err := unix.KeyctlJoinSessionKeyring("_ses." + c.ID)
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EDQUOT {
		return nil // a kernel, or a filter, that has none
	}
	if err != nil {
		return os.NewSyscallError("keyctl KEYCTL_JOIN_SESSION_KEYRING", err)
	}
	if perm, err := unix.KeyctlInt(unix.KEYCTL_SETPERM, id, 0x3f3f0000|0x080000, 0, 0); err != nil {
		_ = perm // the user's rights on it are a convenience
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// prepareProcfs gets a proc that is mounted nowhere: what is written through it reaches
// the kernel and nothing that a mount put in its way (CVE-2025-52881). Where the kernel
// refuses one (a user namespace on a machine with a masked /proc) it is the host's /proc,
// which nobody in the container could touch yet.
func (c *container) prepareProcfs() error {
	fd, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err == nil {
		defer unix.Close(fd)
		if err = unix.FsconfigCreate(fd); err == nil {
			var mnt int
			mnt, err = unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC,
				unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
			if err == nil {
				c.procfs = rawfd.New(mnt, "proc")
				return nil
			}
		}
	}
	fd, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc", Err: err}
	}
	c.procfs = rawfd.New(fd, "proc")
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("/proc is no proc file system")
	}
	return nil
}

// writeProc writes a file of the private proc, reached without links and mounts.
func (c *container) writeProc(name, value string) error {
	how := unix.OpenHow{
		Flags:   unix.O_WRONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(int(c.procfs.Fd()), name, &how)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/" + name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write " + value, Path: "/proc/" + name, Err: err}
	}
	return nil
}

// readProc reads a short file of the private proc.
func (c *container) readProc(name string) (string, error) {
	how := unix.OpenHow{Flags: unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(int(c.procfs.Fd()), name, &how)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: "/proc/" + name, Err: err}
	}
	defer unix.Close(fd)
	buffer := make([]byte, 256)
	n, err := unix.Read(fd, buffer)
	return string(buffer[:max(n, 0)]), err
}

// makeRoot makes the root file system and goes into it for good.
func (c *container) makeRoot() error {
	if !c.has[specs.MountNamespace] {
		return c.chroot()
	}
	if !c.new[specs.MountNamespace] {
		return c.joinRoot()
	}
	// Nothing that is mounted below may get out. What the root is to be comes last.
	propagation := uintptr(unix.MS_SLAVE | unix.MS_REC)
	if p := c.Spec.Linux.RootfsPropagation; strings.HasSuffix(p, "private") ||
		strings.HasSuffix(p, "unbindable") {
		propagation = unix.MS_PRIVATE | unix.MS_REC
	}
	if err := unix.Mount("", "/", "", propagation, ""); err != nil {
		return fmt.Errorf("set the propagation of /: %w", err)
	}
	// None is shared now, which pivot_root wants; that of the root stays a slave, for the sources
	// of bind mounts may lie in the same one, and are to follow what the machine mounts there.
	err := c.mountRoot()
	if err != nil {
		return err
	}
	if c.root, err = openRoot(c.Rootfs); err != nil {
		return err
	}
	defer c.root.file.Close()
	// Before there are others: a bind mount of the machine's /sys has them all once more.
	if slices.ContainsFunc(c.Spec.Mounts, func(m specs.Mount) bool {
		return m.Type == "cgroup" || m.Type == "cgroup2"
	}) {
		if c.hierarchies, err = cgroup.Hierarchies(); err != nil {
			return err
		}
	}
	devMounted := false
	for i, m := range c.Spec.Mounts {
		if err := c.mount(i); err != nil {
			return err
		}
		if filepath.Clean(m.Destination) == "/dev" && (m.Type == "bind" ||
			slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")) {
			devMounted = true
		}
	}
	if !devMounted {
		if err := c.makeDevices(); err != nil {
			return err
		}
	}
	if err := c.hooksAndConsole(); err != nil {
		return err
	}
	if err := c.makeCwd(); err != nil {
		return err
	}
	if err := c.readOnlyDev(); err != nil {
		return err
	}
	if c.Pivot {
		err = c.pivotRoot()
	} else {
		err = c.moveRoot()
	}
	if err != nil {
		return err
	}
	return c.finishRoot()
}

// mountRoot makes the root a mount, which pivot_root wants.
func (c *container) mountRoot() error {
	if !c.Root {
		if err := unix.Mount(c.Rootfs, c.Rootfs, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind the root %q: %w", c.Rootfs, err)
		}
		return nil
	}
	err := unix.MoveMount(int(c.files.Root.Fd()), "", unix.AT_FDCWD, c.Rootfs,
		unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("move_mount the root to %q: %w", c.Rootfs, err)
	}
	// A copy of a mount is the original's peer still, and pivot_root takes none that is shared.
	if err := unix.Mount("", c.Rootfs, "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make the root %q private: %w", c.Rootfs, err)
	}
	return nil
}

// hooksAndConsole: the mounts are there, the old root is, too.
func (c *container) hooksAndConsole() error {
	if c.Console {
		if err := c.makeConsole(); err != nil {
			return err
		}
	}
	h := c.Spec.Hooks
	if h == nil {
		return nil
	}
	//nolint:staticcheck // prestart is deprecated, and asked for all the same.
	if len(h.Prestart)+len(h.CreateRuntime) > 0 {
		c.send(Message{Type: "hooks"})
		if err := c.receive("hooks"); err != nil {
			return err
		}
	}
	// In the container's root: where that is they could not know otherwise.
	return c.runHooks("createContainer", h.CreateContainer, c.Rootfs, nil, specs.StateCreated)
}

func (c *container) runHooks(
	name string, hooks []specs.Hook, dir string, env []string, status specs.ContainerState,
) error {
	return RunHooks(name, hooks, dir, env, &State{
		Version: c.Spec.Version, ID: c.ID, Status: status, Pid: os.Getpid(), Bundle: c.Bundle,
		Annotations: c.Spec.Annotations,
	})
}

// makeCwd makes the working directory if the image has none. Links in it are the image's
// and stay inside.
func (c *container) makeCwd() error {
	if c.Spec.Process == nil || c.Spec.Process.Cwd == "/" {
		return nil
	}
	f, err := c.root.make(c.Spec.Process.Cwd, true)
	if err != nil {
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
			return nil // chdir will say so
		}
		return fmt.Errorf("working directory: %w", err)
	}
	return f.Close()
}

// pivotRoot makes the root the root: step 04 has it at length.
func (c *container) pivotRoot() error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	defer unix.Close(old)
	if err := unix.Fchdir(int(c.rootDir().Fd())); err != nil {
		return os.NewSyscallError("fchdir to the new root", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root %q (is / an initramfs? then --no-pivot): %w", c.Rootfs, err)
	}
	// The old root is on top of the new one now, and "." below: not what is to go.
	if err := unix.Fchdir(old); err != nil {
		return os.NewSyscallError("fchdir to the old root", err)
	}
	// Its mounts are not to tell the host that they go.
	if err := unix.Mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make the old root slave: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("umount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// rootDir opens the root as it is now, with what was mounted on it.
func (c *container) rootDir() *rawfd.File {
	fd, err := unix.Open(c.Rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return c.root.file
	}
	return rawfd.New(fd, c.Rootfs)
}

// moveRoot is for a root on an initramfs, which cannot be pivoted: move it over "/".
func (c *container) moveRoot() error {
	if err := unix.Chdir(c.Rootfs); err != nil {
		return os.NewSyscallError("chdir to the new root", err)
	}
	if err := c.hideKernel(); err != nil {
		return err
	}
	if err := unix.Mount(c.Rootfs, "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root over /: %w", err)
	}
	return c.chrootTo(".")
}

// hideKernel takes the machine's own proc and sysfs out of the container's mounts, where they stay
// without pivot_root(2), below the new root: as long as they are there, the kernel lets whoever
// makes a user namespace in the container mount new ones, without what is masked and read-only in
// the container's.
func (c *container) hideKernel() error {
	table, err := rawfd.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var paths []string
	for line := range strings.Lines(string(table)) {
		before, after, _ := strings.Cut(line, " - ") // proc_pid_mountinfo(5)
		at, kind := strings.Fields(before), strings.Fields(after)
		if len(at) < 5 || len(kind) == 0 || kind[0] != "proc" && kind[0] != "sysfs" {
			continue
		}
		path := unescape.Replace(at[4])
		if path != c.Rootfs && !strings.HasPrefix(path, c.Rootfs+"/") {
			paths = append(paths, path)
		}
	}
	for _, path := range slices.Backward(paths) { // the last is on top of the others
		err := unix.Unmount(path, unix.MNT_DETACH)
		if err == unix.EINVAL || err == unix.EPERM { // locked: it came from another user namespace
			err = unix.Mount("tmpfs", path, "tmpfs", 0, "")
		}
		if err != nil {
			return fmt.Errorf("hide %q of the machine: %w", path, err)
		}
	}
	return nil
}

// unescape undoes what the table of mounts does to a path.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// joinRoot is for somebody else's mounts, which are as they should be. The root is a folder
// there; or it is not, and theirs is the container's.
func (c *container) joinRoot() error {
	if err := c.hooksAndConsole(); err != nil {
		return err
	}
	if _, err := os.Stat(c.Rootfs); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return c.chrootTo(c.Rootfs)
}

func (c *container) chroot() error {
	if err := c.hooksAndConsole(); err != nil {
		return err
	}
	return c.chrootTo(c.Rootfs)
}

func (c *container) chrootTo(path string) error {
	if err := unix.Chroot(path); err != nil {
		return fmt.Errorf("chroot %q: %w", path, err)
	}
	return unix.Chdir("/")
}

// finishRoot sets the root's own attributes.
func (c *container) finishRoot() error {
	if !c.Spec.Root.Readonly {
		return nil
	}
	root, err := rawfd.Open("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := setAttributes(root, unix.MOUNT_ATTR_RDONLY, 0, false); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

// propagate is after all mounts: an unbindable one could not be made read-only in part.
func (c *container) propagate() error {
	p := c.Spec.Linux.RootfsPropagation
	if p == "" || !c.new[specs.MountNamespace] {
		return nil
	}
	if err := unix.Mount("", "/", "", propagationOptions[p], ""); err != nil {
		return fmt.Errorf("rootfsPropagation %s: %w", p, err)
	}
	return nil
}

func (c *container) setNames() error {
	if c.Spec.Hostname != "" {
		if err := unix.Sethostname([]byte(c.Spec.Hostname)); err != nil {
			return fmt.Errorf("sethostname %q: %w", c.Spec.Hostname, err)
		}
	}
	if c.Spec.Domainname != "" {
		if err := unix.Setdomainname([]byte(c.Spec.Domainname)); err != nil {
			return fmt.Errorf("setdomainname %q: %w", c.Spec.Domainname, err)
		}
	}
	return nil
}

func (c *container) setSysctls() error {
	for name, value := range c.Spec.Linux.Sysctl {
		path := "sys/" + name
		if !strings.Contains(name, "/") { // dots separate, and a / stands for a dot
			path = "sys/" + strings.ReplaceAll(name, ".", "/")
		}
		if err := c.writeProc(path, value); err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
	}
	return nil
}

// protectPaths makes paths read-only or hides them. Paths that are not there are fine.
func (c *container) protectPaths() error {
	if !c.new[specs.MountNamespace] {
		return nil
	}
	root, err := openRoot("/")
	if err != nil {
		return err
	}
	defer root.file.Close()
	c.root = root
	for _, path := range c.Spec.Linux.ReadonlyPaths {
		done, err := c.deferCover(path, false)
		if !done && err == nil {
			err = c.readOnlyPath(path)
		}
		if err != nil {
			return fmt.Errorf("readonlyPaths: %q: %w", path, err)
		}
	}
	defer func() {
		if c.empty != nil {
			c.empty.Close()
		}
	}()
	masked := map[string]bool{}
	for _, path := range c.Spec.Linux.MaskedPaths {
		if path = filepath.Clean(path); masked[path] {
			continue
		}
		masked[path] = true
		done, err := c.deferCover(path, true)
		if !done && err == nil {
			err = c.maskPath(path)
		}
		if err != nil {
			return fmt.Errorf("maskedPaths: %q: %w", path, err)
		}
	}
	return nil
}

func (c *container) readOnlyPath(path string) error {
	target, err := c.root.open(path, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return c.checkMissing(path)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	fd, err := unix.OpenTree(int(target.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|
		unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	tree := rawfd.New(fd, path)
	defer tree.Close()
	if err := setAttributes(tree, unix.MOUNT_ATTR_RDONLY, 0, true); err != nil {
		return err
	}
	return os.NewSyscallError("move_mount", unix.MoveMount(fd, "", int(target.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// maskPath covers a file with /dev/null, and a folder with an empty tmpfs. That it is the
// true /dev/null is looked at on the descriptor that is used (CVE-2025-31133).
func (c *container) maskPath(path string) error {
	target, err := c.root.open(path, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return c.checkMissing(path)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	cover := c.nullCopy
	if isDir(target) {
		cover = c.emptyFolder
	}
	tree, err := cover()
	if err != nil {
		return err
	}
	defer tree.Close()
	return os.NewSyscallError("move_mount", unix.MoveMount(int(tree.Fd()), "", int(target.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// nullCopy is a copy of the mount of /dev/null, attached nowhere.
func (c *container) nullCopy() (*rawfd.File, error) {
	null, err := c.root.open("/dev/null", unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	if err := checkDevice(null, unix.S_IFCHR, 1, 3); err != nil {
		return nil, err
	}
	fd, err := unix.OpenTree(int(null.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|
		unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, os.NewSyscallError("open_tree /dev/null", err)
	}
	return rawfd.New(fd, "/dev/null"), nil
}

// emptyFolder is a mount of an empty tmpfs, attached nowhere: of one for all, where the kernel can
// copy the first (if that is not attached yet, since Linux 6.15).
func (c *container) emptyFolder() (*rawfd.File, error) {
	if c.empty != nil {
		fd, err := unix.OpenTree(int(c.empty.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|
			unix.AT_EMPTY_PATH)
		if err == nil {
			return rawfd.New(fd, "tmpfs"), nil
		}
		return newEmptyFolder()
	}
	folder, err := newEmptyFolder()
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(folder.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		c.empty = rawfd.New(fd, "tmpfs")
	}
	return folder, nil
}

// newEmptyFolder comes by descriptor: mount(2) would take a path in /proc, which is the
// container's own by now.
func newEmptyFolder() (*rawfd.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen tmpfs", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", "tmpfs"); err != nil {
		return nil, os.NewSyscallError("fsconfig source", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig create", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return rawfd.New(mnt, "tmpfs"), nil
}

func checkDevice(f *rawfd.File, kind uint32, major, minor uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != kind || st.Rdev != unix.Mkdev(major, minor) {
		return fmt.Errorf("%s is not the device %d:%d", f.Name(), major, minor)
	}
	return nil
}

// Pause is what the process does that holds a user namespace for mapIDs: nothing.
func Pause() int {
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// HookError is what a hook failed with.
type HookError struct {
	Kind  string // of hook
	Place int    // in its list
	Path  string
	Err   error
}

func (e *HookError) Error() string {
	return fmt.Sprintf("%s%d: %s: %v", HookFailed(e.Kind), e.Place, e.Path, e.Err)
}

// Unwrap returns the reason.
func (e *HookError) Unwrap() error { return e.Err }

// HookFailed is the beginning of a HookError's text, which is all that is left of it behind a
// pipe.
func HookFailed(kind string) string { return "error running " + kind + " hook #" }

// RunHooks runs hooks one after the other, with the state on their standard input, in a folder
// ("" for the one that this process is in), and with env where they have no environment of their
// own. The first that fails ends it.
func RunHooks(name string, hooks []specs.Hook, dir string, env []string, state *State) error {
	for i, h := range hooks {
		if h.Env == nil {
			h.Env = env
		}
		if err := runHook(h, dir, state); err != nil {
			return &HookError{Kind: name, Place: i, Path: h.Path, Err: err}
		}
	}
	return nil
}

func runHook(h specs.Hook, dir string, state *State) error {
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	cmd := exec.Command(h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = h.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(string(input))
	// A file, not a pipe: what the hook leaves running may hold it open.
	fd, err := unix.MemfdCreate("hook", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	output := os.NewFile(uintptr(fd), "the hook's output")
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	// Its own group, so that a time limit ends its children as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if h.Timeout == nil {
		err = <-done
	} else {
		err = waitFor(done, *h.Timeout, cmd.Process.Pid)
	}
	if err != nil {
		said := make([]byte, 4096)
		n, _ := output.ReadAt(said, 0)
		line := strings.Join(strings.Fields(string(said[:n])), " ")
		return fmt.Errorf("%w: %s", err, line)
	}
	return nil
}
