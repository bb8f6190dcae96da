//go:build linux

// Package sandbox gives tests and lessons a machine of their own to break: new
// mount, pid, UTS, IPC and network namespaces in which all mounts are shared, as
// systemd leaves them on any of today's distributions. What goes wrong in it, a
// /proc mounted over, a host name changed, a process left running, goes away with it;
// the machine's files can be read in it and not written. It has control groups of its
// own as well, in the hierarchies that the machine has.
//
// It is no prison: whoever is root in it can undo that. It is against mishaps.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stageVar tells the three lives of the program apart:
//
//	(unset) the caller's: starts "init" in new namespaces and waits
//	init    pid 1 of the sandbox: prepares the mounts, starts "inside", reaps
//	inside  runs what the caller gave
const stageVar = "MINIDOCKER_SANDBOX"

// groupsVar tells the sandbox's init the name of its control groups.
const groupsVar = "MINIDOCKER_SANDBOX_GROUPS"

// Run runs f in a sandbox and returns f's result, which becomes an exit status.
// The program starts itself again for it, with the same arguments: call Run early
// in main or TestMain, before anything that should happen once. Only the folders
// in writable (absolute paths) and what is made anew (/run, /var/lib, /dev/shm) can be
// written to. Root only.
func Run(f func() int, writable ...string) int { return run(f, false, writable) }

// RunFirst is Run for what measures: what else runs on the machine gets what this leaves it.
func RunFirst(f func() int, writable ...string) int { return run(f, true, writable) }

func run(f func() int, first bool, writable []string) int {
	switch os.Getenv(stageVar) {
	case "":
		return outer(first)
	case "init":
		return pid1(writable)
	default:
		if err := os.Unsetenv(stageVar); err != nil {
			return fail(err)
		}
		return f()
	}
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	return 1
}

func outer(first bool) int {
	if os.Geteuid() != 0 {
		return fail(errors.New("making namespaces takes root: use make, or sudo"))
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	// Not by the number alone, which a killed one may have had, whose groups are there still.
	name := fmt.Sprintf("minidocker-sandbox-%d-%d", os.Getpid(), time.Now().UnixNano())
	groups, err := makeGroups(name, first)
	defer func() {
		if err := removeGroups(groups); err != nil {
			fail(err)
		}
	}()
	if err != nil {
		return fail(err)
	}
	cmd := again("init")
	cmd.Env = append(cmd.Env, groupsVar+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig: unix.SIGKILL,
	}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return fail(err)
	}
	return exitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus))
}

// again prepares to start this program once more, in the next stage.
func again(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVar+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func exitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// pid1 is the sandbox's init: processes that lost their parent become its children,
// and it must wait for them, or they stay as zombies.
func pid1(writable []string) int {
	runtime.LockOSThread() // the cgroup namespace is this thread's
	if err := prepare(writable); err != nil {
		return fail(err)
	}
	// Whoever was started with a signal ignored (nohup does that) hands it on, and no
	// program in here would get it. What is caught is the default again after exec.
	for sig := syscall.Signal(1); sig < 32; sig++ {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	cmd := again("inside")
	// A signal to the whole process group, kill(0, …), crosses namespaces: let it end here.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fail(fmt.Errorf("wait: %w", err))
		}
		if pid == cmd.Process.Pid {
			return exitStatus(syscall.WaitStatus(ws))
		}
	}
}

// prepare makes the namespaces look like a machine that has just booted.
func prepare(writable []string) error {
	// First of all cut the tie to the real machine's mounts.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE); err != nil {
		return err
	}
	if err := withoutOthers(writable); err != nil {
		return err
	}
	groups, err := hierarchies()
	if err != nil {
		return err
	}
	for i, h := range groups {
		parent := h.mount
		if !h.v2() {
			if parent, err = h.currentGroup(); err != nil {
				return err
			}
		}
		groups[i].group = filepath.Join(parent, os.Getenv(groupsVar))
	}
	if err := enterGroups(groups); err != nil {
		return err
	}
	links, err := groupLinks()
	if err != nil {
		return err
	}
	var trees []int
	for _, path := range writable {
		tree, err := unix.OpenTree(unix.AT_FDCWD, path,
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("open_tree %s: %w", path, err)
		}
		trees = append(trees, tree)
	}
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &readOnly); err != nil {
		return fmt.Errorf("mount_setattr /: %w", err)
	}
	// So that the mount table is one of a machine that has been booted once.
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("umount /sys: %w", err)
	}
	// These show the new namespaces: processes, links, queues.
	for _, m := range []struct{ fstype, target string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"tmpfs", "/run"},
		{"tmpfs", "/var/lib"}, // images and containers
		{"tmpfs", "/dev/shm"},
		{"mqueue", "/dev/mqueue"},
	} {
		if _, err := os.Stat(m.target); err != nil {
			continue // /dev/mqueue may be missing
		}
		if err := mount(m.fstype, m.target, m.fstype, unix.MS_NOSUID|unix.MS_NODEV); err != nil {
			return err
		}
	}
	for i, path := range writable {
		err := unix.MoveMount(trees[i], "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("move_mount %s: %w", path, err)
		}
	}
	if err := mountGroups(groups, links); err != nil {
		return err
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED); err != nil {
		return err
	}
	// The caller's folder is one below the new mounts now, if it is in one of them.
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	// A new network namespace begins with the settings of the machine's first one, which may
	// be a router.
	const forward = "/proc/sys/net/ipv4/ip_forward"
	if err := os.WriteFile(forward, []byte("0"), 0); err != nil {
		return err
	}
	return loopbackUp()
}

// withoutOthers takes away what other tests, which run at the same time, have mounted on their
// folders (see testing.T, TempDir). They remove those folders, and with a folder goes what is
// mounted on it in any namespace: it would look as if a script had done that.
func withoutOthers(writable []string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		for _, path := range writable {
			if len(fields) < 5 || !strings.HasPrefix(fields[4], filepath.Dir(path)+"/Test") {
				continue
			}
			err := unix.Unmount(fields[4], unix.MNT_DETACH)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
				continue // it has gone by now
			}
			if err != nil {
				return fmt.Errorf("umount %s: %w", fields[4], err)
			}
		}
	}
	return nil
}

func mount(source, target, fstype string, flags uintptr) error {
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		return fmt.Errorf("mount %q on %q: %w", fstype, target, err)
	}
	return nil
}

// loopbackUp is "ip link set lo up".
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
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
