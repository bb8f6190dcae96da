//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/tests"
	"minidocker/final/tests/sandbox"
)

// These tests look at the built program from outside, in a sandbox of their own: what it
// leaves behind, or breaks, is the sandbox's.

var (
	program string // the built minirunc
	rootfs  string // a copy of the busybox root file system that tests may write to
)

var made []string // the containers' IDs

const states = "/run/minirunc-test" // --root

func TestMain(m *testing.M) {
	attack()
	// go test wants to write beside the test's own binary.
	os.Exit(sandbox.Run(func() int { return inSandbox(m) }, filepath.Dir(os.Args[0])))
}

func inSandbox(m *testing.M) int {
	top, err := filepath.Abs("../../..")
	if err != nil {
		panic(err)
	}
	bin := os.Getenv("MINIDOCKER_BIN")
	if bin == "" {
		bin = filepath.Join(top, "build", "bin")
	}
	program = filepath.Join(bin, "minirunc")
	if _, err := os.Stat(program); err != nil {
		fmt.Fprintln(os.Stderr, "no minirunc to test: run \"make build\":", err)
		return 1
	}
	if err := os.MkdirAll("/run/tmp", 0o1777); err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", "/run/tmp"); err != nil {
		panic(err)
	}
	rootfs = "/run/rootfs"
	source := tests.Rootfs(nothing{}, top)
	if out, err := exec.Command("cp", "-a", source, rootfs).CombinedOutput(); err != nil {
		fmt.Fprintln(os.Stderr, "copy the root file system:", err, string(out))
		return 1
	}
	return m.Run()
}

// nothing is a testing.TB for TestMain, where there is none.
type nothing struct{ testing.TB }

func (nothing) Helper() {}
func (nothing) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// bundle is a bundle, and the container that is made from it.
type bundle struct {
	t    testing.TB
	dir  string
	id   string
	spec *specs.Spec
}

// newBundle makes a bundle that runs a script with the shell.
func newBundle(t testing.TB, script string, edit ...func(*specs.Spec)) *bundle {
	t.Helper()
	b := &bundle{t: t, dir: t.TempDir(), spec: exampleSpec(false)}
	b.id = strings.Map(func(r rune) rune {
		if strings.ContainsRune("/#()=,:' ", r) {
			return '-'
		}
		return r
	}, t.Name()) + "-" + strconv.Itoa(len(made))
	made = append(made, b.id)
	b.spec.Root.Path, b.spec.Root.Readonly = rootfs, false
	b.spec.Process.Terminal = false
	b.spec.Process.Args = []string{"sh", "-c", script}
	for _, e := range edit {
		e(b.spec)
	}
	b.write()
	t.Cleanup(func() { b.call("delete", "--force", b.id) })
	return b
}

// write writes config.json once more.
func (b *bundle) write() {
	b.t.Helper()
	data, err := json.Marshal(b.spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// result is what a command did.
type result struct {
	out, err string
	status   int
}

func (r result) String() string {
	return fmt.Sprintf("status %d\nstdout: %s\nstderr: %s", r.status, r.out, r.err)
}

// minirunc prepares a call of the program with a root for these tests.
func minirunc(args ...string) *exec.Cmd {
	return exec.Command(program, append([]string{"--root", states}, args...)...)
}

func run1(cmd *exec.Cmd) result {
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	// What a container has left running may hold these open.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	r := result{out.String(), stderr.String(), 0}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.status = exit.ExitCode()
	} else if err != nil {
		r.status, r.err = -1, r.err+err.Error()
	}
	return r
}

// call calls the program, in the bundle.
func (b *bundle) call(args ...string) result {
	cmd := minirunc(args...)
	cmd.Dir = b.dir
	return run1(cmd)
}

// must calls the program, which must succeed, and returns its output.
func (b *bundle) must(args ...string) string {
	b.t.Helper()
	r := b.call(args...)
	if r.status != 0 {
		b.t.Fatalf("minirunc %q: %v", args, r)
	}
	return r.out
}

// fails calls the program, which must fail with a message in which all of these are.
func (b *bundle) fails(args []string, words ...string) {
	b.t.Helper()
	r := b.call(args...)
	if r.status == 0 {
		b.t.Fatalf("minirunc %q succeeds, want an error with %q: %v", args, words, r)
	}
	for _, word := range words {
		if !strings.Contains(r.err, word) {
			b.t.Errorf("minirunc %q: %v, want %q in the error", args, r, word)
		}
	}
	if n := strings.Count(strings.TrimSpace(r.err), "\n"); n > 0 {
		b.t.Errorf("minirunc %q: %d lines of errors, want one: %s", args, n+1, r.err)
	}
}

// run runs the container in the foreground.
func (b *bundle) run(flags ...string) result {
	return b.call(append(append([]string{"run"}, flags...), b.id)...)
}

// background creates and starts the container, with its output to a file, not to a pipe
// that would have to be read to its end.
func (b *bundle) background(command string, flags ...string) {
	b.t.Helper()
	args := append([]string{command}, flags...)
	if !slices.Contains(flags, b.id) {
		args = append(args, b.id)
	}
	cmd := b.cmd(args...)
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("minirunc %s: %v: %s", command, err, b.output())
	}
}

func (b *bundle) cmd(args ...string) *exec.Cmd {
	b.t.Helper()
	cmd := minirunc(args...)
	cmd.Dir = b.dir
	out, err := os.OpenFile(filepath.Join(b.dir, "output"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { out.Close() })
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

func (b *bundle) output() string {
	data, _ := os.ReadFile(filepath.Join(b.dir, "output"))
	return string(data)
}

// up starts a container in the background.
func (b *bundle) up() *bundle {
	b.t.Helper()
	b.background("run", "--detach")
	return b
}

// stateOutput is what the command state prints.
type stateOutput struct {
	specs.State
	Rootfs  string
	Created time.Time
}

func (b *bundle) state() stateOutput {
	b.t.Helper()
	var s stateOutput
	if err := json.Unmarshal([]byte(b.must("state", b.id)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bundle) wantStatus(want specs.ContainerState) {
	b.t.Helper()
	if got := b.state().Status; got != want {
		b.t.Fatalf("status: got %s, want %s", got, want)
	}
}

// eventually waits until f is true, for as long as a slow machine may need.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("does not happen: %s", what)
		}
	}
}

func (b *bundle) waitStopped() {
	b.t.Helper()
	eventually(b.t, "the container stops", func() bool { return b.state().Status == specs.StateStopped })
}

// ownRootfs gives the bundle a root file system of its own.
func (b *bundle) ownRootfs() string {
	b.t.Helper()
	dir := filepath.Join(b.dir, "rootfs")
	if out, err := exec.Command("cp", "-a", rootfs, dir).CombinedOutput(); err != nil {
		b.t.Fatalf("copy: %v: %s", err, out)
	}
	b.spec.Root.Path = "rootfs"
	b.write()
	return dir
}

func (b *bundle) file(name string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func ptr[T any](v T) *T { return &v }

func mounts(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mountTmpfs(t testing.TB, dir, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(data), ") Z ") && unix.Kill(pid, 0) == nil
}

// without takes one kind of namespace out.
func without(kind specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		var kept []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			if ns.Type != kind {
				kept = append(kept, ns)
			}
		}
		s.Linux.Namespaces = kept
	}
}

// namespace adds one, or joins it by its path.
func namespace(kind specs.LinuxNamespaceType, path string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		without(kind)(s)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
}

// mapped gives the container a user namespace.
func mapped(s *specs.Spec) {
	namespace(specs.UserNamespace, "")(s)
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: 200000, Size: 65536}}
}

func withMount(m specs.Mount) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) }
}
