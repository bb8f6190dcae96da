//go:build linux

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// config is what the parent tells init: it travels as JSON through a pipe.
type config struct {
	// Debug makes init log its steps as well.
	Debug bool
	// Args is the command and its arguments; never empty.
	Args []string
	// Env is the command's environment. init is born with it, so it is not sent.
	Env []string `json:"-"`
	// ID names the container: 12 hexadecimal digits.
	ID string
	// Hostname is the host name inside.
	Hostname string
	// Rootfs is the folder that becomes the root; empty for the host's root.
	Rootfs string
	// Chroot asks for chroot(2) in place of pivot_root(2).
	Chroot bool
	// Volumes are mounted in this order.
	Volumes []volume
	// ResolvConf is the content of the host's /etc/resolv.conf.
	ResolvConf string
	// UIDMap and GIDMap are the maps of a new user namespace; both nil for the host's.
	UIDMap, GIDMap []idMap
}

// run starts a container, waits for its end and returns the command's exit
// status: 128+n if signal n killed it, as a shell has it.
func run(cfg config) (int, error) {
	term := openTerminal()
	defer term.restore()
	cmd, pipe, err := startInit(cfg, term)
	if err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	// Whatever goes wrong from here on, init does not outlive this function.
	defer func() { _ = cmd.Process.Kill() }()
	go forwardSignals(cmd.Process)

	if cfg.UIDMap != nil {
		if err := writeIDMaps(pid, cfg); err != nil {
			return 0, err
		}
	}
	if err := sendConfig(pipe, cfg); err != nil {
		return 0, err
	}
	status, err := term.wait(pid)
	if err != nil {
		return 0, err
	}
	if status.Signaled() {
		logrus.Debugf("parent: signal %d ended process %d", status.Signal(), pid)
		return 128 + int(status.Signal()), nil
	}
	logrus.Debugf("parent: process %d ended with status %d", pid, status.ExitStatus())
	return status.ExitStatus(), nil
}

// startInit starts this program once more, as "minidocker init". The child
// waits at the other end of the returned pipe for its configuration.
func startInit(cfg config, term *terminal) (*exec.Cmd, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	// /proc/self/exe is this very program, wherever it lies and whatever it is called.
	cmd := exec.Command("/proc/self/exe", "init")
	cmd.Args[0] = os.Args[0]
	cmd.Env = cfg.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{r} // configFD in the child
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		// If this process is killed, the kernel kills the child as well.
		Pdeathsig: unix.SIGKILL,
	}
	if cfg.UIDMap != nil {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.AmbientCaps = allCapabilities()
	}
	term.give(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, nil, fmt.Errorf("clone: %w", err)
	}
	logrus.Debugf("parent: process %d started init as process %d", os.Getpid(), cmd.Process.Pid)
	return cmd, w, nil
}

// sendConfig writes the configuration to init, which goes on when it has read it.
func sendConfig(pipe *os.File, cfg config) error {
	defer pipe.Close()
	if err := json.NewEncoder(pipe).Encode(cfg); err != nil {
		return fmt.Errorf("send the configuration to init: %w", err)
	}
	return nil
}

// newID makes up a container's ID, as short as docker prints it.
func newID() string {
	id := make([]byte, 6)
	rand.Read(id) // never fails: see crypto/rand
	return hex.EncodeToString(id)
}
