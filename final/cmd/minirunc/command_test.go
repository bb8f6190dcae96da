//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestLifecycle(t *testing.T) {
	b := newBundle(t, "echo started; exec sleep 1000")
	b.spec.Annotations = map[string]string{"a.b": "c"}
	b.write()
	b.background("create", "--pid-file", "pid")
	s := b.state()
	if s.Status != specs.StateCreated || s.ID != b.id || s.Bundle != b.dir || s.Rootfs != rootfs ||
		s.Annotations["a.b"] != "c" || s.Version == "" || s.Created.IsZero() {
		t.Errorf("state: %+v", s)
	}
	if got := b.file("pid"); got != strconv.Itoa(s.Pid) {
		t.Errorf("--pid-file: got %q, want %d", got, s.Pid)
	}
	if b.output() != "" {
		t.Error("the process runs before start")
	}
	b.fails([]string{"create", b.id}, "already exists")
	b.wantStatus(specs.StateCreated) // the other one is not harmed
	b.fails([]string{"delete", "--nonsense", b.id}, "--nonsense")
	b.must("start", b.id)
	eventually(t, "output", func() bool { return b.output() == "started\n" })
	b.wantStatus(specs.StateRunning)
	b.fails([]string{"start", b.id}, "running")
	b.fails([]string{"delete", b.id}, "running")
	b.fails([]string{"kill", b.id, "NONSENSE"}, "NONSENSE")
	b.must("kill", b.id, "KILL")
	b.waitStopped()
	if pid := b.state().Pid; pid != 0 {
		t.Errorf("pid of a stopped container: %d", pid)
	}
	b.fails([]string{"start", b.id}, "stopped")
	b.fails([]string{"kill", b.id, "TERM"}, "container not running") // containerd looks for it
	b.must("kill", "--all", b.id, "KILL")
	b.fails([]string{"exec", b.id, "true"}, "stopped")
	b.fails([]string{"pause", b.id}, "stopped")
	b.must("delete", b.id)
	b.fails([]string{"delete", b.id}, "does not exist")
	b.must("delete", "--force", b.id)
	for _, args := range [][]string{{"state"}, {"start"}, {"kill"}, {"pause"}, {"resume"}, {"ps"},
		{"exec"}, {"events", "--stats"}, {"update", "--pids-limit=5"}} {
		args = append(args, b.id)
		if args[0] == "exec" {
			args = append(args, "true")
		}
		b.fails(args, "does not exist")
	}
}

func TestDelete_Created(t *testing.T) {
	b := newBundle(t, "echo runs")
	b.background("create")
	pid := b.state().Pid
	b.fails([]string{"delete", b.id}, "created")
	if b.state().Pid != pid || !alive(pid) {
		t.Error("a delete that is refused has an effect")
	}
	b.must("start", b.id)
	eventually(t, "output", func() bool { return b.output() == "runs\n" })
	b.waitStopped()
	b.must("delete", b.id)
	b = newBundle(t, "true")
	b.background("create")
	pid = b.state().Pid
	b.must("delete", "--force", b.id)
	if alive(pid) {
		t.Error("delete --force leaves the process of a created container")
	}
}

func TestKill(t *testing.T) {
	b := newBundle(t, `trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo term' TERM; echo up
		while :; do sleep 0.01; done`).up()
	eventually(t, "up", func() bool { return b.output() == "up\n" })
	for _, sig := range []struct{ args, want string }{
		{"HUP", "hup"}, {"SIGUSR1", "usr1"}, {"10", "usr1"}, {"sighup", "hup"}, {"", "term"},
	} {
		before := len(b.output())
		b.must(append([]string{"kill", b.id}, strings.Fields(sig.args)...)...)
		eventually(t, sig.want, func() bool { return b.output()[before:] == sig.want+"\n" })
	}
	b.must("kill", b.id, "9")
	b.waitStopped()
	// Without a pid namespace of its own, all of them.
	b = newBundle(t, "sleep 1000 & sleep 1000 & wait", without(specs.PIDNamespace)).up()
	var pids []int
	eventually(t, "three processes", func() bool {
		if err := json.Unmarshal([]byte(b.must("ps", "--format", "json", b.id)), &pids); err != nil {
			t.Fatal(err)
		}
		return len(pids) == 3
	})
	b.must("kill", "--all", b.id, "KILL")
	eventually(t, "all end", func() bool { return !slices.ContainsFunc(pids, alive) })
	b.must("delete", b.id)
}

func TestRun_ExitStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 7": 7, "true": 0, "kill -9 $$": 0, "sh -c 'kill -9 $$'; exit $?": 137} {
		b := newBundle(t, script)
		if r := b.run(); r.status != want {
			t.Errorf("%s: %v, want %d", script, r, want)
		}
		b.fails([]string{"state", b.id}, "does not exist")
	}
	b := newBundle(t, "exit 3")
	if r := b.run("--keep"); r.status != 3 {
		t.Errorf("run --keep: %v", r)
	}
	b.wantStatus(specs.StateStopped)
	b.must("delete", b.id)
}

func TestRun_Streams(t *testing.T) {
	b := newBundle(t, "cat; echo err >&2")
	cmd := minirunc("run", b.id)
	cmd.Dir, cmd.Stdin = b.dir, strings.NewReader("in\n")
	if r := run1(cmd); r.out != "in\n" || r.err != "err\n" || r.status != 0 {
		t.Error(r)
	}
}

func TestRun_ForwardsSignals(t *testing.T) {
	b := newBundle(t, "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done")
	cmd := b.cmd("run", b.id)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "up", func() bool { return b.output() == "up\n" })
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("exit status: got %d, want 5", got)
	}
}

func TestRun_DetachWithClosedStreams(t *testing.T) {
	b := newBundle(t, "ls -l /proc/self/fd > /dev/shm/fds; exec sleep 1000")
	cmd := exec.Command("bash", "-c", `exec "$@" <&- >&- 2>&-`, "bash", program, "--root", states,
		"run", "--detach", "--bundle", b.dir, b.id)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	b.wantStatus(specs.StateRunning)
	b.must("exec", b.id, "true")
}

func TestRun_PreserveFds(t *testing.T) {
	b := newBundle(t, "cat <&3; cat <&4; ls /proc/1/fd; true")
	cmd := minirunc("run", "--preserve-fds", "2", b.id)
	cmd.Dir = b.dir
	for _, text := range []string{"three\n", "four\n"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.WriteString(text)
		w.Close()
		defer r.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	}
	if r := run1(cmd); r.out != "three\nfour\n0\n1\n2\n3\n4\n" {
		t.Error(r)
	}
	b.fails([]string{"run", "--preserve-fds", "9", b.id}, "not open")
	b.fails([]string{"run", "--preserve-fds", "x", b.id}, "number")
}

func TestExec(t *testing.T) {
	b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, "FROM=config")
		s.Process.User.Umask = ptr(uint32(0o27))
	}).up()
	for _, c := range []struct {
		args, want string
		status     int
	}{
		{"ID|pwd", "/\n", 0},
		{"ID|sh|-c|exit 7", "", 7},
		{"ID|sh|-c|kill -9 $$", "", 137},
		{"ID|hostname", "minirunc\n", 0},
		{"ID|sh|-c|echo $FROM", "config\n", 0},
		{"ID|sh|-c|echo $HOME", "/root\n", 0},
		{"ID|umask", "", 255},
		{"ID|sh|-c|umask", "0027\n", 0},
		{"--env|A=1|-e|B=2|ID|sh|-c|echo $A$B", "12\n", 0},
		{"--cwd|/etc|ID|pwd", "/etc\n", 0},
		{"--user|1000:100|ID|sh|-c|id -u; id -G", "1000\n100\n", 0},
		{"-u|5|ID|id|-u", "5\n", 0},
		{"--user|1:2|--additional-gids|3|-g|4|ID|id|-G", "2 3 4\n", 0},
		{"--cap|SYS_ADMIN|ID|grep|CapEff|/proc/self/status", "CapEff:\t0000000020200420\n", 0},
		{"ID|nix", "", 255},
		{"ID|/etc", "", 255},
		{"--cwd|/nowhere|ID|true", "", 255},
		{"ID|grep|NoNewPrivs|/proc/self/status", "NoNewPrivs:\t1\n", 0},
		{"ID|sh|-c|ulimit -n", "1024\n", 0},
		{"ID|ls|/proc/self/fd", "0\n1\n2\n3\n", 0}, // 3 is the folder's own
		{"--|ID|echo|--x", "--x\n", 0},
	} {
		args := strings.Split(c.args, "|")
		args[slices.Index(args, "ID")] = b.id
		if r := b.call(append([]string{"exec"}, args...)...); r.out != c.want || r.status != c.status {
			t.Errorf("exec %q: %v\nwant status %d, output %q", args, r, c.status, c.want)
		}
	}
	if r := b.call("exec", b.id, "nix"); !strings.Contains(r.err, "executable file not found in $PATH") {
		t.Error(r)
	}
	// It is in all of the container's namespaces and control groups.
	out := b.must("exec", b.id, "sh", "-c", "for i in /proc/1/ns/*; do readlink $i; done; cat /proc/1/cgroup; echo; "+
		"for i in /proc/self/ns/*; do readlink $i; done; cat /proc/self/cgroup")
	if first, second, _ := strings.Cut(out, "\n\n"); strings.TrimSpace(first) != strings.TrimSpace(second) {
		t.Errorf("first process and exec differ: %s", out)
	}
}

func TestExec_Process(t *testing.T) {
	b := newBundle(t, "exec sleep 1000", mapped).up()
	process := func(p specs.Process) string {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.dir, "process.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return "process.json"
	}
	file := process(specs.Process{
		Args: []string{"sh", "-c", "id -u; id -G; umask; pwd; echo $A; grep -E 'Cap[EB]|NoNew' /proc/self/status; " +
			"ulimit -n; cat /proc/self/oom_score_adj"},
		Env: []string{"A=b", "PATH=/bin"}, Cwd: "/etc",
		User: specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}, Umask: ptr(uint32(0o77))},
		Capabilities: &specs.LinuxCapabilities{
			Bounding: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"},
			Effective: []string{"CAP_KILL"}, Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"},
		},
		Rlimits:     []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 33, Hard: 44}},
		OOMScoreAdj: ptr(77),
	})
	want := "7\n8 9\n0077\n/etc\nb\nCapEff:\t0000000000000020\nCapBnd:\t0000000000000020\nNoNewPrivs:\t0\n33\n77\n"
	if r := b.call("exec", "--process", file, b.id); r.out != want {
		t.Errorf("%v, want %s", r, want)
	}
	// What limits the container limits a process that says nothing of it.
	process(specs.Process{Args: []string{"/bin/sh", "-c", "ulimit -n; grep CapBnd /proc/self/status"}, Cwd: "/"})
	if r := b.call("exec", "-p", file, b.id); r.out != "1024\nCapBnd:\t0000000020000420\n" {
		t.Error(r)
	}
	b.background("exec", "--process", process(specs.Process{Args: []string{"/bin/sleep", "1000"}, Cwd: "/"}),
		"--detach", "--pid-file", "pid")
	pid, err := strconv.Atoi(b.file("pid"))
	if err != nil || !alive(pid) {
		t.Errorf("--pid-file of exec --detach: %q", b.file("pid"))
	}
	process(specs.Process{Args: []string{"true"}, Cwd: "relative"})
	b.fails([]string{"exec", "--process", file, b.id}, "not absolute")
	b.fails([]string{"exec", "--process", "nowhere.json", b.id}, "nowhere.json")
}

// console listens as a caller does, and returns the terminal's master.
func console(t *testing.T, call func(socket string)) *os.File {
	t.Helper()
	master := receive(t, call)
	t.Cleanup(func() { master.Close() })
	return master
}

// said reads until all of these words were there.
func said(t *testing.T, f *os.File, words ...string) {
	t.Helper()
	var all []byte
	done := make(chan error, 1)
	go func() {
		buffer := make([]byte, 4096)
		missing := func(w string) bool { return !strings.Contains(string(all), w) }
		for slices.ContainsFunc(words, missing) {
			n, err := f.Read(buffer)
			all = append(all, buffer[:n]...)
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("the terminal says %q, want %q: %v", all, words, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("the terminal does not say %q", words)
	}
}

func TestTerminal_ConsoleSocket(t *testing.T) {
	const script = "tty; stty size; [ -t 0 ] && [ -t 2 ] && echo all; " +
		"stat -c %u /dev/pts/0; echo x > /dev/console; exec sleep 1000"
	for name, edit := range map[string]func(*specs.Spec){"root": nil, "mapped": mapped} {
		t.Run(name, func(t *testing.T) {
			b := newBundle(t, script, func(s *specs.Spec) {
				s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 99}
				s.Process.User.UID = 1000
				if edit != nil {
					edit(s)
				}
			})
			master := console(t, func(socket string) { b.background("create", "--console-socket", socket) })
			b.must("start", b.id)
			said(t, master, "/dev/pts/0", "33 99", "all", "1000", "x")
			master = console(t, func(socket string) {
				b.background("exec", "--tty", "--detach", "--console-socket", socket, b.id, "sh", "-c",
					"tty; echo again; sleep 1000")
			})
			said(t, master, "/dev/pts/1", "again")
		})
	}
	b := newBundle(t, "true")
	b.fails([]string{"create", "--console-socket", "/run/none", b.id}, "process.terminal")
	b.spec.Process.Terminal = true
	b.write()
	b.fails([]string{"create", "--console-socket", "/run/none", b.id}, "/run/none")
}

func TestTerminal_Foreground(t *testing.T) {
	b := newBundle(t, "stty size; read line; echo got $line; exit 6", func(s *specs.Spec) {
		s.Process.Terminal = true
	})
	foreground := func(args ...string) (*os.File, *exec.Cmd) {
		cmd := minirunc(args...)
		cmd.Dir = b.dir
		f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 44, Cols: 111})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f, cmd
	}
	f, cmd := foreground("run", b.id)
	said(t, f, "44 111")
	_, _ = f.WriteString("hello\r")
	said(t, f, "got hello")
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("exit status: got %d, want 6", cmd.ProcessState.ExitCode())
	}
	b = newBundle(t, "exec sleep 1000").up()
	f, cmd = foreground("exec", "--tty", b.id, "sh", "-c", "stty size; read a; stty size; exit 4")
	said(t, f, "44 111")
	if err := pty.Setsize(f, &pty.Winsize{Rows: 22, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(unix.SIGWINCH)
	time.Sleep(50 * time.Millisecond) // so that the new size is there before the line
	_, _ = f.WriteString("\r")
	said(t, f, "22 77")
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 4 {
		t.Errorf("exit status: got %d, want 4", cmd.ProcessState.ExitCode())
	}
}

func TestPause(t *testing.T) {
	b := newBundle(t, "while :; do echo x; sleep 0.01; done").up()
	b.must("pause", b.id)
	b.wantStatus("paused")
	before := len(b.output())
	time.Sleep(100 * time.Millisecond)
	if len(b.output()) != before {
		t.Error("it runs while it is paused")
	}
	b.fails([]string{"pause", b.id}, "paused")
	b.fails([]string{"exec", b.id, "true"}, "paused")
	b.must("resume", b.id)
	b.wantStatus(specs.StateRunning)
	eventually(t, "it goes on", func() bool { return len(b.output()) > before })
	b.fails([]string{"resume", b.id}, "running")
	b.must("pause", b.id)
	b.must("delete", "--force", b.id)
	b.fails([]string{"state", b.id}, "does not exist")
}

func TestPsListEvents(t *testing.T) {
	b := newBundle(t, "sleep 1000 & exec sleep 2000").up()
	var pids []int
	eventually(t, "two processes", func() bool {
		if err := json.Unmarshal([]byte(b.must("ps", "--format", "json", b.id)), &pids); err != nil {
			t.Fatal(err)
		}
		return len(pids) == 2
	})
	if !slices.Contains(pids, b.state().Pid) {
		t.Errorf("ps: %v is without %d", pids, b.state().Pid)
	}
	if out := b.must("ps", b.id); strings.Count(out, "sleep") != 2 || !strings.Contains(out, "PID") {
		t.Errorf("ps: %s", out)
	}
	b.fails([]string{"ps", "--format", "x", b.id}, "json")
	if out := b.must("list", "--quiet"); !strings.Contains(out, b.id+"\n") {
		t.Errorf("list -q: %s", out)
	}
	out := b.must("list")
	if !strings.HasPrefix(out, "ID ") || !strings.Contains(out, b.id) || !strings.Contains(out, "running") {
		t.Errorf("list: %s", out)
	}
	var all []struct {
		ID, Status, Bundle, Owner string
		Pid                       int
	}
	if err := json.Unmarshal([]byte(b.must("list", "-f", "json")), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].ID != b.id || all[0].Owner != "root" || all[0].Status != "running" {
		t.Errorf("list --format json: %+v", all)
	}
	var event struct {
		Type, ID string
		Data     struct {
			CPU    struct{ Usage struct{ Total uint64 } }
			Memory struct{ Usage struct{ Usage uint64 } }
			Pids   struct{ Current uint64 }
		}
	}
	if err := json.Unmarshal([]byte(b.must("events", "--stats", b.id)), &event); err != nil {
		t.Fatal(err)
	}
	if event.Type != "stats" || event.ID != b.id || event.Data.CPU.Usage.Total == 0 ||
		event.Data.Memory.Usage.Usage == 0 || event.Data.Pids.Current != 2 {
		t.Errorf("events --stats: %+v", event)
	}
}

// groupFile reads a file of the container's control group, wherever it lies.
func groupFile(t *testing.T, b *bundle, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", b.state().Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		found, _ := filepath.Glob("/sys/fs/cgroup/*" + f[2] + "/" + name)
		if len(found) > 0 {
			value, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(value))
		}
	}
	t.Fatalf("no file %s in %s", name, data)
	return ""
}

func TestResources(t *testing.T) {
	b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) {
		s.Linux.CgroupsPath = "/a/path"
		s.Linux.Resources = &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20))},
			CPU: &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)),
				Cpus: "0"},
			Pids: &specs.LinuxPids{Limit: ptr(int64(20))},
		}
	}).up()
	check := func(want map[string]string) {
		t.Helper()
		for file, value := range want {
			if got := groupFile(t, b, file); got != value {
				t.Errorf("%s: got %s, want %s", file, got, value)
			}
		}
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory/memory.limit_in_bytes"); err != nil {
		t.Skip("this machine has cgroup version 2 alone: the values are tested on a fake one")
	}
	check(map[string]string{
		"memory.limit_in_bytes": "67108864", "memory.soft_limit_in_bytes": "33554432", "cpu.shares": "512",
		"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "cpuset.cpus": "0", "pids.max": "20",
	})
	b.must("update", "--memory", "128m", "--cpu-quota=20000", "--cpu-period", "50000", "--cpu-shares", "100",
		"--pids-limit", "-1", b.id)
	check(map[string]string{
		"memory.limit_in_bytes": "134217728", "cpu.cfs_quota_us": "20000", "cpu.cfs_period_us": "50000",
		"cpu.shares": "100", "pids.max": "max", "memory.soft_limit_in_bytes": "33554432",
	})
	cmd := minirunc("update", "--resources", "-", b.id)
	cmd.Stdin = strings.NewReader(`{"memory": {"limit": 50331648}, "pids": {"limit": 9}}`)
	if r := run1(cmd); r.status != 0 {
		t.Error(r)
	}
	check(map[string]string{"memory.limit_in_bytes": "50331648", "pids.max": "9", "cpu.shares": "100"})
	b.fails([]string{"update", b.id}, "nothing to change")
	b.fails([]string{"update", "--memory", "x", b.id}, "number")
	b.must("delete", "-f", b.id)
	if found, _ := filepath.Glob("/sys/fs/cgroup/*/a/path"); len(found) > 0 {
		t.Errorf("control groups are left: %v", found)
	}
}

func TestResources_Refused(t *testing.T) {
	for want, r := range map[string]*specs.LinuxResources{
		"memory.nonsense": {Unified: map[string]string{"memory.nonsense": "1"}},
		"../x":            {Unified: map[string]string{"../x.y": "1"}},
		"cpu.cpus":        {CPU: &specs.LinuxCPU{Cpus: "99"}},
		"hugepageLimits":  {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "3KB", Limit: 1}}},
		"rdma":            {Rdma: map[string]specs.LinuxRdma{"none": {HcaHandles: ptr(uint32(1))}}},
	} {
		b := newBundle(t, "true", func(s *specs.Spec) { s.Linux.Resources = r })
		b.fails([]string{"create", b.id}, want)
		if found, _ := filepath.Glob("/sys/fs/cgroup/*/" + b.id); len(found) > 0 {
			t.Errorf("control groups are left: %v", found)
		}
	}
}

func TestHooks(t *testing.T) {
	b := newBundle(t, "echo process >> /dev/shm/x; cat /dev/shm/x")
	log := filepath.Join(b.dir, "log")
	hook := func(name, script string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"hook", "-c", script}, Env: []string{"NAME=" + name,
			"PATH=/usr/bin:/bin", "LOG=" + log}}}
	}
	outside := `cat > $LOG.$NAME; echo "$NAME $0 $(readlink /proc/self/ns/mnt)" >> $LOG`
	b.spec.Hooks = &specs.Hooks{
		//nolint:staticcheck // deprecated, and asked for all the same
		Prestart:        slices.Concat(hook("prestart", outside), hook("prestart2", outside)),
		CreateRuntime:   hook("createRuntime", outside),
		CreateContainer: hook("createContainer", outside),
		StartContainer:  hook("startContainer", "cat > /dev/shm/state; echo startContainer >> /dev/shm/x"),
		Poststart:       hook("poststart", outside),
		Poststop:        hook("poststop", outside),
	}
	b.spec.Hooks.StartContainer[0].Args[0] = "sh" // busybox goes by its name
	b.spec.Process.Args[2] += "; cat /dev/shm/state; exec sleep 1000"
	b.spec.Annotations = map[string]string{"k": "v"}
	b.write()
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	names := func() string {
		var all []string
		for line := range strings.Lines(b.file("log")) {
			f := strings.Fields(line)
			all = append(all, f[0])
			if outside := f[0] != "createContainer"; outside != (f[2] == ours) || f[1] != "hook" {
				t.Errorf("%s runs in %s, the test in %s", f[0], f[2], ours)
			}
		}
		return strings.Join(all, " ")
	}
	state := func(text string, status specs.ContainerState) {
		t.Helper()
		var s specs.State
		if err := json.Unmarshal([]byte(text), &s); err != nil || s.ID != b.id || s.Bundle != b.dir ||
			s.Status != status || s.Annotations["k"] != "v" || s.Version == "" ||
			(s.Pid == 0) != (status == specs.StateStopped) {
			t.Errorf("state for hooks: %s (%v), want %s", text, err, status)
		}
	}
	b.background("create")
	if got := names(); got != "prestart prestart2 createRuntime createContainer" {
		t.Errorf("hooks of create: %s", got)
	}
	b.must("start", b.id)
	if got := names(); got != "prestart prestart2 createRuntime createContainer poststart" {
		t.Errorf("hooks of start: %s", got)
	}
	eventually(t, "output", func() bool { return strings.Contains(b.output(), "}") })
	before, text, _ := strings.Cut(b.output(), "{")
	if before != "startContainer\nprocess\n" {
		t.Errorf("startContainer and the process: %s", b.output())
	}
	state("{"+text, specs.StateCreated)
	b.must("delete", "--force", b.id)
	if got := names(); !strings.HasSuffix(got, "poststart poststop") {
		t.Errorf("hooks of delete: %s", got)
	}
	for name, status := range map[string]specs.ContainerState{
		"prestart": specs.StateCreated, "createRuntime": specs.StateCreated,
		"createContainer": specs.StateCreated, "poststart": specs.StateRunning, "poststop": specs.StateStopped,
	} {
		state(b.file("log."+name), status)
	}
}

func TestHooks_Failure(t *testing.T) {
	for kind, atStart := range map[string]bool{
		"prestart": false, "createRuntime": false, "createContainer": false, "startContainer": true,
		"poststart": true,
	} {
		for name, failing := range map[string]specs.Hook{
			"fails":   {Path: "/bin/sh", Args: []string{"sh", "-c", "echo the reason >&2; exit 3"}},
			"timeout": {Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: ptr(1)},
			"missing": {Path: "/nowhere"},
		} {
			if name == "timeout" && kind != "createRuntime" && kind != "startContainer" {
				continue // it takes a second
			}
			t.Run(kind+" "+name, func(t *testing.T) {
				b := newBundle(t, "exec sleep 1000")
				hooks := map[string]any{
					kind:       []specs.Hook{failing, {Path: "/bin/touch", Args: []string{"touch", b.dir + "/next"}}},
					"poststop": []specs.Hook{{Path: "/usr/bin/touch", Args: []string{"touch", b.dir + "/poststop"}}},
				}
				data, err := json.Marshal(hooks)
				if err == nil {
					err = json.Unmarshal(data, &b.spec.Hooks)
				}
				if err != nil {
					t.Fatal(err)
				}
				b.write()
				if atStart {
					b.background("create")
					b.fails([]string{"start", b.id}, kind)
				} else {
					b.fails([]string{"create", b.id}, kind)
				}
				b.fails([]string{"state", b.id}, "does not exist")
				if _, err := os.Stat(b.dir + "/poststop"); err != nil {
					t.Error("no poststop hook has run")
				}
				if _, err := os.Stat(b.dir + "/next"); err == nil {
					t.Error("the hook after the one that failed has run")
				}
			})
		}
	}
	// After the end nothing can fail any more.
	b := newBundle(t, "true")
	b.spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/nowhere"},
		{Path: "/usr/bin/touch", Args: []string{"touch", b.dir + "/second"}}}}
	b.write()
	if r := b.run(); r.status != 0 || !strings.Contains(r.err, "warning") {
		t.Error(r)
	}
	b.file("second")
}

// What a hook leaves running in the background does not hold the runtime.
func TestHooks_Daemon(t *testing.T) {
	b := newBundle(t, "true", func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh",
			Args: []string{"sh", "-c", "sleep 5 & echo $! > pid"}, Env: []string{"PATH=/bin"}}}}
	})
	if r := b.run(); r.status != 0 {
		t.Error(r)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(b.file("pid")))
	if err != nil || !alive(pid) {
		t.Error("the run has waited for a process that a hook left behind")
	}
	_ = unix.Kill(pid, unix.SIGKILL)
}

// A hook may call the runtime about its container.
func TestHooks_CallBack(t *testing.T) {
	b := newBundle(t, "exec sleep 1000")
	call := func(args string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c",
			fmt.Sprintf("%s --root %s %s >> calls 2>&1", program, states, args)}}}
	}
	b.spec.Hooks = &specs.Hooks{CreateRuntime: call("state " + b.id),
		Poststart: call("exec " + b.id + " echo from-poststart")}
	b.write()
	b.up()
	if got := b.file("calls"); !strings.Contains(got, `"creating"`) || !strings.Contains(got, "from-poststart") {
		t.Errorf("calls: %s", got)
	}
}

func TestSeccomp(t *testing.T) {
	call := func(action specs.LinuxSeccompAction, args ...specs.LinuxSeccompArg) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
				Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: action, Args: args}}}
		}
	}
	errno := func(n uint) func(*specs.Spec) {
		return func(s *specs.Spec) {
			call(specs.ActErrno)(s)
			s.Linux.Seccomp.Syscalls[0].ErrnoRet = &n
		}
	}
	const script = "sh -c 'mkdir /dev/shm/x' 2>&1; s=$?; [ -d /dev/shm/x ] && echo made; echo $s"
	all := []configTest{
		{"errno", script, call(specs.ActErrno), ".*Operation not permitted\n1"},
		{"errno 28", script, errno(28), ".*No space left on device\n1"},
		{"kill", script, call(specs.ActKillProcess), ".*159"},
		{"kill thread", script, call(specs.ActKillThread), ".*159"},
		{"trap", script, call(specs.ActTrap), ".*159"},
		{"trace", script, call(specs.ActTrace), ".*Function not implemented\n1"},
		{"log", script, call(specs.ActLog), "made\n0"},
		{"allow", script, func(s *specs.Spec) {
			call(specs.ActAllow)(s)
			s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}
		}, "made\n0"},
		{"default", script, func(s *specs.Spec) {
			call(specs.ActErrno)(s)
			s.Linux.Seccomp.DefaultAction = specs.ActLog
		}, ".*Operation not permitted\n1"},
		{"without no_new_privs", script, func(s *specs.Spec) {
			call(specs.ActErrno)(s)
			s.Process.NoNewPrivileges = false
		}, ".*Operation not permitted\n1"},
		{"status", "grep -E '^Seccomp:' /proc/self/status", call(specs.ActErrno), "Seccomp:\t2"},
	}
	// The second argument of mkdir is the mode, 0777; of mkdirat the first that the shell's
	// busybox does not use here.
	for _, c := range []struct {
		op    specs.LinuxSeccompOperator
		value uint64
		two   uint64
		hits  bool
	}{
		{specs.OpEqualTo, 0o777, 0, true}, {specs.OpEqualTo, 0o776, 0, false},
		{specs.OpNotEqual, 0o777, 0, false}, {specs.OpNotEqual, 1, 0, true},
		{specs.OpLessThan, 0o777, 0, false}, {specs.OpLessThan, 0o1000, 0, true},
		{specs.OpLessEqual, 0o777, 0, true}, {specs.OpLessEqual, 0o776, 0, false},
		{specs.OpGreaterThan, 0o777, 0, false}, {specs.OpGreaterThan, 0o776, 0, true},
		{specs.OpGreaterEqual, 0o777, 0, true}, {specs.OpGreaterEqual, 1 << 40, 0, false},
		{specs.OpMaskedEqual, 0o700, 0o700, true}, {specs.OpMaskedEqual, 0o1700, 0o1700, false},
	} {
		want := "made\n0"
		if c.hits {
			want = ".*Operation not permitted\n1"
		}
		all = append(all, configTest{fmt.Sprint(c.op, c.value), script, func(s *specs.Spec) {
			call(specs.ActErrno, specs.LinuxSeccompArg{Index: 1, Value: c.value, ValueTwo: c.two, Op: c.op})(s)
			s.Linux.Seccomp.Syscalls[0].Names = []string{"mkdir"}
		}, want})
	}
	runConfigs(t, all)
	b := newBundle(t, "exec sleep 1000", call(specs.ActErrno)).up()
	if r := b.call("exec", b.id, "mkdir", "/dev/shm/x"); !strings.Contains(r.err, "not permitted") {
		t.Errorf("exec is not filtered: %v", r)
	}
}

func TestGlobal(t *testing.T) {
	b := newBundle(t, "true")
	log := filepath.Join(b.dir, "log.json")
	b.fails([]string{"--log", log, "--log-format", "json", "start", "no-such"}, "does not exist")
	var line struct {
		Level, Msg string
		Time       time.Time
	}
	if err := json.Unmarshal([]byte(b.file("log.json")), &line); err != nil || line.Level != "error" ||
		!strings.Contains(line.Msg, "does not exist") || line.Time.IsZero() {
		t.Errorf("log: %s: %v", b.file("log.json"), err)
	}
	b.fails([]string{"--log", log + ".text", "start", "no-such"}, "does not exist")
	if got := b.file("log.json.text"); !strings.Contains(got, "level=error") || !strings.Contains(got, "msg=") {
		t.Errorf("log in text: %s", got)
	}
	if out := b.must("--version"); !strings.HasPrefix(out, "minirunc version ") || !strings.Contains(out, "spec: 1.") {
		t.Errorf("--version: %s", out)
	}
	if out := b.must("--help"); !strings.Contains(out, "create") || !strings.Contains(out, "--root") {
		t.Errorf("--help: %s", out)
	}
	b.fails([]string{"nonsense"}, "nonsense")
	b.fails([]string{"--nonsense", "list"}, "--nonsense")
	b.fails([]string{"--log-format", "x", "list"}, "json")
	b.fails([]string{"--systemd-cgroup", "create", b.id}, "--systemd-cgroup")
	b.fails([]string{"create"}, "ID")
	b.fails([]string{"checkpoint", b.id}, "not supported")
	for _, id := range []string{"..", "a/b", "", "a b", "x\ny"} {
		if r := b.call("create", id); r.status == 0 || !strings.Contains(r.err, "container ID") {
			t.Errorf("create %q: %v", id, r)
		}
	}
	var f struct {
		OCIVersionMin, OCIVersionMax string
		Hooks, MountOptions          []string
		Linux                        struct{ Namespaces, Capabilities []string }
	}
	if err := json.Unmarshal([]byte(b.must("features")), &f); err != nil || len(f.Hooks) != 6 ||
		!slices.Contains(f.MountOptions, "rro") || len(f.Linux.Namespaces) != 8 {
		t.Errorf("features: %+v, %v", f, err)
	}
}

func TestSpec(t *testing.T) {
	b := newBundle(t, "true")
	b.fails([]string{"spec"}, "config.json")
	if err := os.Remove(b.dir + "/config.json"); err != nil {
		t.Fatal(err)
	}
	b.must("spec", "--bundle", b.dir)
	var s specs.Spec
	if err := json.Unmarshal([]byte(b.file("config.json")), &s); err != nil || s.Version == "" ||
		s.Process.Args[0] != "sh" || !s.Process.Terminal || s.Root.Path != "rootfs" {
		t.Errorf("spec: %s, %v", b.file("config.json"), err)
	}
}

// An ordinary user runs a container with nothing but a user namespace.
func TestRootless(t *testing.T) {
	b := newBundle(t, "")
	b.spec = nil
	dir, err := os.MkdirTemp("/run", "rootless")
	if err != nil {
		t.Fatal(err)
	}
	b.dir = dir
	if err := os.Chown(dir, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", rootfs, dir+"/rootfs").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("chown", "-R", "1000:1000", dir+"/rootfs").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	user := func(args ...string) result {
		cmd := exec.Command(program, append([]string{"--root", dir + "/state"}, args...)...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		out, err := os.Create(dir + "/output")
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		_ = cmd.Run()
		return result{out: b.output(), status: cmd.ProcessState.ExitCode()}
	}
	if r := user("spec", "--rootless"); r.status != 0 {
		t.Fatal(r)
	}
	edit := func(script string) {
		b.spec = &specs.Spec{}
		if err := json.Unmarshal([]byte(b.file("config.json")), b.spec); err != nil {
			t.Fatal(err)
		}
		b.spec.Process.Terminal, b.spec.Process.Args = false, []string{"sh", "-c", script}
		b.write()
	}
	edit("id -u; hostname; touch /x 2>&1; ls /sys | wc -l | awk '{print ($1 > 3)}'; exit 5")
	if r := user("run", "one"); r.status != 5 || !strings.HasPrefix(r.out, "0\nminirunc\ntouch: ") ||
		!strings.HasSuffix(r.out, "\n1\n") {
		t.Error(r)
	}
	edit("exec sleep 1000")
	if r := user("run", "--detach", "two"); r.status != 0 {
		t.Fatal(r)
	}
	if r := user("exec", "two", "sh", "-c", "id -u; hostname"); r.out != "0\nminirunc\n" {
		t.Error(r)
	}
	if r := user("kill", "two", "KILL"); r.status != 0 {
		t.Error(r)
	}
	eventually(t, "it stops", func() bool { return strings.Contains(user("state", "two").out, `"stopped"`) })
	if r := user("delete", "two"); r.status != 0 {
		t.Error(r)
	}
}
