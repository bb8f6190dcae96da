//go:build linux

package tests

import (
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commands are what the scripts have beside testscript's own:
//
//	status N CMD [ARG…]     CMD exits with N (128+n: signal n killed it)
//	start [-pty] NAME CMD…  start CMD in the background, on pipes or on a new terminal of 24 × 80
//	send NAME TEXT          write to it; TEXT may have Go's escapes: \x03
//	expect NAME REGEXP      wait until its output, after what was expected before, matches
//	eof NAME                end its standard input; on a terminal: hang up
//	resize NAME ROWS COLS   change the terminal's size
//	signal NAME SIGNAL      send it a signal: TERM, KILL, …
//	finish NAME STATUS      wait for its end with this exit status
//	pid NAME VAR            set VAR to its process ID
//	child NAME VAR          set VAR to the ID of its only child, once that is the command
//	sigall SIGNAL REGEXP    send a signal to every process whose command line matches; wait for one
//	nobody REGEXP           wait until no process's command line matches
//	registry VAR [PASSWORD] serve an empty registry, and set VAR to its HOST:PORT
//	api FILE METHOD PATH […] ask the daemon at $DOCKER_HOST: see cmdAPI
//	tarball FILE ENTRY…     write a tar archive, also one that is not as it should be: see cmdTarball
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"status":   cmdStatus,
	"start":    sessionCommand(1, (*sessions).start),
	"send":     sessionCommand(2, (*sessions).send),
	"expect":   sessionCommand(2, (*sessions).expect),
	"eof":      sessionCommand(1, (*sessions).eof),
	"resize":   sessionCommand(3, (*sessions).resize),
	"signal":   sessionCommand(2, (*sessions).signal),
	"finish":   sessionCommand(2, (*sessions).finish),
	"pid":      sessionCommand(2, (*sessions).pid),
	"child":    sessionCommand(2, (*sessions).child),
	"sigall":   cmdSigall,
	"nobody":   cmdNobody,
	"api":      cmdAPI,
	"tarball":  cmdTarball,
	"registry": cmdRegistry,
}

func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N CMD [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exitStatus(exit.Sys().(syscall.WaitStatus))
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func cmdSigall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sigall SIGNAL REGEXP")
	}
	sig := unix.SignalNum("SIG" + args[0])
	if sig == 0 {
		ts.Fatalf("unknown signal %s", args[0])
	}
	found := matchingProcesses(ts, args[1])
	for limit := time.Now().Add(patience()); len(found) == 0; time.Sleep(pause) {
		if time.Now().After(limit) {
			ts.Fatalf("no process matches %q", args[1])
		}
		found = matchingProcesses(ts, args[1])
	}
	for _, p := range found {
		ts.Check(unix.Kill(p.pid, sig))
	}
}

func cmdNobody(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: nobody REGEXP")
	}
	for limit := time.Now().Add(patience()); ; time.Sleep(pause) {
		found := matchingProcesses(ts, args[0])
		if len(found) == 0 {
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("there is still %+v", found)
		}
	}
}

func matchingProcesses(ts *testscript.TestScript, expr string) []process {
	re, err := regexp.Compile(expr)
	ts.Check(err)
	all, err := processes()
	ts.Check(err)
	return slices.DeleteFunc(all, func(p process) bool { return !re.MatchString(p.cmdline) })
}

// exitStatus is the status as a shell has it.
func exitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
