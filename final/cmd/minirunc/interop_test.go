//go:build linux

package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// These run the real podman and the real containerd with minirunc as their runtime: make
// interop-runtime. They take programs that a machine need not have, so that they are no
// part of make test.

// client is a program that calls the runtime, with the options for a state of its own.
type client struct {
	t    *testing.T
	args []string
}

func newClient(t *testing.T, pkg, name string, args ...string) *client {
	t.Helper()
	if os.Getenv("MINIDOCKER_INTEROP") == "" {
		t.Skip("run by make interop-runtime")
	}
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%v: apt-get install --no-install-recommends %s", err, pkg)
	}
	return &client{t, append([]string{name}, args...)}
}

func (c *client) call(args ...string) result {
	all := append(append([]string{}, c.args...), args...)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return run1(exec.CommandContext(ctx, all[0], all[1:]...))
}

func (c *client) must(args ...string) string {
	c.t.Helper()
	r := c.call(args...)
	if r.status != 0 {
		c.t.Fatalf("%q: %v", args, r)
	}
	return r.out
}

// want calls it and compares exit status and output.
func (c *client) want(status int, out string, args ...string) {
	c.t.Helper()
	if r := c.call(args...); r.status != status || strings.TrimSpace(r.out) != out {
		c.t.Errorf("%q: %v\nwant status %d, output %q", args, r, status, out)
	}
}

// image saves an image of the busybox root file system, with the last step's program.
func image(t *testing.T) string {
	t.Helper()
	steps, err := filepath.Glob(filepath.Join(filepath.Dir(program), "step*-image-export", "minidocker"))
	if err != nil || len(steps) != 1 {
		t.Fatalf("no program of step 09 in %s: run \"make build\"", filepath.Dir(program))
	}
	dir := t.TempDir()
	for _, args := range [][]string{
		{"tar", "-C", rootfs, "-cf", dir + "/rootfs.tar", "."},
		{steps[0], "import", dir + "/rootfs.tar", "localhost/busybox:latest"},
		{steps[0], "save", "-o", dir + "/image.tar", "localhost/busybox:latest"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	return dir + "/image.tar"
}

func TestInterop_Podman(t *testing.T) {
	dir, err := os.MkdirTemp("/var/lib", "podman")
	if err != nil {
		t.Fatal(err)
	}
	p := newClient(t, "podman crun conmon", "podman", "--root", dir+"/root", "--runroot", dir+"/run", "--storage-driver",
		"vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", program, "--tmpdir", dir+"/tmp")
	archive := image(t)
	writableTmp(t)
	p.args[len(p.args)-3] = program
	p.must("load", "-i", archive)
	const name = "localhost/busybox"
	run := []string{"run", "--rm", "--network", "none", "--ulimit", "host"}
	in := func(args ...string) []string { return append(append([]string{}, run...), args...) }
	p.want(0, "hello", in(name, "echo", "hello")...)
	p.want(7, "", in(name, "sh", "-c", "exit 7")...)
	p.want(137, "", in(name, "sh", "-c", "sh -c 'kill -9 $$'; exit $?")...)
	p.want(127, "", in(name, "nix")...)
	p.want(126, "", in(name, "/etc")...)
	p.want(0, "1000\n/tmp\nb", in("-u", "1000", "-w", "/tmp", "-e", "A=b", name, "sh", "-c", "id -u; pwd; echo $A")...)
	p.want(0, "67108864\n11", in("--memory", "64m", "--pids-limit", "11", name, "sh", "-c",
		"cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max")...)
	p.want(0, "content", in("-v", writeFile(t, "content")+":/file:ro", name, "cat", "/file")...)
	p.want(0, "0 100000 1000", in("--uidmap", "0:100000:1000", name, "sh", "-c", "awk '{print $1, $2, $3}' /proc/self/uid_map")...)
	p.want(0, "ok", in("--read-only", "--cap-drop", "all", "--tmpfs", "/t", name, "sh", "-c",
		"touch /x 2>/dev/null || touch /t/x && echo ok")...)
	p.want(0, "", in("--privileged", name, "mount", "-t", "tmpfs", "x", "/mnt")...)
	terminal := func(want string, args ...string) {
		t.Helper()
		f, err := pty.Start(exec.Command(p.args[0], append(append([]string{}, p.args[1:]...), args...)...))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		said(t, f, want)
	}
	terminal("/dev/pts/0", in("-it", name, "tty")...)

	id := strings.TrimSpace(p.must("run", "-d", "--name", "c", "--network", "none", "--ulimit", "host", name,
		"sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"))
	eventually(t, "logs", func() bool { return p.must("logs", "c") == "up\n" })
	p.want(0, "in", "exec", "c", "echo", "in")
	p.want(5, "", "exec", "c", "sh", "-c", "exit 5")
	p.want(0, "7", "exec", "-u", "7", "c", "id", "-u")
	if r := p.call("exec", "c", "nix"); r.status != 127 {
		t.Errorf("exec of what is not there: %v", r)
	}
	terminal("/dev/pts/0", "exec", "-it", "c", "tty")
	p.must("exec", "-d", "c", "sleep", "1000")
	status := func() string { return strings.TrimSpace(p.must("inspect", "-f", "{{.State.Status}}", "c")) }
	p.must("pause", "c")
	if got := status(); got != "paused" {
		t.Errorf("status: %s", got)
	}
	p.must("unpause", "c")
	if out := p.must("top", "c"); !strings.Contains(out, "sleep") {
		t.Errorf("top: %s", out)
	}
	p.must("kill", "-s", "TERM", "c")
	p.want(0, "3", "wait", "c")
	if out := p.must("logs", "c"); out != "up\nbye\n" {
		t.Errorf("logs: %q", out)
	}
	p.must("start", "c")
	eventually(t, "it runs again", func() bool { return status() == "running" })
	p.must("stop", "-t", "1", "c")
	p.must("rm", "c")
	p.must("create", "--name", "c", "--network", "none", "--ulimit", "host", name, "sleep", "1000")
	p.must("start", "c")
	p.must("rm", "-f", "-t", "0", "c")
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/libpod_parent/*" + id + "*"); len(left) > 0 {
		t.Errorf("control groups are left: %v", left)
	}
	if strings.Contains(mounts(t), id) {
		t.Error("mounts are left")
	}
}

// writableTmp gives conmon, which knows no TMPDIR, a /tmp. The program may lie below it.
func writableTmp(t *testing.T) {
	t.Helper()
	original := program
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	program = t.TempDir() + "/minirunc"
	t.Cleanup(func() { program = original })
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	mountTmpfs(t, "/tmp", "")
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestInterop_Containerd(t *testing.T) {
	dir, err := os.MkdirTemp("/var/lib", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // for the root of a user namespace
		t.Fatal(err)
	}
	c := newClient(t, "containerd", "ctr", "--address", dir+"/sock")
	config := dir + "/config.toml"
	if err := os.WriteFile(config, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command("containerd", "--root", dir+"/root", "--state", dir+"/state", "--address", dir+"/sock",
		"--config", config)
	daemon.Stdout, daemon.Stderr = log, log
	// So that it is minirunc, whatever this version of ctr makes of --runc-binary.
	if err := os.Symlink(program, dir+"/runc"); err != nil {
		t.Fatal(err)
	}
	daemon.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			data, _ := os.ReadFile(dir + "/log")
			t.Logf("%s", data[max(0, len(data)-3000):])
		}
	})
	eventually(t, "containerd answers", func() bool { return c.call("version").status == 0 })
	c.must("images", "import", image(t))
	name := strings.Fields(c.must("images", "list", "-q"))[0]
	run := func(id string, flags []string, command ...string) []string {
		args := append([]string{"run", "--runc-binary", program, "--snapshotter", "native"}, flags...)
		return append(append(args, name, id), command...)
	}
	rm := []string{"--rm"}
	c.want(0, "hello", run("a", rm, "echo", "hello")...)
	c.want(7, "", run("b", rm, "sh", "-c", "exit 7")...)
	c.want(0, "/tmp b", run("e", []string{"--rm", "--cwd", "/tmp", "--env", "A=b"}, "sh", "-c", "echo $PWD $A")...)
	c.want(0, "0 100000 1000", run("u", []string{"--rm", "--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"},
		"sh", "-c", "awk '{print $1, $2, $3}' /proc/self/uid_map")...)
	c.want(0, "Seccomp:\t2", run("s", []string{"--rm", "--seccomp"}, "grep", "Seccomp:", "/proc/self/status")...)
	if r := c.call(run("n", rm, "nix")...); r.status == 0 || !strings.Contains(r.err, "executable file not found") {
		t.Errorf("run of what is not there: %v", r)
	}
	c.must(run("d", []string{"--detach", "--memory-limit", "67108864"}, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")...)
	if limit, err := os.ReadFile("/sys/fs/cgroup/memory/default/d/memory.limit_in_bytes"); err == nil &&
		string(limit) != "67108864\n" {
		t.Errorf("memory limit: %s", limit)
	}
	c.want(0, "in", "tasks", "exec", "--exec-id", "e1", "d", "echo", "in")
	c.want(5, "", "tasks", "exec", "--exec-id", "e2", "d", "sh", "-c", "exit 5")
	for _, exec1 := range [][]string{run("t", []string{"--rm", "-t"}, "tty"),
		{"tasks", "exec", "-t", "--exec-id", "e3", "d", "tty"}} {
		f, err := pty.Start(exec.Command(c.args[0], append(append([]string{}, c.args[1:]...), exec1...)...))
		if err != nil {
			t.Fatal(err)
		}
		said(t, f, "/dev/pts/0")
		f.Close()
	}
	status := func() string {
		for line := range strings.Lines(c.must("tasks", "list")) {
			if f := strings.Fields(line); f[0] == "d" {
				return f[2]
			}
		}
		return ""
	}
	c.must("tasks", "pause", "d")
	if got := status(); got != "PAUSED" {
		t.Errorf("status: %s", got)
	}
	c.must("tasks", "resume", "d")
	if out := c.must("tasks", "ps", "d"); strings.Count(out, "\n") < 2 {
		t.Errorf("ps: %s", out)
	}
	if out := c.must("tasks", "metrics", "--format", "json", "d"); !json.Valid([]byte(out)) {
		t.Errorf("metrics: %s", out)
	}
	c.must("tasks", "kill", "-s", "SIGTERM", "d")
	eventually(t, "it stops", func() bool { return status() == "STOPPED" })
	if r := c.call("tasks", "delete", "d"); !strings.Contains(r.err, "exit code 3") {
		t.Errorf("tasks delete: %v", r)
	}
	c.must("containers", "delete", "d")
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/default/*/"); len(left) > 0 {
		t.Errorf("control groups are left: %v", left)
	}
	if strings.Contains(mounts(t), "/d/rootfs") {
		t.Error("mounts are left")
	}
}
