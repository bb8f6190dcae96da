//go:build linux

package initproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// defaultDevices are those of config-linux.md, "Default Devices".
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

var deviceLinks = []struct{ path, target string }{
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
}

// makeDevices makes the default devices, those of the configuration, and the links.
func (c *container) makeDevices() error {
	wanted := map[string]bool{}
	for _, d := range c.Spec.Linux.Devices {
		wanted[filepath.Clean(d.Path)] = true
	}
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, d := range defaultDevices {
		if wanted[d.Path] {
			continue
		}
		if err := c.makeDevice(d, nil); err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
	}
	for i, d := range c.Spec.Linux.Devices {
		if filepath.Clean(d.Path) == "/dev/ptmx" {
			continue // it is the link below
		}
		var made *rawfd.File
		if i < len(c.files.Devices) {
			made = c.files.Devices[i]
		}
		if err := c.makeDevice(d, made); err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
	}
	for _, l := range deviceLinks {
		if err := c.makeLink(l.path, l.target, false); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/proc/kcore"); err == nil {
		if err := c.makeLink("/dev/core", "/proc/kcore", false); err != nil {
			return err
		}
	}
	return c.makeLink("/dev/ptmx", "pts/ptmx", true)
}

func (c *container) makeLink(path, target string, replace bool) error {
	dir, name, err := c.root.parent(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if replace {
		if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && err != unix.ENOENT {
			return &os.PathError{Op: "unlink", Path: path, Err: err}
		}
	}
	if err := unix.Symlinkat(target, int(dir.Fd()), name); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "symlink", Path: path, Err: err}
	}
	return nil
}

// DeviceMode is a device's type with its permissions, and its numbers, as mknod(2) takes them.
func DeviceMode(d specs.LinuxDevice) (mode uint32, dev int, err error) {
	mode = 0o666
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	dev = int(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))
	switch d.Type {
	case "b":
		return unix.S_IFBLK | mode, dev, nil
	case "c", "u":
		return unix.S_IFCHR | mode, dev, nil
	case "p":
		return unix.S_IFIFO | mode, 0, nil
	}
	return 0, 0, fmt.Errorf("type %q: want b, c, u or p", d.Type)
}

// makeDevice makes a device node or, where nodes cannot be made, attaches the one that the runtime
// has made, or else binds the host's.
func (c *container) makeDevice(d specs.LinuxDevice, made *rawfd.File) error {
	mode, dev, err := DeviceMode(d)
	if err != nil {
		return err
	}
	kind := mode & unix.S_IFMT
	d.Path = filepath.Clean(d.Path)
	dir, name, err := c.root.parent(d.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if !c.has[specs.UserNamespace] {
		err := unix.Mknodat(int(dir.Fd()), name, mode, dev)
		if err == nil || err == unix.EEXIST {
			return c.ownDevice(dir, name, d, kind, err == unix.EEXIST)
		}
		if err != unix.EPERM {
			return os.NewSyscallError("mknod", err)
		}
	}
	err = unix.Mknodat(int(dir.Fd()), name, unix.S_IFREG|0o666, 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return os.NewSyscallError("mknod", err)
	}
	target, err := c.root.open(d.Path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	if made != nil {
		defer made.Close()
		return os.NewSyscallError("move_mount", unix.MoveMount(int(made.Fd()), "", int(target.Fd()),
			"", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	}
	return c.bindInto(d.Path, target, unix.MS_NOSUID|unix.MS_NOEXEC)
}

// ownDevice sets the owner of a node, and checks one that was there before.
func (c *container) ownDevice(
	dir *rawfd.File, name string, d specs.LinuxDevice, kind uint32, old bool,
) error {
	f, err := c.root.open(d.Path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if old && kind != unix.S_IFIFO {
		if err := checkDevice(f, kind, uint32(d.Major), uint32(d.Minor)); err != nil {
			return err
		}
	}
	uid, gid := 0, 0
	if d.UID != nil {
		uid = int(*d.UID)
	}
	if d.GID != nil {
		gid = int(*d.GID)
	}
	if uid == 0 && gid == 0 && !old {
		return nil
	}
	return os.NewSyscallError("fchownat",
		unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW))
}

// PlainTerminal has a terminal pass on the ends of lines as they are, and not as CR LF: for output
// that does not go to a terminal in the end.
func PlainTerminal(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		t.Oflag &^= unix.ONLCR
		err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
	if err != nil {
		return fmt.Errorf("set the terminal's output: %w", err)
	}
	return nil
}

// makeConsole opens a terminal in the container's own devpts, sends its master through
// the console socket and shows the slave as /dev/console. The slave comes from the master
// by ioctl, not by a path that the container could have put something else at
// (CVE-2025-52565).
func (c *container) makeConsole() error {
	var master *rawfd.File
	var err error
	if c.root != nil {
		master, err = c.root.open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	} else {
		master, err = rawfd.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY)
	}
	if err != nil {
		return fmt.Errorf("terminal (is devpts mounted at /dev/pts?): %w", err)
	}
	defer master.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(master.Fd()), &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		return errors.New("terminal: /dev/pts/ptmx is not of a devpts")
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock the terminal: %w", err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fmt.Errorf("open the terminal's slave: %w", errno)
	}
	fd := int(slave)
	c.slave = rawfd.New(fd, "terminal")
	if c.ConsolePlain {
		if err := PlainTerminal(fd); err != nil {
			return err
		}
	}
	if size := c.Spec.Process.ConsoleSize; size != nil {
		ws := &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
			return fmt.Errorf("set the terminal's size: %w", err)
		}
	}
	if uid := c.Spec.Process.User.UID; uid != 0 {
		if err := unix.Fchown(fd, int(uid), -1); err != nil && err != unix.EINVAL && err != unix.EPERM {
			return fmt.Errorf("chown the terminal: %w", err)
		}
	}
	if c.root != nil && c.new[specs.MountNamespace] {
		console, err := c.root.make("/dev/console", false)
		if err != nil {
			return err
		}
		console.Close()
		console, err = c.root.open("/dev/console", unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			return fmt.Errorf("/dev/console must be reached without links: %w", err)
		}
		defer console.Close()
		if err := unix.Mount(proc(c.slave), proc(console), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /dev/console: %w", err)
		}
	}
	socket, rights := int(c.files.Console.Fd()), unix.UnixRights(int(master.Fd()))
	if err := unix.Sendmsg(socket, []byte("/dev/ptmx"), rights, nil, 0); err != nil {
		return fmt.Errorf("send the terminal through the console socket: %w", err)
	}
	return nil
}
