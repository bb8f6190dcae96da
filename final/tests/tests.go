//go:build linux

// Package tests is the shared test suite of all steps and of the engine. It looks
// at a minidocker program from outside: every behaviour is a script, run by
// testscript in a sandbox of its own (package sandbox), on a machine that the
// script may break.
//
// A script is called NN-topic.txtar: it holds from step NN on. A step's test runs
// all scripts up to its own number on its own program, and those of its own number
// on the previous step's program as well, where each must fail: a script that
// passes without the feature proves nothing.
package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// stepDir matches the name of a step's folder; its group is the number.
var stepDir = regexp.MustCompile(`^step(\d\d)-`)

// Main is a test's TestMain: the test binary starts itself again for every script.
func Main(m *testing.M) {
	RunIfScript()
	os.Exit(m.Run())
}

// RunStep tests the program in the current folder, which is a step's.
func RunStep(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	match := stepDir.FindStringSubmatch(filepath.Base(dir))
	if match == nil {
		t.Fatalf("%s is not a step's folder", dir)
	}
	step, _ := strconv.Atoi(match[1]) // two digits: see stepDir
	top := filepath.Dir(dir)
	setup := Setup{
		Program: Build(t, dir),
		Step:    step,
		Rootfs:  Rootfs(t, top),
		Escape:  Lab(t, top, "escape"),
		Lookup:  Lab(t, top, "lookup"),
		Peer:    Lab(t, top, "peer"),
		// Seconds, mostly; but nobody knows what else the machine does.
		Patience: LongPatience,
	}
	for _, s := range Scripts(t) {
		if s.Since > step {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			if !measures(s.Name) {
				t.Parallel()
			}
			r := s.Run(setup)
			if !r.Passed {
				t.Errorf("%s\n%s", s.Title, r.Log)
			}
		})
	}
	if step > 1 {
		t.Run("without", func(t *testing.T) { mustFailBefore(t, dir, setup) })
	}
}

// measures says whether a script measures processor time: not while others run beside it, if that
// can be helped.
func measures(name string) bool { return name == "06-cpu" }

// LongPatience is that with scripts that are to pass.
const LongPatience = 3 * time.Minute

// mustFailBefore runs the scripts that are new in this step on the previous step's program.
func mustFailBefore(t *testing.T, dir string, setup Setup) {
	step := setup.Step
	previous, err := filepath.Glob(filepath.Join(dir, "..", "step"+twoDigits(step-1)+"-*"))
	if err != nil || len(previous) != 1 {
		t.Fatalf("no folder of step %d beside %s", step-1, dir)
	}
	setup.Step--
	setup.Patience = 0
	setup.Program = Build(t, previous[0])
	found := false
	for _, s := range Scripts(t) {
		if s.Since != step {
			continue
		}
		found = true
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			r := s.Run(setup)
			if r.Passed {
				t.Errorf("passes on step %d, so it is not about step %d:\n%s", step-1, step, r.Log)
			}
			t.Logf("fails on step %d, as it must: %s", step-1, r.Reason())
		})
	}
	if !found {
		t.Errorf("no script is about step %d", step)
	}
}

func twoDigits(n int) string {
	return string([]byte{'0' + byte(n/10), '0' + byte(n%10)})
}

// Build returns the path of the program of the step in dir: the one that was built
// before, where MINIDOCKER_BIN names a folder of such (in the VM there is no
// compiler), or else one built now.
func Build(t testing.TB, dir string) string {
	t.Helper()
	name := filepath.Base(dir)
	if built := os.Getenv("MINIDOCKER_BIN"); built != "" {
		return filepath.Join(built, name, "minidocker")
	}
	program := filepath.Join(t.TempDir(), name, "minidocker")
	build(t, dir, program)
	return program
}

// Lab returns the path of the program docs/labs/name, in the same way as Build.
func Lab(t testing.TB, top, name string) string {
	t.Helper()
	if built := os.Getenv("MINIDOCKER_BIN"); built != "" {
		return filepath.Join(built, name)
	}
	program := filepath.Join(t.TempDir(), name)
	build(t, filepath.Join(top, "docs", "labs", name), program)
	return program
}

// build compiles the package in dir; args are more arguments for go build.
func build(t testing.TB, dir, program string, args ...string) {
	t.Helper()
	args = append([]string{"build", "-o", program}, args...)
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", dir, err, out)
	}
}

// Rootfs returns the busybox root file system of the repository at top.
func Rootfs(t testing.TB, top string) string {
	t.Helper()
	dir := filepath.Join(top, "build", "rootfs", runtime.GOARCH)
	if fromEnv := os.Getenv("MINIDOCKER_ROOTFS"); fromEnv != "" {
		dir = fromEnv
	}
	dir, err := filepath.Abs(dir) // its programs are called from anywhere
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bin", "busybox")); err != nil {
		t.Fatalf("no root file system: run \"make rootfs\": %v", err)
	}
	return dir
}

// Scripts returns the scripts in the order of their names.
func Scripts(t testing.TB) []Script {
	t.Helper()
	all, err := ReadScripts()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
