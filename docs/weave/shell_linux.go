package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The first steps whose lessons promise root's shell a /var/lib and a network of its own.
const (
	ownStoreStep   = 7
	ownNetworkStep = 8
)

// What makes them, in namespaces that are new. As in the sandbox of weave run, no setuid
// program works in the one, and the other is no router. The names that "ip netns" gives lie
// in /run/netns: the machine's stay out, and the lesson's go with the shell.
const (
	ownStore = "mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /var/lib && "
	ownNet   = "mkdir -p /run/netns && mount -t tmpfs -o mode=755 tmpfs /run/netns && " +
		"ip link set lo up && echo 0 >/proc/sys/net/ipv4/ip_forward && "
)

// shellCommand starts a shell on the user's terminal, on the user's own machine: not
// in a sandbox, but for the store and the network of the later steps.
func shellCommand(c *call) (err error) {
	fs := flags("shell")
	asUser := fs.Bool("user", false, "an ordinary user's shell, for commands after $")
	if err := c.parse(fs, 1, 1); err != nil {
		return err
	}
	r, err := openRepo(c.dir)
	if err != nil {
		return err
	}
	s, err := r.step(c.args[0])
	if err != nil {
		return c.misuse("%v", err)
	}
	if os.Geteuid() != 0 && !*asUser {
		return fmt.Errorf("a lesson's commands need root: make shell STEP=%02d does it, "+
			"or sudo -E before this command", s.number)
	}
	// The terminal sends these to everything in the foreground; they are the shell's.
	// Ignored, they would be so in whatever it starts.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, unix.SIGQUIT, unix.SIGHUP)
	sc := &scratch{repo: r, step: s}
	sc.uid, sc.gid = caller()
	defer func() { err = errors.Join(err, sc.remove()) }()
	if err := sc.prepare(*asUser); err != nil {
		return err
	}
	return sc.interactive(c, *asUser)
}

// caller is the user who called sudo, or the one that sessions have.
func caller() (uid, gid int) {
	uid, errUID := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, errGID := strconv.Atoi(os.Getenv("SUDO_GID"))
	if errUID != nil || errGID != nil || uid == 0 {
		return userID, userID
	}
	return uid, gid
}

// interactive runs the shell until the user leaves it.
func (s *scratch) interactive(c *call, asUser bool) error {
	// In a file and not in the environment: a shell in a container has a prompt of its own.
	rc := s.path("bashrc")
	prompt := s.step.short() + "# "
	if asUser {
		prompt = s.step.short() + "$ "
	}
	if err := os.WriteFile(rc, []byte("PS1='"+prompt+"'\n"), 0o644); err != nil {
		return err
	}
	cmd := exec.Command("bash", "--noprofile", "--rcfile", rc, "-i")
	if !asUser && s.step.number >= ownStoreStep {
		script := ownStore
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if s.step.number >= ownNetworkStep {
			script += ownNet
			cmd.SysProcAttr.Unshareflags |= unix.CLONE_NEWNET
		}
		cmd = &exec.Cmd{
			Path: "/bin/sh", Args: append([]string{"sh", "-c", script + `exec "$@"`, "sh"}, cmd.Args...),
			SysProcAttr: cmd.SysProcAttr,
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, c.stdout, c.stderr
	cmd.Dir = s.path("work")
	cmd.Env = set(s.settings(os.Environ()), "HISTFILE=")
	if asUser {
		cmd.Dir = s.path("home")
		cmd.Env = s.userSettings(cmd.Env)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential()}
		}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // the status of the last command is the user's
	}
	return err
}
