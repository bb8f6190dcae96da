//go:build linux

package tests

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"minidocker/final/tests/sandbox"
)

// scriptFiles are in the test binary, so that it can be sent to a machine alone.
//
//go:embed scripts exercises interop
var scriptFiles embed.FS

// Script is one behaviour, told from outside.
type Script struct {
	Name  string // NN-topic
	Since int    // the step from which it holds
	Title string // its first line: what it shows
	Read  string // where the lesson says it: a file of the repository and an anchor
	// Changes names, in an exercise's check, the script that its solution cannot pass.
	Changes string
	data    []byte
}

// ReadScripts returns the scripts in the order of their names.
func ReadScripts() ([]Script, error) { return readScripts("scripts") }

// ReadExercises returns the checks of the exercises: NN-M-topic is that of exercise M
// in the lesson of step NN.
func ReadExercises() ([]Script, error) { return readScripts("exercises") }

func readScripts(dir string) ([]Script, error) {
	entries, err := scriptFiles.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var all []Script
	for _, e := range entries {
		data, err := scriptFiles.ReadFile(dir + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		s, err := parseScript(strings.TrimSuffix(e.Name(), ".txtar"), data)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// parseScript reads the head of a script, two comment lines (an exercise may have a third):
//
//	# what it shows (E01, E02)
//	# read: step01-clone/README.md#exit-status
//	# changes: 04-mounts
func parseScript(name string, data []byte) (Script, error) {
	s := Script{Name: name, data: data}
	lines := strings.SplitN(string(data), "\n", 4)
	var okTitle, okRead bool
	s.Title, okTitle = strings.CutPrefix(lines[0], "# ")
	if len(lines) > 1 {
		s.Read, okRead = strings.CutPrefix(lines[1], "# read: ")
	}
	if len(lines) > 2 {
		s.Changes, _ = strings.CutPrefix(lines[2], "# changes: ")
	}
	number, _, okNumber := strings.Cut(name, "-")
	var err error
	s.Since, err = strconv.Atoi(number)
	if err != nil || !okNumber || !okTitle || !okRead {
		return Script{}, fmt.Errorf("script %s: its name or head is not as parseScript says", name)
	}
	return s, nil
}

// Setup is what a script is run on.
type Setup struct {
	Program string // path of the minidocker under test
	Step    int    // the step whose program it is
	Rootfs  string // path of a busybox root file system, copied for each script
	Escape  string // path of the program docs/labs/escape
	Lookup  string // path of the program docs/labs/lookup
	Peer    string // path of the program docs/labs/peer
	// Patience is how long a script may take; 0: half a minute, with less time for each line, too:
	// enough for one that is to fail.
	Patience time.Duration
}

// Result is what came of it. Log is what testscript printed.
type Result struct {
	Passed bool
	Log    string
}

// Reason is the line of the log that says what went wrong.
func (r Result) Reason() string {
	for line := range strings.Lines(r.Log) {
		if strings.HasPrefix(line, "FAIL: ") {
			return strings.TrimSpace(line)
		}
	}
	return "no reason given"
}

// job is what the process that runs the script is told, in an environment variable.
type job struct {
	Setup
	Name string
	Data []byte
	Work string // an empty folder for the script
}

const jobVar = "MINIDOCKER_TEST_JOB"

// Run runs the script in a process and a sandbox of its own.
func (s Script) Run(setup Setup) Result {
	// The folder is removed out here, where no mount made in there can lead the
	// removal to something that is not the script's.
	work, err := os.MkdirTemp("", "minidocker-test-")
	if err != nil {
		return Result{Log: err.Error()}
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil { // ordinary users have scripts, too
		return Result{Log: err.Error()}
	}
	arg, err := json.Marshal(job{Setup: setup, Name: s.Name, Data: s.data, Work: work})
	if err != nil {
		return Result{Log: err.Error()}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), jobVar+"="+string(arg), "TMPDIR="+work)
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		out = append(out, err.Error()...)
	}
	return Result{Passed: err == nil, Log: string(out)}
}

// RunIfScript runs a script and exits, if that is what this process was started for.
func RunIfScript() {
	arg, ok := os.LookupEnv(jobVar)
	if !ok {
		return
	}
	var j job
	if err := json.Unmarshal([]byte(arg), &j); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	run := sandbox.Run
	if measures(j.Name) {
		run = sandbox.RunFirst
	}
	os.Exit(run(func() int {
		if err := os.Unsetenv(jobVar); err != nil {
			fmt.Println(err)
			return 1
		}
		return j.run()
	}, j.Work))
}

// run runs the script in this process. It returns the exit status.
func (j job) run() int {
	if j.Patience == 0 {
		waiting = 5 * time.Second
	}
	file := filepath.Join(j.Work, j.Name+".txtar")
	if err := os.WriteFile(file, j.Data, 0o644); err != nil {
		fmt.Println(err)
		return 1
	}
	before, err := takeTrace()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	// testscript waits for all who hold a command's output open. The end of this
	// process is the end of the sandbox, and so of them too.
	time.AfterFunc(scale(j.patience()+10*time.Second), func() {
		fmt.Println("FAIL: the script does not end")
		os.Exit(1)
	})
	t := &scriptT{}
	done := make(chan struct{})
	go func() { // FailNow ends the goroutine that calls it
		defer close(done)
		testscript.RunT(t, testscript.Params{
			Files:               []string{file},
			Setup:               j.setup,
			Cmds:                commands,
			Condition:           j.condition,
			WorkdirRoot:         j.Work,
			RequireExplicitExec: true,
			RequireUniqueNames:  true,
			Deadline:            time.Now().Add(scale(j.patience())),
		})
	}()
	<-done
	if j.Step == engineStep {
		clearEngine()
	} else if !t.failed && j.Step >= 6 {
		// What a killed minidocker leaves, the next one removes.
		cmd := exec.Command(j.Program, "run", "--rootfs", j.Rootfs, "true")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(&t.log, "FAIL: the next start: %v\n%s", err, out)
			t.failed = true
		}
	}
	if !t.failed {
		if left := before.left(); left != "" {
			fmt.Fprintf(&t.log, "FAIL: something is left behind:\n%s", left)
			t.failed = true
		}
	}
	fmt.Print(t.log.String())
	if t.failed {
		return 1
	}
	return 0
}

func (j job) patience() time.Duration { return cmp.Or(j.Patience, 30*time.Second) }

// scale stretches a time limit on slow machines: MINIDOCKER_TIME_SCALE=20 in the VM.
func scale(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv("MINIDOCKER_TIME_SCALE")); err == nil && n > 0 {
		return d * time.Duration(n)
	}
	return d
}

// wrappers are small programs on the scripts' PATH:
//
//	run ARG…   minidocker run ARG…, with whatever a step needs to have a root with
//	           busybox in it, so that the scripts of the early steps hold in the later ones
//	user CMD…  CMD as an ordinary user, 1000, with a home in $WORK
//	lan up     a neighbour on a network 192.0.2.0/24, whose address is 192.0.2.2; the
//	           sandbox's own is 192.0.2.1 there. For routes it knows no more than that
//	lan CMD…   CMD at the neighbour's
//	lan down   and no neighbour any more
var wrappers = map[string]string{
	"run": `[ "$STEP" != 10 ] || exec minidocker run --rm busybox "$@"
exec minidocker run ${ROOTFS:+--rootfs="$ROOTFS"} "$@"`,
	"user": `mkdir -p "$WORK/home" && chown 1000:1000 "$WORK/home"
export HOME="$WORK/home" XDG_RUNTIME_DIR="$WORK/home"
exec setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all "$@"`,
	"lan": `case $1 in
up) ip netns add lan && ip link add lan0 type veth peer name eth0 netns lan &&
	ip addr add 192.0.2.1/24 dev lan0 && ip link set lan0 up &&
	ip -n lan addr add 192.0.2.2/24 dev eth0 &&
	ip -n lan link set eth0 up && ip -n lan link set lo up ;;
down) ip link del lan0 && ip netns del lan && umount /run/netns && rmdir /run/netns ;;
*) exec nsenter --net=/run/netns/lan "$@" ;;
esac`,
}

// setup prepares the script's environment: "minidocker" and the wrappers on the PATH,
// and from step 04 on ROOTFS.
func (j job) setup(env *testscript.Env) error {
	bin := filepath.Join(env.WorkDir, ".bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	// Copies: an ordinary user may not get to where the programs are.
	programs := map[string]string{"minidocker": j.Program, "peer": j.Peer}
	if j.Step == engineStep { // it has its other programs beside it
		delete(programs, "minidocker")
	}
	for name, path := range programs {
		program, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(bin, name), program, 0o755); err != nil {
			return err
		}
	}
	for name, content := range wrappers {
		path := filepath.Join(bin, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+content), 0o755); err != nil {
			return err
		}
	}
	env.Setenv("PEER", filepath.Join(bin, "peer"))
	// A small system may lack ps or vi: then it is busybox's.
	env.Setenv("PATH", strings.Join([]string{bin, filepath.Dir(j.Program), os.Getenv("PATH"),
		filepath.Join(j.Rootfs, "bin"), filepath.Join(j.Rootfs, "usr/bin")}, ":"))
	env.Setenv("ESCAPE", j.Escape)
	env.Setenv("LOOKUP", j.Lookup)
	env.Setenv("STEP", twoDigits(j.Step))
	env.Setenv("TERM", "xterm")
	for _, name := range []string{"MINIDOCKER_RUNS", "MINIDOCKER_TIME_SCALE"} {
		env.Setenv(name, os.Getenv(name))
	}
	// So that what bash's line editor prints can be matched.
	inputrc := filepath.Join(env.WorkDir, ".inputrc")
	if err := os.WriteFile(inputrc, []byte("set enable-bracketed-paste off\n"), 0o644); err != nil {
		return err
	}
	env.Setenv("INPUTRC", inputrc)
	if j.Step >= 4 && j.Step != engineStep {
		rootfs := filepath.Join(env.WorkDir, ".rootfs")
		if out, err := exec.Command("cp", "-a", j.Rootfs, rootfs).CombinedOutput(); err != nil {
			return fmt.Errorf("copy %s: %w\n%s", j.Rootfs, err, out)
		}
		env.Setenv("ROOTFS", rootfs)
	}
	s := newSessions()
	env.Values[sessionsKey{}] = s
	env.Defer(s.end)
	return nil
}

// condition knows [since:NN]: the program under test is step NN's or a later one's; and
// [cgroup:v1] and [cgroup:v2]: the controllers are in hierarchies of v1, in that of v2; and
// [user-xattr]: the store can keep attributes user.…, as a tmpfs can since Linux 6.6; and
// [device-mapper]: the kernel has it.
func (j job) condition(cond string) (bool, error) {
	if version, ok := strings.CutPrefix(cond, "cgroup:"); ok {
		return cgroupV2() == (version == "v2"), nil
	}
	if cond == "device-mapper" {
		_, err := os.Stat("/dev/mapper/control")
		return err == nil, nil
	}
	if cond == "user-xattr" {
		err := unix.Setxattr("/var/lib", "user.minidocker", []byte("x"), 0)
		return err == nil, nil
	}
	if n, ok := strings.CutPrefix(cond, "since:"); ok {
		step, err := strconv.Atoi(n)
		return j.Step >= step, err
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// cgroupV2 reports whether the controllers are in the hierarchy of version 2.
func cgroupV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// scriptT is a testscript.T without a testing.T.
type scriptT struct {
	log    bytes.Buffer
	failed bool
}

func (t *scriptT) Skip(args ...any)                     { t.Log("skipped"); t.Fatal(args...) }
func (t *scriptT) Fatal(args ...any)                    { t.Log(args...); t.FailNow() }
func (t *scriptT) Parallel()                            {}
func (t *scriptT) Log(args ...any)                      { fmt.Fprintln(&t.log, args...) }
func (t *scriptT) FailNow()                             { t.failed = true; runtime.Goexit() }
func (t *scriptT) Run(_ string, f func(t testscript.T)) { f(t) }
func (t *scriptT) Verbose() bool                        { return false }
