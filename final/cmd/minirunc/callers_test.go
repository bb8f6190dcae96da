//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// These are for what callers of other runtimes are used to, beyond the specification's words.

func TestCallers_CommandLine(t *testing.T) {
	b := newBundle(t, "echo runs")
	for _, c := range commands {
		for _, option := range []string{"-h", "--help"} {
			if out := b.must(c.name, option); !strings.HasPrefix(out, "NAME:\n   minirunc "+c.name) {
				t.Errorf("%s %s: %s", c.name, option, out)
			}
		}
	}
	if out := b.must("--version"); !regexp.MustCompile(`\ncommit: \S+\nspec: 1\.`).MatchString(out) {
		t.Errorf("--version: %s", out)
	}
	if err := os.Rename(b.dir+"/config.json", b.dir+"/other.json"); err != nil {
		t.Fatal(err)
	}
	if r := b.run("--config", "other.json"); r.out != "runs\n" {
		t.Errorf("--config: %v", r)
	}
	if r := b.run("-f", b.dir+"/other.json"); r.out != "runs\n" {
		t.Errorf("-f: %v", r)
	}
	b.fails([]string{"run", b.id}, "config.json")
	for _, id := range []string{"a/b", "a b"} {
		b.fails([]string{"state", id}, "invalid container ID")
	}
	b.fails([]string{"--root", b.dir + "/nowhere", "list"}, "nowhere")
}

// What reads list by a pattern, as scripts do, knows this order.
func TestCallers_ListOrder(t *testing.T) {
	b := newBundle(t, "exec sleep 1000").up()
	want := regexp.MustCompile(`^\[\{"ociVersion":"[^"]*","id":"[^"]*","pid":\d+,"status":"running",` +
		`"bundle":"[^"]*","rootfs":"[^"]*","created":"[^"]*","owner":"root"\}\]\n$`)
	if out := b.must("list", "--format", "json"); !want.MatchString(out) {
		t.Errorf("list: %s", out)
	}
}

func TestCallers_WithoutControlGroups(t *testing.T) {
	b := newBundle(t, "cat /proc/self/cgroup; exec sleep 1000")
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	without(specs.CgroupNamespace)(b.spec)
	b.write()
	for _, command := range []string{"create", "run"} {
		flags := []string{"--cgroup-manager", "disabled", command}
		if command == "run" {
			flags = append(flags, "--detach")
		}
		if err := b.cmd(append(flags, b.id)...).Run(); err != nil {
			t.Fatalf("%v: %s", err, b.output())
		}
		if command == "create" {
			b.must("start", b.id)
		}
		eventually(t, "output", func() bool { return b.output() == string(own) })
		b.must("delete", "--force", b.id)
		if err := os.Remove(b.dir + "/output"); err != nil {
			t.Fatal(err)
		}
	}
	b.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(5))}
	b.write()
	b.fails([]string{"--cgroup-manager", "disabled", "run", b.id}, "pids", "disabled")
	b.fails([]string{"--cgroup-manager", "systemd", "run", b.id}, "systemd")
	b.fails([]string{"--cgroup-manager", "x", "run", b.id}, "cgroupfs")
}

func TestMemoryPolicy(t *testing.T) {
	if _, err := os.Stat("/proc/self/numa_maps"); err != nil {
		t.Log("this kernel has no memory policies") // and refuses them: see TestConfig_Refused
		return
	}
	const look = "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2"
	for want, p := range map[string]*specs.LinuxMemoryPolicy{
		"interleave:0":  {Mode: specs.MpolInterleave, Nodes: "0"},
		"bind=static:0": {Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}},
		"default":       {Mode: specs.MpolDefault},
		"local":         {Mode: specs.MpolLocal},
	} {
		b := newBundle(t, look+"; exec sleep 1000", func(s *specs.Spec) { s.Linux.MemoryPolicy = p })
		b.background("run", "--detach")
		eventually(t, want, func() bool { return b.output() == want+"\n" })
		if out := b.must("exec", b.id, "sh", "-c", look); out != want+"\n" {
			t.Errorf("exec: got %q, want %q", out, want)
		}
	}
	for want, p := range map[string]*specs.LinuxMemoryPolicy{
		"invalid memory policy mode":      {Mode: "INTERLEAVE"},
		"invalid memory policy flag":      {Mode: specs.MpolBind, Flags: []specs.MemoryPolicyFlagType{"x"}},
		"invalid memory policy node":      {Mode: specs.MpolBind, Nodes: "0-9876543210"},
		"mode requires 0 nodes but got 8": {Mode: specs.MpolDefault, Nodes: "0-7"},
		"set_mempolicy: invalid argument": {Mode: specs.MpolInterleave},
	} {
		b := newBundle(t, "true", func(s *specs.Spec) { s.Linux.MemoryPolicy = p })
		b.fails([]string{"run", b.id}, want)
	}
}

// ip calls ip(8), in another network namespace if pid is not 0.
func ip(t *testing.T, pid int, args ...string) string {
	t.Helper()
	cmd := exec.Command("ip", args...)
	if pid != 0 {
		cmd = exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-n", "ip"}, args...)...)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", cmd.Args, err, out)
	}
	return string(out)
}

func TestNetDevices(t *testing.T) {
	device := func(name string) {
		ip(t, 0, "link", "add", name, "type", "veth", "peer", "name", name+"p")
		t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", name+"p").Run() })
	}
	device("nd0")
	ip(t, 0, "link", "set", "nd0", "mtu", "1400", "address", "02:00:00:00:00:07")
	ip(t, 0, "address", "add", "192.0.2.7/24", "dev", "nd0")
	ip(t, 0, "address", "add", "2001:db8::7/64", "dev", "nd0", "nodad")
	ip(t, 0, "address", "add", "169.254.1.7/16", "dev", "nd0", "scope", "link")
	device("nd1")
	device("nd2")
	b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) {
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{
			"nd0": {Name: "inside"}, "nd1": {}, "nd2": {Name: "many%d"},
		}
	}).up()
	pid := b.state().Pid
	out := ip(t, pid, "address", "show", "dev", "inside")
	for _, want := range []string{"mtu 1400", "02:00:00:00:00:07", "192.0.2.7/24", "2001:db8::7/64", ",UP"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing in %s", want, out)
		}
	}
	if strings.Contains(out, "169.254.1.7") {
		t.Errorf("an address for the link alone has come as well: %s", out)
	}
	for _, name := range []string{"nd1", "many0"} {
		if out := ip(t, pid, "link", "show", "dev", name); !strings.Contains(out, ",UP") {
			t.Errorf("%s is not up: %s", name, out)
		}
	}
	// A namespace that is joined has the device when the container is gone, and then no room for
	// another of that name.
	device("nd3")
	device("nd4")
	joined := newBundle(t, "true", namespace(specs.NetworkNamespace, fmt.Sprintf("/proc/%d/ns/net", pid)),
		func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"nd3": {Name: "taken"}} })
	if r := joined.run(); r.status != 0 {
		t.Error(r)
	}
	ip(t, pid, "link", "show", "dev", "taken")
	joined.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"nd4": {Name: "taken"}}
	joined.write()
	joined.fails([]string{"run", joined.id}, "nd4", "of that name")
	ip(t, 0, "link", "show", "dev", "nd4")
	for want, devices := range map[string]map[string]specs.LinuxNetDevice{
		"no such network device":      {"nowhere": {}},
		"invalid network device name": {"nd4": {Name: "a/b"}},
		"two devices":                 {"nd4": {}, "nd5": {Name: "nd4"}},
	} {
		c := newBundle(t, "true", func(s *specs.Spec) { s.Linux.NetDevices = devices })
		c.fails([]string{"create", c.id}, want)
	}
}

// receive takes a descriptor that comes through a unix socket at the path that call is given.
func receive(t *testing.T, call func(path string)) *os.File {
	t.Helper()
	// Longer than a socket's address has room for.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "s")
	if err := os.Symlink(dir, short); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	call(filepath.Join(dir, "s"))
	_ = l.SetDeadline(time.Now().Add(30 * time.Second))
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 100), rights)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages: %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors %v: %v", fds, err)
	}
	return os.NewFile(uintptr(fds[0]), "received")
}

func TestPidfdSocket(t *testing.T) {
	for _, command := range []string{"create", "run", "exec"} {
		b := newBundle(t, "exec sleep 1000")
		pidfd := receive(t, func(path string) {
			switch command {
			case "exec":
				b.up()
				b.background("exec", "--pidfd-socket", path, "--pid-file", b.dir+"/pid", "-d", b.id, "sleep", "1000")
			case "run":
				b.background("run", "--pidfd-socket", path, "--detach")
			default:
				b.background("create", "--pidfd-socket", path)
			}
		})
		pid := b.state().Pid
		if command == "exec" {
			pid, _ = strconv.Atoi(b.file("pid"))
		}
		if err := unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0); err != nil {
			t.Error(err)
		}
		eventually(t, "the process ends", func() bool { return !alive(pid) })
		pidfd.Close()
		if command == "exec" {
			b.wantStatus(specs.StateRunning)
		}
	}
}

func TestExec_Groups(t *testing.T) {
	b := newBundle(t, "exec sleep 1000", without(specs.CgroupNamespace),
		func(s *specs.Spec) { s.Linux.CgroupsPath = "/callers/exec" }).up()
	top := "/sys/fs/cgroup"
	controller := ""
	if _, err := os.Stat(top + "/pids"); err == nil {
		top, controller = top+"/pids", "pids:"
	}
	if err := os.Mkdir(top+"/callers/exec/below", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(top + "/callers") })
	// grep, for other hierarchies are where they were
	out := b.must("exec", "--cgroup", controller+"below", b.id, "cat", "/proc/self/cgroup")
	if strings.Count(out, "/callers/exec/below\n") != 1 {
		t.Errorf("exec --cgroup: %s", out)
	}
	// Without a controller it is in those that have the group.
	if out := b.must("exec", "--cgroup", "below", b.id, "cat", "/proc/self/cgroup"); strings.Count(out, "/below\n") != 1 {
		t.Errorf("exec --cgroup below: %s", out)
	}
	if out := b.must("exec", "--cgroup", "/", b.id, "cat", "/proc/self/cgroup"); strings.Contains(out, "below") {
		t.Errorf("exec --cgroup /: %s", out)
	}
	for args, want := range map[string]string{
		"..": "bad sub cgroup path", "below/../..": "components are not allowed", "nowhere": "no such file",
		"x:below": "unknown controller", controller + "nowhere": "no such file",
	} {
		b.fails([]string{"exec", "--cgroup", args, b.id, "true"}, want)
	}
	b.fails([]string{"exec", "--cgroup", "a", "--cgroup", "b", b.id, "true"}, "each with controllers")
}

// Whoever lets a paused container go on must not wait for an exec in it, which waits for that.
func TestExec_Paused(t *testing.T) {
	b := newBundle(t, "exec sleep 1000").up()
	b.must("pause", b.id)
	b.fails([]string{"exec", b.id, "true"}, "paused")
	cmd := b.cmd("exec", "--ignore-paused", b.id, "echo", "went on")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the exec has its process", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
		return slices.ContainsFunc(tasks, func(file string) bool {
			children, _ := os.ReadFile(file)
			return len(children) > 0
		})
	})
	resumed := make(chan result, 1)
	go func() { resumed <- b.call("resume", b.id) }()
	select {
	case r := <-resumed:
		if r.status != 0 {
			t.Error(r)
		}
	case <-time.After(20 * time.Second):
		t.Error("resume waits for the exec")
		_ = cmd.Process.Kill() // and with it the lock
		<-resumed
	}
	if err := cmd.Wait(); err != nil || b.output() != "went on\n" {
		t.Errorf("exec --ignore-paused: %v: %s", err, b.output())
	}
}

// An exec has what the container's process has, where it does not say.
func TestExec_AsTheContainer(t *testing.T) {
	b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) {
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		s.Process.Capabilities.Inheritable = []string{"CAP_SYSLOG"}
		s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYSLOG")
	}).up()
	const look = `ionice -p $$; awk '{print $41, $19}' /proc/self/stat; uname -m`
	if out := b.must("exec", b.id, "sh", "-c", look); out != "best-effort: prio 6\n3 5\ni686\n" {
		t.Errorf("exec: %s", out)
	}
	process := b.dir + "/process.json"
	text := `{"args": ["/bin/sh", "-c", "ionice -p $$"], "cwd": "/", "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}`
	if err := os.WriteFile(process, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := b.must("exec", "--process", process, b.id); !strings.HasPrefix(out, "idle") {
		t.Errorf("exec --process: %s", out)
	}
	// A capability of --cap is ambient if it is inheritable: so others than root have it.
	out := b.must("exec", "--cap", "CAP_SYSLOG", b.id, "grep", "CapAmb", "/proc/self/status")
	if out != "CapAmb:\t0000000400000000\n" {
		t.Errorf("exec --cap: %s", out)
	}
	b.fails([]string{"exec", "--cap", "CAP_TOMORROW", b.id, "true"}, "CAP_TOMORROW")
	b.fails([]string{"exec", b.id, "/bin/nowhere"}, "exec /bin/nowhere: no such file or directory")
}

func TestAmbientWarning(t *testing.T) {
	b := newBundle(t, "grep CapAmb /proc/self/status", func(s *specs.Spec) {
		s.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
		s.Process.Capabilities.Ambient = []string{"CAP_KILL", "CAP_AUDIT_WRITE"}
	})
	r := b.run()
	if r.out != "CapAmb:\t0000000000000020\n" ||
		!strings.Contains(r.err, "can't raise ambient capability CAP_AUDIT_WRITE: ") {
		t.Error(r)
	}
}

// The caller's own processors are not the container's.
func TestAffinity(t *testing.T) {
	const look = "grep Cpus_allowed_list /proc/self/status"
	all, err := exec.Command("sh", "-c", look).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(strings.TrimSpace(string(all)), "\t")
	first, _, more := strings.Cut(strings.ReplaceAll(list, ",", "-"), "-")
	if !more {
		t.Log("one processor: there is nothing to choose from")
		return
	}
	b := newBundle(t, look+"; exec sleep 1000")
	taskset := func(args ...string) *exec.Cmd {
		cmd := b.cmd(args...)
		cmd.Args = append([]string{"taskset", "-c", first}, cmd.Args...)
		cmd.Path = "/usr/bin/taskset"
		return cmd
	}
	if err := taskset("run", "--detach", b.id).Run(); err != nil {
		t.Fatalf("%v: %s", err, b.output())
	}
	eventually(t, "output", func() bool { return b.output() == string(all) })
	if err := taskset("exec", b.id, "sh", "-c", look).Run(); err != nil || b.output() != string(all)+string(all) {
		t.Errorf("exec: %v: %s", err, b.output())
	}
	process := func(affinity string) string {
		text := fmt.Sprintf(`{"args": ["/bin/sh", "-c", %q], "cwd": "/", "execCPUAffinity": %s}`, look, affinity)
		if err := os.WriteFile(b.dir+"/process.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return b.must("exec", "--process", "process.json", b.id)
	}
	if out := process(fmt.Sprintf(`{"initial": %q, "final": %q}`, list, first)); !strings.HasSuffix(out, "\t"+first+"\n") {
		t.Errorf("execCPUAffinity.final %s: %s", first, out)
	}
	if out := process(fmt.Sprintf(`{"initial": %q}`, first)); !strings.HasSuffix(out, "\t"+first+"\n") {
		t.Errorf("execCPUAffinity.initial %s: %s", first, out)
	}
	b.call("delete", "--force", b.id)
	// The other way, by init.
	b.background("create")
	b.must("delete", "--force", b.id)
	if err := os.Remove(b.dir + "/output"); err != nil {
		t.Fatal(err)
	}
	if err := taskset("create", b.id).Run(); err != nil {
		t.Fatal(err)
	}
	b.must("start", b.id)
	eventually(t, "output", func() bool { return b.output() == string(all) })
}

// A program may open its standard output once more by its name, which takes the right to.
func TestStreams_BelongToTheUser(t *testing.T) {
	const look = "echo opened > /dev/stdout; stat -L -c %u:%g /dev/stdout"
	for _, hooks := range []*specs.Hooks{nil, {StartContainer: []specs.Hook{{Path: "/bin/true"}}}} {
		b := newBundle(t, look, func(s *specs.Spec) {
			s.Process.User, s.Hooks = specs.User{UID: 1000, GID: 100}, hooks
		})
		if r := b.run(); r.out != "opened\n1000:100\n" {
			t.Error(r)
		}
	}
	b := newBundle(t, "exec sleep 1000").up()
	if r := b.call("exec", "--user", "1000:100", b.id, "sh", "-c", look); r.out != "opened\n1000:100\n" {
		t.Error(r)
	}
	// A file of the machine's stays whose it is.
	file, err := os.Create(filepath.Join(b.dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := minirunc("exec", "--user", "1000:100", b.id, "true")
	cmd.Stdin = file
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || st.Uid != 0 {
		t.Errorf("the file is of user %d now: %v", st.Uid, err)
	}
	out := firstLine(t, func(socket string) {
		b.background("exec", "--tty", "--console-socket", socket, "--detach", "--user", "1000:100", b.id,
			"sh", "-c", "stat -c %u $(tty)")
	})
	if !strings.HasPrefix(out, "1000") {
		t.Errorf("the terminal's owner: %s", out)
	}
}

// firstLine returns the first line that a terminal says.
func firstLine(t *testing.T, call func(socket string)) string {
	t.Helper()
	line, err := bufio.NewReader(receive(t, call)).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	return line
}

// Lines of a terminal whose output is no terminal in the end are lines.
func TestTerminal_Plain(t *testing.T) {
	b := newBundle(t, "echo line; test -t 1 && echo terminal", func(s *specs.Spec) { s.Process.Terminal = true })
	if r := b.run(); r.out != "line\nterminal\n" {
		t.Errorf("run: %q", r.out)
	}
	b.spec.Process.Terminal, b.spec.Process.Args = false, []string{"sleep", "1000"}
	b.write()
	b.up()
	if r := b.call("exec", "--tty", b.id, "sh", "-c", "echo line; test -t 1 && echo terminal"); r.out != "line\nterminal\n" {
		t.Errorf("exec: %q", r.out)
	}
}

func TestEnvironment(t *testing.T) {
	const look = `tr '\0' '\n' < /proc/$$/environ | grep -E '^(ONE|TERM)='` // a shell sorts them out
	runConfigs(t, []configTest{
		{"last of several", look, func(s *specs.Spec) {
			s.Process.Env = []string{"PATH=/bin", "ONE=1", "ONE=2"}
		}, "ONE=2"},
		{"empty home", "echo $HOME", func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "HOME=/x", "HOME=") },
			"/root"},
	})
	b := newBundle(t, "exec sleep 1000").up()
	if out := b.must("exec", "--env", "TERM=new", b.id, "sh", "-c", look); out != "TERM=new\n" {
		t.Errorf("exec --env: %s", out)
	}
}

// sd_listen_fds(3): the descriptors of a socket activation are the container's.
func TestListenFds(t *testing.T) {
	for _, hooks := range []*specs.Hooks{nil, {StartContainer: []specs.Hook{{Path: "/bin/true"}}}} {
		b := newBundle(t, "echo $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; cat <&3", func(s *specs.Spec) { s.Hooks = hooks })
		file := filepath.Join(b.dir, "passed")
		if err := os.WriteFile(file, []byte("passed on\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf(`exec 3<%s; export LISTEN_PID=%s LISTEN_FDS=1 LISTEN_FDNAMES=name; exec "$@"`, file, "$$")
		cmd := minirunc("run", b.id)
		cmd.Args = append([]string{"sh", "-c", script, "sh"}, cmd.Args...)
		cmd.Path, cmd.Dir = "/bin/sh", b.dir
		if r := run1(cmd); r.out != "1 1 name\npassed on\n" {
			t.Error(r)
		}
		cmd = minirunc("run", b.id)
		cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_PID=1") // somebody else's
		cmd.Dir = b.dir
		if r := run1(cmd); !strings.HasPrefix(r.out, "\n") {
			t.Error(r)
		}
	}
}

// Without an environment of its own a hook has that of the runtime, or of the container's process.
func TestHooks_Environment(t *testing.T) {
	b := newBundle(t, "cat /dev/shm/x 2>/dev/null || true", func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, "WHOSE=container")
	})
	out := b.dir + "/out"
	b.spec.Hooks = &specs.Hooks{
		CreateRuntime:  []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo $WHOSE > " + out}}},
		StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo $WHOSE > /dev/shm/x"}}},
	}
	b.write()
	cmd := minirunc("run", b.id)
	cmd.Env, cmd.Dir = append(os.Environ(), "WHOSE=runtime"), b.dir
	if r := run1(cmd); r.out != "container\n" || b.file("out") != "runtime\n" {
		t.Errorf("%v; createRuntime: %s", r, b.file("out"))
	}
	b.spec.Hooks = &specs.Hooks{}
	pwd := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "pwd >> " + out}, Env: []string{}}}
	b.spec.Hooks.CreateRuntime, b.spec.Hooks.CreateContainer, b.spec.Hooks.Poststop = pwd, pwd, pwd
	b.write()
	if r := b.run(); r.status != 0 || b.file("out") != "runtime\n"+b.dir+"\n"+rootfs+"\n"+b.dir+"\n" {
		t.Errorf("%v; where the hooks were: %s", r, b.file("out"))
	}
	b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}, {Path: "/bin/false"}}}
	b.write()
	b.fails([]string{"run", b.id}, "error running createRuntime hook #1")
}

// A startContainer hook is a file of the image, which may do no more than the image's program.
func TestHooks_StartContainerIsNoMoreThanTheProcess(t *testing.T) {
	const look = "(id -u; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status) > /dev/shm/$0"
	b := newBundle(t, "", func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", look + "; cat /dev/shm/hook; echo; cat /dev/shm/process", "process"}
		s.Process.User.UID = 1000
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}}}
		s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", look, "hook"}}}}
	})
	r := b.run()
	hook, process, _ := strings.Cut(r.out, "\n\n")
	if r.status != 0 || hook+"\n" != process || !strings.Contains(hook, "1000") || !strings.Contains(hook, "Seccomp:\t2") {
		t.Error(r)
	}
}

func TestEvents(t *testing.T) {
	b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) {
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(16 << 20)), Swap: ptr(int64(16 << 20))}
	}).up()
	cmd := minirunc("events", "--interval", "1h", b.id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"type":"stats","id":"`+b.id+`","data":{`) {
		t.Errorf("events: %s", lines.Text())
	}
	_ = b.call("exec", b.id, "sh", "-c", "tail -c 100m /dev/zero > /dev/null")
	if !lines.Scan() || lines.Text() != `{"type":"oom","id":"`+b.id+`"}` {
		t.Errorf("events: %s", lines.Text())
	}
	b.must("delete", "--force", b.id)
	for lines.Scan() { // until its end
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("events, when the container is gone: %v", err)
	}
}

func TestCallers_Resources(t *testing.T) {
	b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) {
		s.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(0))}
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(32 << 20)), Swap: ptr(int64(64 << 20))}
	}).up()
	if got := groupFile(t, b, "pids.max"); got != "1" {
		t.Errorf("pids.limit 0: got %s, want 1: no more than the process", got)
	}
	b.must("update", "--memory", "-1", b.id) // and no limit on memory and swap, which would be less
	if got := b.call("update", "--memory", "128m", b.id); got.status != 0 {
		t.Error(got)
	}
	b.must("update", "--pids-limit", "-1", b.id)
	if got := groupFile(t, b, "pids.max"); got != "max" {
		t.Errorf("--pids-limit -1: got %s", got)
	}
}

// The control group has the container's name, and is removed unless it was there before.
func TestCallers_GroupName(t *testing.T) {
	b := newBundle(t, "true", without(specs.CgroupNamespace))
	groups := func() []string {
		below, _ := filepath.Glob("/sys/fs/cgroup/*/" + b.id)
		top, _ := filepath.Glob("/sys/fs/cgroup/" + b.id)
		return append(below, top...)
	}
	for _, before := range []bool{false, true} {
		b.background("create")
		made := groups()
		if len(made) == 0 {
			t.Fatal("there is no control group of that name")
		}
		b.must("delete", "--force", b.id)
		if left := groups(); (len(left) > 0) != before {
			t.Errorf("left of %v: %v", made, left)
		}
		for _, dir := range made[:1] {
			if before {
				_ = os.Remove(dir)
			} else if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A container that would never start, in a paused control group, is refused.
func TestCallers_FrozenGroup(t *testing.T) {
	dir, state := "/sys/fs/cgroup/freezer/callers-frozen", "freezer.state"
	frozen, thawed := "FROZEN", "THAWED"
	if _, err := os.Stat("/sys/fs/cgroup/freezer"); err != nil {
		dir, state, frozen, thawed = "/sys/fs/cgroup/callers-frozen", "cgroup.freeze", "1", "0"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(dir) }()
	thaw := func() { _ = os.WriteFile(filepath.Join(dir, state), []byte(thawed), 0) }
	defer thaw()
	defer time.AfterFunc(20*time.Second, thaw).Stop() // whoever waits there waits for ever
	if err := os.WriteFile(filepath.Join(dir, state), []byte(frozen), 0); err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, "true", func(s *specs.Spec) { s.Linux.CgroupsPath = "/callers-frozen" })
	for _, command := range []string{"create", "run"} {
		b.fails([]string{command, b.id}, "unexpectedly frozen")
	}
}

// Without a pid namespace processes stay when the first is gone: kill ends them.
func TestKill_Rest(t *testing.T) {
	b := newBundle(t, "sleep 1000 & exec sleep 2000", without(specs.PIDNamespace)).up()
	var pids []int
	eventually(t, "two processes", func() bool {
		return json.Unmarshal([]byte(b.must("ps", "-f", "json", b.id)), &pids) == nil && len(pids) == 2
	})
	if err := unix.Kill(b.state().Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.waitStopped()
	b.fails([]string{"kill", b.id, "TERM"}, "not running")
	b.must("kill", b.id, "KILL")
	for _, pid := range pids {
		eventually(t, "it ends", func() bool { return !alive(pid) })
	}
	b.fails([]string{"kill", b.id, "0"}, "not running")
}

// While a container waits for start, its init has nothing open that it will not need.
func TestCreate_OpenFiles(t *testing.T) {
	b := newBundle(t, "true")
	b.background("create")
	dir := fmt.Sprintf("/proc/%d/fd", b.state().Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, _ := os.Readlink(filepath.Join(dir, e.Name())); strings.Contains(target, "mountinfo") {
			t.Errorf("%s -> %s", e.Name(), target)
		}
	}
}

func TestCallers_Config(t *testing.T) {
	runConfigs(t, []configTest{
		{"device with a slash at its end", "test -c /dev/x && echo there", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x/", Type: "c", Major: 1, Minor: 3}}
		}, "there"},
		{"devices of a user namespace", `awk '$5 == "/dev/null" {print $6}' /proc/self/mountinfo`, mapped,
			"r.,nosuid,noexec.*"},
		{"device of a user namespace", "stat -c '%t:%T %a %u:%g' /dev/x; head -c 3 /dev/x | od -An -tx1", func(s *specs.Spec) {
			mapped(s)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 1, Minor: 5,
				FileMode: ptr(os.FileMode(0o640)), UID: ptr(uint32(0)), GID: ptr(uint32(7))}}
		}, "1:5 640 0:7\n 00 00 00"},
		{"pipe of a user namespace", "stat -c '%F %u' /dev/x", func(s *specs.Spec) {
			mapped(s)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "p", UID: ptr(uint32(5))}}
		}, "fifo 5"},
		{"the machine's sys, and control groups", "ls /sys/fs/cgroup | wc -l", func(s *specs.Spec) {
			mapped(s)
			for i, m := range s.Mounts {
				if m.Destination == "/sys" {
					s.Mounts[i] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind"}}
				}
			}
		}, `[1-9]\d*`},
		{"tmpfs on a new folder", "stat -c %a /mnt/new", func(s *specs.Spec) {
			for _, at := range []string{"/mnt", "/mnt/new"} {
				withMount(specs.Mount{Destination: at, Type: "tmpfs", Source: "tmpfs"})(s)
			}
		}, "1777"},
		{"read-only /dev", "test -c /dev/null && ls /dev/pts && touch /dev/x 2>&1 || echo refused", func(s *specs.Spec) {
			for i, m := range s.Mounts {
				if m.Destination == "/dev" {
					s.Mounts[i].Options = append(m.Options, "ro")
				}
			}
		}, "ptmx\n.*Read-only file system\nrefused"},
		{"domain name twice the same", "cat /proc/sys/kernel/domainname", func(s *specs.Spec) {
			s.Linux.Sysctl, s.Domainname = map[string]string{"kernel.domainname": "x"}, "x"
		}, "x"},
		{"path masked twice", `grep -c ' /mnt ' /proc/self/mountinfo`, func(s *specs.Spec) {
			s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/mnt", "/mnt/")
		}, "1"},
	})
	for name, c := range map[string]struct {
		edit func(*specs.Spec)
		want string
	}{
		"kernel.hostname": {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.hostname": "x"} }, "hostname"},
		"kernel.domainname": {func(s *specs.Spec) {
			s.Linux.Sysctl, s.Domainname = map[string]string{"kernel.domainname": "x"}, "y"
		}, "contradict"},
	} {
		b := newBundle(t, "true", c.edit)
		b.fails([]string{"run", b.id}, name, c.want)
	}
}

// What the machine mounts in the source of a mount is seen if that is a slave: also in a source that
// is in the same file system as the root.
func TestMounts_FollowTheMachine(t *testing.T) {
	source := filepath.Join("/run", "follow")
	below := filepath.Join(source, "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, propagation := range []string{"", "slave", "rslave"} {
		b := newBundle(t, "exec sleep 1000", withMount(specs.Mount{Destination: "/mnt", Type: "bind",
			Source: source, Options: []string{"rbind", "rslave"}}))
		b.spec.Linux.RootfsPropagation = propagation
		b.write()
		b.up()
		mountTmpfs(t, below, "")
		if err := os.WriteFile(below+"/file", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := b.call("exec", b.id, "ls", "/mnt/below"); r.out != "file\n" {
			t.Errorf("rootfsPropagation %q: %v", propagation, r)
		}
		b.must("delete", "--force", b.id)
		if err := unix.Unmount(below, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// Folders that are masked are of one file system, where the kernel can do that.
func TestMask_OneFolder(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	want := "same"
	if major < 6 || major == 6 && minor < 15 {
		want = "same|different"
	}
	runConfigs(t, []configTest{{"masked", `set -- $(stat -c %d /mnt /home /tmp); ` +
		`test $1 = $2 && test $2 = $3 && echo same || echo different; touch /mnt/x 2>/dev/null || true`,
		func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/mnt", "/home", "/tmp") }, want}})
}

// Whoever makes a user namespace may mount a new proc if there is a whole one: that of the machine
// must not be left in the container's mounts.
func TestNoPivot_HidesTheMachinesProc(t *testing.T) {
	b := newBundle(t, "unshare -mrpf mount -t proc none /mnt 2>&1 && echo mounted", func(s *specs.Spec) {
		caps := append(s.Process.Capabilities.Bounding, "CAP_SETFCAP")
		s.Process.Capabilities.Bounding, s.Process.Capabilities.Permitted = caps, caps
	})
	for _, flags := range [][]string{nil, {"--no-pivot"}} {
		r := b.run(flags...)
		if strings.Contains(r.out, "mounted") || !strings.Contains(r.out, "ermi") {
			t.Errorf("run %q: %v", flags, r)
		}
	}
}

// An idmap mount without maps of its own has those of the user namespace, also of one that is joined.
func TestIDMap_OfAJoinedNamespace(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	mountTmpfs(t, source, "")
	first := newBundle(t, "exec sleep 1000", mapped).up()
	b := newBundle(t, "stat -c %u:%g /mnt",
		namespace(specs.UserNamespace, fmt.Sprintf("/proc/%d/ns/user", first.state().Pid)),
		withMount(specs.Mount{Destination: "/mnt", Type: "bind", Source: source, Options: []string{"bind", "idmap"}}))
	if r := b.run(); r.out != "0:0\n" {
		t.Error(r)
	}
}
