//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"minidocker/final/oci/initproc"
	"minidocker/final/signals"
)

// reaperName is what the program is called as the first process of a container that wants one
// that waits for all others: run --init. Step 03 has the reasons.
const reaperName = "docker-init"

// reap starts a program, passes signals on to it, waits for everybody who has lost a parent, and
// ends as the program does.
func reap(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, reaperName+": which program?")
		return 125
	}
	path, err := initproc.LookPath(args[0], os.Environ())
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", reaperName, err)
		return initproc.ProgramStatus(err)
	}
	caught := make(chan os.Signal, 64)
	signals.Catch(caught, unix.SIGCHLD)
	cmd := &exec.Cmd{Path: path, Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	// In the foreground of its terminal, if there is one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Foreground: isTerminal(0)}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", reaperName, err)
		return initproc.ProgramStatus(err)
	}
	for {
		if status, ended := waitAll(cmd.Process.Pid); ended {
			return status
		}
		switch s := (<-caught).(syscall.Signal); s {
		case unix.SIGCHLD, unix.SIGURG, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE:
		default:
			_ = unix.Kill(cmd.Process.Pid, s) // it may have ended: then the next turn sees it
		}
	}
}

// waitAll waits for all that has ended, and says whether that one has.
func waitAll(main int) (status int, ended bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid == 0:
			return status, ended
		case pid == main:
			status, ended = ws.ExitStatus(), true
			if ws.Signaled() {
				status = 128 + int(ws.Signal())
			}
		}
	}
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
