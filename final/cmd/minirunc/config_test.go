//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A configTest runs a script in a container with a changed configuration.
type configTest struct {
	name   string
	script string
	edit   func(*specs.Spec)
	want   string // a regular expression for all of the output
}

func runConfigs(t *testing.T, all []configTest) {
	t.Helper()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) { c.run(t, func(*specs.Spec) {}) })
		// A hook in the container takes an init, which finishes the container where without one
		// a thread of the runtime does.
		t.Run(c.name+", by init", func(t *testing.T) {
			c.run(t, func(s *specs.Spec) {
				s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/true"}}}
			})
		})
	}
}

func (c *configTest) run(t *testing.T, more func(*specs.Spec)) {
	b := newBundle(t, c.script)
	if c.edit != nil {
		c.edit(b.spec)
	}
	more(b.spec)
	b.write()
	r := b.run()
	if r.status != 0 || !regexp.MustCompile(`^(?s:`+c.want+`)\n?$`).MatchString(r.out) {
		t.Errorf("%v\nwant %s", r, c.want)
	}
}

func TestProcess(t *testing.T) {
	capabilities := func(bounding, effective, inheritable, permitted, ambient string) func(*specs.Spec) {
		f := func(s string) (all []string) {
			for _, name := range strings.Fields(s) {
				all = append(all, "CAP_"+name)
			}
			return all
		}
		return func(s *specs.Spec) {
			s.Process.NoNewPrivileges = false
			s.Process.Capabilities = &specs.LinuxCapabilities{
				Bounding: f(bounding), Effective: f(effective), Inheritable: f(inheritable),
				Permitted: f(permitted), Ambient: f(ambient),
			}
		}
	}
	const caps = `awk '/^Cap/ {print $1 $2}' /proc/self/status | sed s/000000000000//`
	runConfigs(t, []configTest{
		{"args", `echo "$0"`, func(s *specs.Spec) { s.Process.Args = append(s.Process.Args, "a b") }, "a b"},
		{"env", `echo "$A|$B"`, func(s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "A=1 2", "B=")
		}, `1 2\|`},
		{"path", "", func(s *specs.Spec) {
			s.Process.Args, s.Process.Env = []string{"echo", "found"}, []string{"PATH=/nowhere:/bin"}
		}, "found"},
		{"home", "echo $HOME", nil, "/root"},
		{"home of nobody known", "echo $HOME", func(s *specs.Spec) { s.Process.User.UID = 12345 }, "/"},
		{"home as it is said", "echo $HOME", func(s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "HOME=/there")
		}, "/there"},
		{"cwd", "pwd", func(s *specs.Spec) { s.Process.Cwd = "/tmp" }, "/tmp"},
		{"cwd made", "pwd", func(s *specs.Spec) { s.Process.Cwd = "/made/here" }, "/made/here"},
		{"user", "id -u; id -g; id -G", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{7, 8}}
		}, "1000\n100\n100 7 8"},
		{"no groups", "grep Groups /proc/self/status", nil, `Groups:\s+`},
		{"umask", "umask", func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o27)) }, "0027"},
		{"umask by default", "umask", nil, "0022"},
		{"capabilities", caps, capabilities("KILL CHOWN", "KILL", "CHOWN KILL", "KILL CHOWN", "KILL"),
			"CapInh:0021\nCapPrm:0021\nCapEff:0021\nCapBnd:0021\nCapAmb:0020"},
		{"no capabilities", caps, func(s *specs.Spec) { s.Process.Capabilities = nil },
			"CapInh:0000\nCapPrm:0000\nCapEff:0000\nCapBnd:0000\nCapAmb:0000"},
		{"capabilities of a user", caps, func(s *specs.Spec) {
			capabilities("KILL CHOWN", "KILL", "", "KILL", "")(s)
			s.Process.User.UID = 1000
		}, "CapInh:0000\nCapPrm:0000\nCapEff:0000\nCapBnd:0021\nCapAmb:0000"},
		{"ambient capabilities of a user", caps, func(s *specs.Spec) {
			capabilities("KILL CHOWN", "KILL", "KILL", "KILL", "KILL")(s)
			s.Process.User.UID = 1000
		}, "CapInh:0020\nCapPrm:0020\nCapEff:0020\nCapBnd:0021\nCapAmb:0020"},
		{"unknown capability", "echo runs", capabilities("TOMORROW", "", "", "", ""), "runs"},
		{"rlimits", "ulimit -n; ulimit -Hn; ulimit -c; ulimit -t", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0},
				{Type: "RLIMIT_CPU", Soft: 1000, Hard: 2000},
			}
		}, "100\n200\n0\n1000"},
		{"few files", "ulimit -n", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 8, Hard: 8}}
		}, "8"},
		{"no new privileges", "grep NoNewPrivs /proc/self/status", nil, `NoNewPrivs:\s1`},
		{"new privileges", "grep NoNewPrivs /proc/self/status",
			func(s *specs.Spec) { s.Process.NoNewPrivileges = false }, `NoNewPrivs:\s0`},
		{"oom score", "cat /proc/self/oom_score_adj",
			func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(123) }, "123"},
		{"oom score in a user namespace", "cat /proc/self/oom_score_adj",
			func(s *specs.Spec) { mapped(s); s.Process.OOMScoreAdj = ptr(123) }, "123"},
		{"scheduler", `awk '{print $41, $19}' /proc/self/stat`, func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
		}, "3 5"},
		{"I/O priority", "ionice -p $$", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		}, "best-effort: prio 6"},
		{"personality", "uname -m", func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		}, "i686|armv8l"},
		{"session", `awk '{print $1 == $6}' /proc/1/stat`, nil, "1"},
		{"no descriptors", "ls /proc/1/fd; true", nil, "0\n1\n2"},
		{"signals", "grep SigBlk /proc/self/status", nil, `SigBlk:\s0+`},
		{"keyring", "cat /proc/keys | wc -l", func(s *specs.Spec) { s.Linux.MaskedPaths = nil }, `\d+`},
	})
}

// A runtime in Go raises its own soft limit on open files: a container must not see it.
func TestProcess_SoftLimitIsTheCallers(t *testing.T) {
	b := newBundle(t, "ulimit -n; ulimit -Hn; sleep 1000",
		func(s *specs.Spec) { s.Process.Rlimits = nil })
	limited := func(args ...string) result {
		script := `ulimit -Sn 1000; ulimit -Hn 4096; exec "$@"`
		cmd := exec.Command("bash", append([]string{"-c", script, "bash", program, "--root", states},
			args...)...)
		cmd.Dir = b.dir
		out, err := os.Create(filepath.Join(b.dir, "output"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Run()
		r := result{out: b.output()}
		if err != nil {
			r.status = 1
		}
		return r
	}
	if r := limited("run", "-d", b.id); r.status != 0 {
		t.Fatal(r)
	}
	eventually(t, "output", func() bool { return strings.Count(b.output(), "\n") == 2 })
	if got := b.output(); got != "1000\n4096\n" {
		t.Errorf("soft and hard limit of the first process: got %q", got)
	}
	if r := limited("exec", b.id, "sh", "-c", "ulimit -n; ulimit -Hn"); r.out != "1000\n4096\n" {
		t.Errorf("soft and hard limit of exec: got %q", r.out)
	}
}

func TestRootAndMounts(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("source", source, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(source, unix.MNT_DETACH) })
	below := filepath.Join(source, "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("below", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(below, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bind := func(options ...string) func(*specs.Spec) {
		return withMount(specs.Mount{Destination: "/mnt/x", Type: "bind", Source: source, Options: options})
	}
	tmpfs := func(options ...string) func(*specs.Spec) {
		return withMount(specs.Mount{Destination: "/mnt/t", Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	// The sixth field of mountinfo are the mount's own options, with those of /mnt/x first.
	const options = `awk '$5 ~ "^/mnt/" {print $5, $6}' /proc/self/mountinfo`
	const propagation = `awk '$5 == "/mnt/x" {print $7}' /proc/self/mountinfo`
	all := []configTest{
		{"root read-only", "touch /x 2>&1; touch /dev/shm/x && echo yes",
			func(s *specs.Spec) { s.Root.Readonly = true }, "touch: /x: Read-only file system\nyes"},
		{"root writable", "touch /written && rm /written && echo yes", nil, "yes"},
		{"no old root", "ls /run; cat /proc/mounts | grep -c rootfs-of-the-host; true", nil, `.*0`},
		{"bind", "cat /mnt/x/file", bind("bind"), "content"},
		{"bind of a file", "cat /mnt/f", withMount(specs.Mount{Destination: "/mnt/f", Source: source + "/file",
			Options: []string{"bind", "ro"}}), "content"},
		{"bind without below", "grep -c /mnt/x/below /proc/mounts; true", bind("bind"), "0"},
		{"rbind", "grep -c /mnt/x/below /proc/mounts", bind("rbind"), "1"},
		{"bind read-only", options, bind("rbind", "ro"),
			"/mnt/x ro,relatime\n/mnt/x/below rw,relatime"},
		{"relative to the bundle", "cat /mnt/c | head -c 1", withMount(specs.Mount{Destination: "/mnt/c",
			Type: "bind", Source: "config.json", Options: []string{"bind"}}), "{"},
		{"bind options", options, bind("bind", "nosuid", "nodev", "noexec", "noatime", "nodiratime"),
			"/mnt/x rw,nosuid,nodev,noexec,noatime,nodiratime"},
		{"bind nosymfollow", options, bind("bind", "nosymfollow"), "/mnt/x rw,relatime,nosymfollow"},
		{"bind strictatime", options, bind("bind", "strictatime"), "/mnt/x rw"},
		{"bind atime", options, bind("bind", "noatime", "atime"), "/mnt/x rw(,relatime)?"},
		{"last option wins", options, bind("bind", "ro", "rw", "noexec", "exec", "suid", "nosuid"),
			"/mnt/x rw,nosuid,relatime"},
		{"recursive read-only", options, bind("rbind", "rro"), "/mnt/x ro,relatime\n/mnt/x/below ro,relatime"},
		{"recursive options", options, bind("rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime",
			"rnodiratime", "rnosymfollow"),
			"/mnt/x rw,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow\n" +
				"/mnt/x/below rw,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow"},
		{"recursive options taken back", options, bind("rbind", "ro", "noexec", "rrw", "rexec", "rstrictatime"),
			"/mnt/x rw\n/mnt/x/below rw"},
		{"private", propagation, bind("bind", "rprivate"), "-"},
		{"shared", propagation, bind("bind", "shared"), `shared:\d+`},
		{"slave", propagation, bind("rbind", "rslave"), `master:\d+`},
		{"unbindable", propagation, bind("bind", "unbindable"), "unbindable"},
		{"tmpfs", options + "; df -k /mnt/t | awk 'END {print $2}'; stat -c %a /mnt/t",
			tmpfs("size=64k", "mode=1700", "nosuid", "nodev", "noexec"),
			"/mnt/t rw,nosuid,nodev,noexec,relatime\n64\n1700"},
		{"tmpfs read-only", "touch /mnt/t/x 2>&1; true", tmpfs("ro"), "touch: .*Read-only file system"},
		{"tmpfs keeps the mode", "stat -c %a /root", withMount(specs.Mount{Destination: "/root", Type: "tmpfs",
			Source: "tmpfs"}), "700"},
		{"tmpcopyup", "cat /etc/passwd | head -n 1 | cut -d: -f1; touch /etc/new; grep -c ' /etc ' /proc/mounts",
			withMount(specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs",
				Options: []string{"tmpcopyup", "mode=755"}}), "root\n1"},
		{"tmpcopyup read-only", "head -n 1 /etc/passwd | cut -d: -f1; touch /etc/new 2>&1; true",
			withMount(specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs",
				Options: []string{"tmpcopyup", "ro"}}), "root\ntouch: .*Read-only.*"},
		{"remount", options, func(s *specs.Spec) {
			tmpfs()(s)
			withMount(specs.Mount{Destination: "/mnt/t", Type: "tmpfs", Source: "tmpfs",
				Options: []string{"remount", "ro", "nosuid"}})(s)
		}, "/mnt/t ro,nosuid,relatime"},
		{"bind remount", options, func(s *specs.Spec) {
			bind("bind")(s)
			bind("bind", "remount", "ro", "nodev")(s)
		}, "/mnt/x ro,nodev,relatime"},
		{"proc", "grep -c '^proc /proc proc' /proc/mounts; ls /proc | grep -c '^[0-9]'", nil, "1\n[2-5]"},
		{"sysfs", "ls /sys/class/net", nil, "lo"},
		{"mqueue and shm", "stat -f -c %T /dev/shm; grep -c mqueue /proc/mounts", nil, "tmpfs\n1"},
		{"cgroup", "grep -c ' cgroup2\\? ' /proc/mounts | awk '{print ($1 > 0)}'; " +
			"mkdir /sys/fs/cgroup/x 2>&1; true", nil, "1\nmkdir: .*"},
		{"idmap", "stat -c %u:%g /mnt/x/bin", func(s *specs.Spec) {
			withMount(specs.Mount{Destination: "/mnt/x", Type: "bind", Source: mappable(t),
				Options:     []string{"bind", "idmap"},
				UIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}},
				GIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 2000, Size: 10}}})(s)
		}, "1000:2000"},
		{"ridmap", "stat -c %u:%g /mnt/x/bin /mnt/x/share/passwd", func(s *specs.Spec) {
			withMount(specs.Mount{Destination: "/mnt/x", Type: "bind", Source: mappable(t),
				Options:     []string{"rbind", "ridmap"},
				UIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}},
				GIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 2000, Size: 10}}})(s)
		}, "1000:2000\n1000:2000"},
		{"idmap of the container's own map", "stat -c %u:%g /mnt/x/bin", func(s *specs.Spec) {
			mapped(s)
			withMount(specs.Mount{Destination: "/mnt/x", Type: "bind", Source: mappable(t),
				Options: []string{"bind", "idmap"}})(s)
		}, "0:0"},
		{"destination is a link", "cat /linked/file; ls -d /mnt/goal/file", func(s *specs.Spec) {
			withMount(specs.Mount{Destination: "/linked", Type: "bind", Source: source, Options: []string{"bind"}})(s)
		}, "content\n/mnt/goal/file"},
		{"relative destination", "cat /mnt/r/file", withMount(specs.Mount{Destination: "mnt/r", Type: "bind",
			Source: source, Options: []string{"bind"}}), "content"},
	}
	if err := os.Symlink("/mnt/goal", filepath.Join(rootfs, "linked")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(rootfs, "linked")) })
	runConfigs(t, all)
}

// mappable is a folder with a mount below, both of the machine's own file system: before
// Linux 6.3 the owners of a tmpfs cannot be mapped.
func mappable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mappable")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range [][2]string{{"/usr", dir}, {"/etc", dir + "/share"}} {
		if err := unix.Mount(m[0], m[1], "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(m[1], unix.MNT_DETACH) })
	}
	return dir
}

func TestRootfsPropagation(t *testing.T) {
	const own = `awk '$5 == "/" {print $7}' /proc/self/mountinfo | tail -n 1`
	var all []configTest
	for value, want := range map[string]string{
		"private": "-", "rprivate": "-", "shared": `shared:\d+`, "rshared": `shared:\d+`,
		"unbindable": "unbindable", "runbindable": "unbindable",
		"slave": `-|master:\d+`, "rslave": `-|master:\d+`, "": `-|master:\d+`,
	} {
		all = append(all, configTest{value, own,
			func(s *specs.Spec) { s.Linux.RootfsPropagation = value }, want})
	}
	runConfigs(t, all)
	if strings.Contains(mounts(t), "/dev/shm rw,nosuid,nodev,noexec - tmpfs shm") {
		t.Error("mounts of containers have come out")
	}
}

func TestNamespaces(t *testing.T) {
	kinds := map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc",
		specs.UTSNamespace: "uts", specs.MountNamespace: "mnt", specs.CgroupNamespace: "cgroup",
		specs.UserNamespace: "user", specs.TimeNamespace: "time",
	}
	link := func(pid any, file string) string {
		target, err := os.Readlink(fmt.Sprintf("/proc/%v/ns/%s", pid, file))
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	sleeper := newBundle(t, "exec sleep 1000", mapped, namespace(specs.TimeNamespace, ""),
		namespace(specs.CgroupNamespace, "")).up()
	pid := sleeper.state().Pid
	for kind, file := range kinds {
		if link(pid, file) == link("self", file) {
			t.Errorf("a new %s namespace is the host's", kind)
		}
		t.Run("host "+string(kind), func(t *testing.T) {
			if kind == specs.MountNamespace || kind == specs.UserNamespace {
				t.Skip("is another test")
			}
			b := newBundle(t, "readlink /proc/self/ns/"+file, without(kind))
			if kind == specs.UTSNamespace {
				b.spec.Hostname = ""
			}
			if kind == specs.IPCNamespace {
				b.spec.Mounts = b.spec.Mounts[:4]
				withMount(specs.Mount{Destination: "/proc", Type: "proc", Source: "proc"})(b.spec)
			}
			b.write()
			if r := b.run(); strings.TrimSpace(r.out) != link("self", file) {
				t.Errorf("%v, want %s", r, link("self", file))
			}
		})
		t.Run("join "+string(kind), func(t *testing.T) {
			path := fmt.Sprintf("/proc/%d/ns/%s", pid, file)
			want := link(pid, file)
			b := newBundle(t, "exec sleep 1000", namespace(kind, path))
			if kind == specs.MountNamespace {
				b.spec.Mounts, b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = nil, nil, nil
				b.spec.Root.Readonly = false
				b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[len(b.spec.Linux.Namespaces)-1:]
				b.spec.Hostname = ""
			}
			b.write()
			b.up()
			if got := link(b.state().Pid, file); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if kind == specs.MountNamespace { // its /proc is of another pid namespace
				b.must("exec", b.id, "true")
				return
			}
			r := b.call("exec", b.id, "readlink", "/proc/self/ns/"+file)
			if strings.TrimSpace(r.out) != want {
				t.Errorf("exec: %v, want %s", r, want)
			}
		})
	}
	t.Run("join all", func(t *testing.T) {
		b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) {
			s.Hostname = ""
			s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
			for kind, file := range kinds {
				namespace(kind, fmt.Sprintf("/proc/%d/ns/%s", pid, file))(s)
			}
		}).up()
		for kind, file := range kinds {
			if got := link(b.state().Pid, file); got != link(pid, file) {
				t.Errorf("%s: got %s, want %s", kind, got, link(pid, file))
			}
		}
		if out := b.must("exec", b.id, "id", "-u"); out != "0\n" {
			t.Errorf("exec id: %q", out)
		}
	})
	// A namespace may belong to another user namespace than that which is joined.
	t.Run("join of two owners", func(t *testing.T) {
		b := newBundle(t, "readlink /proc/self/ns/net; readlink /proc/self/ns/user",
			namespace(specs.UserNamespace, fmt.Sprintf("/proc/%d/ns/user", pid)),
			namespace(specs.NetworkNamespace, "/proc/self/ns/net"))
		b.spec.Mounts = b.spec.Mounts[:5] // no sysfs of a network that is not its own
		b.write()
		if r := b.run(); r.out != link("self", "net")+"\n"+link(pid, "user")+"\n" {
			t.Error(r)
		}
	})
}

func TestUserNamespace(t *testing.T) {
	runConfigs(t, []configTest{
		{"maps", "awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map; id -u", mapped,
			"0 100000 65536\n0 200000 65536\n0"},
		{"several maps", "awk '{print $1, $2, $3}' /proc/self/uid_map", func(s *specs.Spec) {
			mapped(s)
			s.Linux.UIDMappings = []specs.LinuxIDMapping{
				{ContainerID: 0, HostID: 5000, Size: 1}, {ContainerID: 10, HostID: 6000, Size: 20},
			}
		}, "0 5000 1\n10 6000 20"},
		{"user", "id -u; id -G", func(s *specs.Spec) {
			mapped(s)
			s.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{5}}
		}, "1000\n100 5"},
		{"devices", "echo x > /dev/null && head -c 1 /dev/zero | wc -c; stat -c %t:%T /dev/full", mapped, "1\n1:7"},
		{"rlimits", "ulimit -n; ulimit -Hn", func(s *specs.Spec) {
			mapped(s)
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 50, Hard: 60}}
		}, "50\n60"},
		{"read-only root", "touch /x 2>&1; true", func(s *specs.Spec) {
			mapped(s)
			s.Root.Readonly = true
		}, "touch: .*"},
		{"sysctl and host name", "hostname; cat /proc/sys/net/ipv4/ip_forward", func(s *specs.Spec) {
			mapped(s)
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		}, "minirunc\n1"},
		{"time offsets", "awk '{print ($1 > 100000)}' /proc/uptime", func(s *specs.Spec) {
			mapped(s)
			namespace(specs.TimeNamespace, "")(s)
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000}}
		}, "1"},
	})
}

func TestLinux(t *testing.T) {
	runConfigs(t, []configTest{
		{"hostname", "hostname; cat /proc/sys/kernel/domainname",
			func(s *specs.Spec) { s.Hostname, s.Domainname = "a-host", "a.domain" }, "a-host\na.domain"},
		{"time offsets", "awk '{print ($1 > 100000)}' /proc/uptime; cat /proc/self/timens_offsets | tr -s ' '",
			func(s *specs.Spec) {
				namespace(specs.TimeNamespace, "")(s)
				s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{
					"boottime": {Secs: 1000000}, "monotonic": {Secs: 5, Nanosecs: 7},
				}
			}, "1\nmonotonic 5 7\nboottime 1000000 0"},
		{"loopback", "cat /sys/class/net/lo/flags", nil, "0x9"},
		{"default devices", "cd /dev; for i in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $i; done; " +
			"for i in fd stdin stdout stderr ptmx; do readlink $i; done", nil,
			"null character special file 1:3 666\nzero character special file 1:5 666\n" +
				"full character special file 1:7 666\nrandom character special file 1:8 666\n" +
				"urandom character special file 1:9 666\ntty character special file 5:0 666\n" +
				"/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx"},
		{"devices", "stat -c '%F %t:%T %a %u:%g' /dev/own /dev/block /dev/pipe", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/own", Type: "c", Major: 1, Minor: 3, FileMode: ptr(os.FileMode(0o640)),
					UID: ptr(uint32(5)), GID: ptr(uint32(6))},
				{Path: "/dev/block", Type: "b", Major: 7, Minor: 200},
				{Path: "/dev/pipe", Type: "p"},
			}
		}, "character special file 1:3 640 5:6\nblock special file 7:c8 666 0:0\nfifo 0:0 666 0:0"},
		{"device rules", "mknod /dev/m b 7 200 && head -c 1 /dev/m 2>&1; head -c 1 /dev/zero | wc -c", func(s *specs.Spec) {
			s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_MKNOD")
			s.Process.Capabilities.Effective, s.Process.Capabilities.Permitted =
				s.Process.Capabilities.Bounding, s.Process.Capabilities.Bounding
		}, "head: /dev/m: Operation not permitted\n1"},
		{"masked paths", "cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware | grep -vc :; cat /etc/group; touch /sys/firmware/x 2>&1; true",
			func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc/group", "/not/there") },
			"0\n.*\ntouch: /sys/firmware/x: Read-only file system"},
		{"read-only paths", "echo 1 > /proc/sys/net/ipv4/ip_forward; touch /etc/x",
			func(s *specs.Spec) {
				s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/etc", "/not/there")
				s.Process.Args[2] = "{ " + s.Process.Args[2] + "; } 2>&1; true"
			}, ".*ip_forward: Read-only file system\ntouch: /etc/x: Read-only file system"},
		{"sysctl", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmni": "99"}
		}, "1\n99"},
		{"sysctl with a slash", "cat /proc/sys/net/ipv4/conf/lo/forwarding", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net/ipv4/conf/lo/forwarding": "1"}
		}, "1"},
		{"no linux", "echo runs", func(s *specs.Spec) {
			s.Linux, s.Hostname, s.Mounts, s.Root.Readonly = nil, "", nil, false
		}, "runs"},
	})
}

func TestConfig_Refused(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		want string
	}{
		{"no version", func(s *specs.Spec) { s.Version = "" }, "ociVersion"},
		{"version 2", func(s *specs.Spec) { s.Version = "2.0.0" }, "ociVersion"},
		{"no root", func(s *specs.Spec) { s.Root = nil }, "root.path"},
		{"missing root", func(s *specs.Spec) { s.Root.Path = "nowhere" }, "root.path"},
		{"no args", func(s *specs.Spec) { s.Process.Args = nil }, "process.args"},
		{"relative cwd", func(s *specs.Spec) { s.Process.Cwd = "tmp" }, "process.cwd"},
		{"no such program", func(s *specs.Spec) { s.Process.Args = []string{"nix"} },
			"executable file not found in $PATH"},
		{"no such path", func(s *specs.Spec) { s.Process.Args = []string{"/nix"} }, "no such file or directory"},
		{"not executable", func(s *specs.Spec) { s.Process.Args = []string{"/etc/passwd"} }, "permission denied"},
		{"a folder", func(s *specs.Spec) { s.Process.Args = []string{"/etc"} }, "is a directory"},
		{"rlimit twice", func(s *specs.Spec) {
			s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits...)
		}, "twice"},
		{"unknown rlimit", func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_X" }, "RLIMIT_X"},
		{"soft above hard", func(s *specs.Spec) { s.Process.Rlimits[0].Soft = 1 << 20 }, "above hard"},
		{"terminal without a socket", func(s *specs.Spec) { s.Process.Terminal = true }, "--console-socket"},
		{"unknown namespace", func(s *specs.Spec) { s.Linux.Namespaces[0].Type = "x" }, `"x"`},
		{"namespace twice", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0])
		}, "twice"},
		{"namespace of another kind", namespace(specs.NetworkNamespace, "/proc/self/ns/ipc"), "no network namespace"},
		{"relative namespace", namespace(specs.NetworkNamespace, "net"), "not absolute"},
		{"missing namespace", namespace(specs.NetworkNamespace, "/nowhere"), "/nowhere"},
		{"maps without a user namespace", func(s *specs.Spec) {
			mapped(s)
			without(specs.UserNamespace)(s)
		}, "user namespace"},
		{"user namespace without maps", namespace(specs.UserNamespace, ""), "uidMappings"},
		{"unmapped user", func(s *specs.Spec) { mapped(s); s.Process.User.UID = 70000 }, "70000"},
		{"host name of the host", without(specs.UTSNamespace), "uts namespace"},
		{"offsets without a time namespace", func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}, "time namespace"},
		{"unknown clock", func(s *specs.Spec) {
			namespace(specs.TimeNamespace, "")(s)
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"x": {Secs: 1}}
		}, "timeOffsets"},
		{"sysctl of the host", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"vm.swappiness": "1"} },
			"vm.swappiness"},
		{"sysctl of the host's network", func(s *specs.Spec) {
			without(specs.NetworkNamespace)(s)
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		}, "net.ipv4.ip_forward"},
		{"sysctl with dots", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net/../vm/swappiness": "1"}
		}, "no name"},
		{"unknown sysctl", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.x": "1"} }, "net.x"},
		{"propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" }, "rootfsPropagation"},
		{"intelRdt", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x"} }, "intelRdt"},
		{"memory policy", func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{} }, "memoryPolicy"},
		{"net devices", func(s *specs.Spec) {
			without(specs.NetworkNamespace)(s)
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}}
		}, "netDevices"},
		{"mount label", func(s *specs.Spec) { s.Linux.MountLabel = "x" }, "mountLabel"},
		{"apparmor", func(s *specs.Spec) { s.Process.ApparmorProfile = "x" }, "apparmorProfile"},
		{"selinux", func(s *specs.Spec) { s.Process.SelinuxLabel = "x" }, "selinuxLabel"},
		{"personality", func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"}
		}, "personality"},
		{"scheduler", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_X"} }, "SCHED_X"},
		{"I/O priority", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_X"}
		}, "IOPRIO_CLASS_X"},
		{"device type", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "x"}}
		}, "/dev/x"},
		{"mount without destination", withMount(specs.Mount{Type: "tmpfs"}), "destination"},
		{"mount of nothing", withMount(specs.Mount{Destination: "/x", Type: "bind", Source: "/nowhere",
			Options: []string{"bind"}}), "/nowhere"},
		{"file on a folder", withMount(specs.Mount{Destination: "/etc", Type: "bind", Source: program,
			Options: []string{"bind"}}), "folder"},
		{"file system type", withMount(specs.Mount{Destination: "/x", Type: "nofs", Source: "x"}), "nofs"},
		{"mount option", withMount(specs.Mount{Destination: "/x", Type: "tmpfs", Source: "x",
			Options: []string{"zzz"}}), "zzz"},
		{"idmap of a tmpfs", withMount(specs.Mount{Destination: "/x", Type: "tmpfs", Source: "x",
			Options: []string{"idmap"}}), "ID mappings"},
		{"seccomp action", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_X"}
		}, "SCMP_ACT_X"},
		{"seccomp notify", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActNotify}
		}, "SCMP_ACT_NOTIFY"},
		{"seccomp operator", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"close"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "X"}}},
			}}
		}, `"X"`},
		{"cgroup of systemd", func(s *specs.Spec) { s.Linux.CgroupsPath = "system.slice:x:y" }, "--systemd-cgroup"},
		{"device rule", func(s *specs.Spec) {
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Access: "x"})
		}, "access"},
		{"relative hook", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "true"}}}
		}, "hook"},
		{"hook timeout", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true", Timeout: ptr(0)}}}
		}, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBundle(t, "true", c.edit)
			b.fails([]string{"create", b.id}, c.want)
			b.fails([]string{"state", b.id}, "does not exist")
			if strings.Contains(mounts(t), b.dir) {
				t.Error("mounts are left")
			}
		})
	}
	t.Run("no JSON", func(t *testing.T) {
		b := newBundle(t, "true")
		if err := os.WriteFile(b.dir+"/config.json", []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		b.fails([]string{"create", b.id}, "config.json")
		if err := os.Remove(b.dir + "/config.json"); err != nil {
			t.Fatal(err)
		}
		b.fails([]string{"create", b.id}, "config.json")
	})
}
