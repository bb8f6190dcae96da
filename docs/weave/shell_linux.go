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

// shellCommand starts a shell on the user's terminal, on the user's own machine: not
// in a sandbox.
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
