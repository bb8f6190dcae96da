//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
)

// These are for requirements of the specification that no other test is about:
// docs/final/conformance.md lists them all.

func TestConformance_WithoutID(t *testing.T) {
	b := newBundle(t, "true")
	for _, command := range []string{"state", "create", "run", "start", "kill", "delete"} {
		b.fails([]string{command}, "ID")
	}
	if out := b.must("list", "--quiet"); strings.Contains(out, b.id) {
		t.Errorf("a container is there: %s", out)
	}
}

// What is in the bundle is read by create, and not again.
func TestConformance_ConfigAfterCreate(t *testing.T) {
	b := newBundle(t, "echo $WHICH", func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "WHICH=first") })
	log := filepath.Join(b.dir, "log")
	b.background("create")
	b.spec.Process.Env = append(b.spec.Process.Env, "WHICH=second")
	b.spec.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/usr/bin/touch", Args: []string{"touch", log}}}}
	b.write()
	b.must("start", b.id)
	eventually(t, "output", func() bool { return b.output() == "first\n" })
	b.waitStopped()
	b.must("delete", b.id)
	if _, err := os.Stat(log); err == nil {
		t.Error("a hook that came after create has run")
	}
}

func TestConformance_NoProcess(t *testing.T) {
	b := newBundle(t, "", func(s *specs.Spec) { s.Process = nil })
	b.background("create")
	b.fails([]string{"start", b.id}, "process")
	b.wantStatus(specs.StateCreated)
	b.must("kill", b.id, "KILL")
	b.waitStopped()
	b.must("delete", b.id)
	b.fails([]string{"run", b.id}, "process")
	b.fails([]string{"state", b.id}, "does not exist")
}

// A state has what the schema of the specification has, and of that type.
func TestConformance_State(t *testing.T) {
	b := newBundle(t, "exec sleep 1000").up()
	var s map[string]any
	if err := json.Unmarshal([]byte(b.must("state", b.id)), &s); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"ociVersion": "string", "id": "string", "status": "string", "pid": "float64", "bundle": "string",
	} {
		if got := fmt.Sprintf("%T", s[key]); got != want {
			t.Errorf("%s: %v is a %s, want %s", key, s[key], got, want)
		}
	}
	if s["ociVersion"] != specs.Version || !filepath.IsAbs(s["bundle"].(string)) {
		t.Errorf("state: %v", s)
	}
}

// A control group that was there before stays, with who is in it.
func TestConformance_GroupOfOthers(t *testing.T) {
	group := "/conformance/shared"
	mounts, err := filepath.Glob("/sys/fs/cgroup/pids")
	if err != nil || len(mounts) == 0 {
		mounts = []string{"/sys/fs/cgroup"}
	}
	dir := mounts[0] + group
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir); _ = os.Remove(filepath.Dir(dir)) })
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	if err := os.WriteFile(dir+"/cgroup.procs", fmt.Append(nil, other.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) { s.Linux.CgroupsPath = group }).up()
	if procs, err := os.ReadFile(dir + "/cgroup.procs"); err != nil || strings.Count(string(procs), "\n") != 2 {
		t.Errorf("the container is not in the group: %s, %v", procs, err)
	}
	b.must("delete", "--force", b.id)
	if !alive(other.Process.Pid) {
		t.Error("delete has killed another process in the group")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	if made, _ := filepath.Glob("/sys/fs/cgroup/memory" + group); len(made) > 0 {
		t.Errorf("the groups that were made are left: %v", made)
	}
}

func TestConformance_Paths(t *testing.T) {
	where := func(path string) string {
		b := newBundle(t, "exec sleep 1000", func(s *specs.Spec) { s.Linux.CgroupsPath = path }).up()
		defer b.must("delete", "--force", b.id)
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", b.state().Pid))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, path := range []string{"/conformance/a", "conformance/relative"} {
		first, second := where(path), where(path)
		if first != second || !strings.Contains(first, "/"+strings.TrimPrefix(path, "/")+"\n") {
			t.Errorf("cgroupsPath %s: %s, then %s", path, first, second)
		}
	}
}

func TestConformance_OOMScoreAdjIsInherited(t *testing.T) {
	b := newBundle(t, "cat /proc/self/oom_score_adj")
	cmd := exec.Command("sh", "-c", `echo 77 > /proc/self/oom_score_adj && exec "$@"`, "sh",
		program, "--root", states, "run", b.id)
	cmd.Dir = b.dir
	if r := run1(cmd); r.out != "77\n" {
		t.Errorf("%v, want 77", r)
	}
}

func TestConformance_Config(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(source+"/file", []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bind := specs.Mount{Destination: "/mnt/o/x", Type: "bind", Source: source, Options: []string{"bind"}}
	tmpfs := specs.Mount{Destination: "/mnt/o", Type: "tmpfs", Source: "tmpfs"}
	all := func(names ...string) *specs.LinuxCapabilities {
		return &specs.LinuxCapabilities{Bounding: names, Effective: names, Inheritable: names, Permitted: names,
			Ambient: names}
	}
	kmsg := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "rw"}
	rules := func(s *specs.Spec) {
		s.Process.Capabilities = all("CAP_SYSLOG")
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}}
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Access: "rwm"}}
	}
	runConfigs(t, []configTest{
		{"mounts in their order", "cat /mnt/o/x/file", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, tmpfs, bind)
		}, "content"},
		{"mounts in the other order", "ls -A /mnt/o", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, bind, tmpfs)
		}, ""},
		{"console size without a terminal", "echo runs", func(s *specs.Spec) {
			s.Process.ConsoleSize = &specs.Box{Height: 1, Width: 1}
		}, "runs"},
		{"unknown annotation", "echo runs", func(s *specs.Spec) {
			s.Annotations = map[string]string{"com.example.unknown": ""}
		}, "runs"},
		{"version with a pre-release", "echo runs", func(s *specs.Spec) { s.Version = "1.2.0-rc.1+dev" }, "runs"},
		{"version 1.0.0", "echo runs", func(s *specs.Spec) { s.Version = "1.0.0" }, "runs"},
		{"capabilities that nobody has", "grep CapEff /proc/self/status", func(s *specs.Spec) {
			s.Process.Capabilities = all("CAP_KILL", "CAP_TOMORROW")
		}, `CapEff:\s0+20`},
		{"effective but not permitted", "grep CapEff /proc/self/status", func(s *specs.Spec) {
			s.Process.Capabilities = all("CAP_KILL")
			s.Process.Capabilities.Effective = []string{"CAP_KILL", "CAP_CHOWN"}
		}, `CapEff:\s0+20`},
		{"device rules in their order", ": < /dev/kmsg && echo yes", func(s *specs.Spec) {
			rules(s)
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, kmsg)
		}, "yes"},
		{"device rules in the other order", "( : < /dev/kmsg ) 2>&1; true", func(s *specs.Spec) {
			rules(s)
			s.Linux.Resources.Devices = append([]specs.LinuxDeviceCgroup{kmsg}, s.Linux.Resources.Devices...)
		}, ".*Operation not permitted"},
		{"file at a device's path", "stat -c '%F %t:%T' /dev/null", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}}
		}, "character special file 1:3"},
		{"a chroot without a mount namespace", "ls /bin/busybox", func(s *specs.Spec) {
			without(specs.MountNamespace)(s)
			s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
		}, "/bin/busybox"},
	})
	b := newBundle(t, "true", func(s *specs.Spec) { s.Process.Capabilities = all("CAP_TOMORROW") })
	if r := b.run(); r.status != 0 || !strings.Contains(r.err, "warning") || !strings.Contains(r.err, "CAP_TOMORROW") {
		t.Errorf("no warning about an unknown capability: %v", r)
	}
}

// Whoever may do little himself gives little, and says so.
func TestConformance_CapabilitiesNotGranted(t *testing.T) {
	names := []string{"CAP_KILL", "CAP_SYS_TIME"}
	b := newBundle(t, "grep CapPrm /proc/self/status; exec sleep 1000", func(s *specs.Spec) {
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names}
	})
	few := func(args ...string) result {
		cmd := exec.Command("setpriv", append([]string{"--bounding-set", "-sys_time", program, "--root", states},
			args...)...)
		cmd.Dir = b.dir
		out, err := os.Create(filepath.Join(b.dir, "output"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		_ = cmd.Run()
		return result{out: b.output(), status: cmd.ProcessState.ExitCode()}
	}
	if r := few("run", "--detach", b.id); r.status != 0 || !strings.Contains(r.out, "warning") ||
		!strings.Contains(r.out, "CAP_SYS_TIME") {
		t.Fatal(r)
	}
	eventually(t, "output", func() bool { return strings.Contains(b.output(), "0000000020\n") })
	if r := few("exec", b.id, "grep", "CapPrm", "/proc/self/status"); !strings.Contains(r.out, "warning") ||
		!strings.Contains(r.out, "0000000020\n") {
		t.Errorf("exec: %v", r)
	}
}

func TestConformance_Refused(t *testing.T) {
	profile := func(change func(*specs.LinuxSeccomp)) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
			change(s.Linux.Seccomp)
		}
	}
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		want string
	}{
		{"version that is none", func(s *specs.Spec) { s.Version = "invalid" }, "ociVersion"},
		{"version with two parts", func(s *specs.Spec) { s.Version = "1.0" }, "ociVersion"},
		{"version with more", func(s *specs.Spec) { s.Version = "1.0.0x" }, "ociVersion"},
		{"empty annotation key", func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} }, "annotations"},
		{"half a map", withMount(specs.Mount{Destination: "/x", Type: "bind", Source: "/tmp", Options: []string{"bind", "idmap"},
			UIDMappings: []specs.LinuxIDMapping{{Size: 1}}}), "gidMappings"},
		{"idmap without a map", withMount(specs.Mount{Destination: "/x", Type: "bind", Source: "/tmp",
			Options: []string{"bind", "idmap"}}), "uidMappings"},
		{"relative masked path", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"x"} }, "not absolute"},
		{"relative read-only path", func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"x"} }, "not absolute"},
		{"errno that is not returned", profile(func(p *specs.LinuxSeccomp) { p.DefaultErrnoRet = ptr(uint(1)) }), "errno"},
		{"errno of a rule that returns none", profile(func(p *specs.LinuxSeccomp) {
			p.Syscalls = []specs.LinuxSyscall{{Names: []string{"close"}, Action: specs.ActKill, ErrnoRet: ptr(uint(1))}}
		}), "errno"},
		{"rule without names", profile(func(p *specs.LinuxSeccomp) {
			p.Syscalls = []specs.LinuxSyscall{{Action: specs.ActErrno}}
		}), "names"},
		{"metadata without a listener", profile(func(p *specs.LinuxSeccomp) { p.ListenerMetadata = "x" }),
			"listenerPath"},
		{"other file at a device's path", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/etc/passwd", Type: "c", Major: 1, Minor: 3}}
		}, "/etc/passwd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBundle(t, "true", c.edit)
			b.fails([]string{"create", b.id}, c.want)
			b.fails([]string{"state", b.id}, "does not exist")
		})
	}
}

// An unknown property is no error.
func TestConformance_UnknownProperty(t *testing.T) {
	b := newBundle(t, "echo runs")
	var config map[string]any
	if err := json.Unmarshal([]byte(b.file("config.json")), &config); err != nil {
		t.Fatal(err)
	}
	config["tomorrow"], config["process"].(map[string]any)["tomorrow"] = 1, []string{"x"}
	data, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(b.dir+"/config.json", data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := b.run(); r.out != "runs\n" {
		t.Error(r)
	}
}

// What features names is recognised.
func TestConformance_Features(t *testing.T) {
	b := newBundle(t, "true")
	var f features.Features
	text := b.must("features")
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{f.OCIVersionMin, f.OCIVersionMax} {
		if r := newBundle(t, "true", func(s *specs.Spec) { s.Version = version }).run(); r.status != 0 {
			t.Errorf("version %s: %v", version, r)
		}
	}
	// All that must be there: config.md, "Linux mount options".
	must := strings.Fields("async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev " +
		"nodiratime noexec noiversion nolazytime norelatime nostrictatime nosuid private rbind relatime remount ro " +
		"rprivate rshared rslave runbindable rw shared silent slave strictatime suid sync unbindable")
	for _, option := range must {
		if !slices.Contains(f.MountOptions, option) {
			t.Errorf("mount option %s is missing", option)
		}
	}
	// mand is of kernels before 5.15; iversion is no option of a tmpfs.
	with := newBundle(t, "true")
	for i, option := range f.MountOptions {
		m := specs.Mount{Destination: fmt.Sprintf("/mnt/o%d", i), Type: "tmpfs", Source: "tmpfs",
			Options: []string{option}}
		switch option {
		case "bind", "rbind":
			m.Source, m.Type = "/tmp", "bind"
		case "idmap", "ridmap":
			m.Source, m.Type, m.Options = mappable(t), "bind", []string{"rbind", option}
			m.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
			m.GIDMappings = m.UIDMappings
		case "remount":
			m.Destination = "/dev/shm"
		case "iversion":
			m.Source, m.Type, m.Options = "/tmp", "bind", []string{"bind", option}
		}
		with.spec.Mounts = append(with.spec.Mounts, m)
	}
	with.write()
	if r := with.run(); r.status != 0 {
		t.Error(r)
	}
	for kind, known := range map[string][]string{
		"namespaces": f.Linux.Namespaces, "actions": f.Linux.Seccomp.Actions, "operators": f.Linux.Seccomp.Operators,
		"archs": f.Linux.Seccomp.Archs, "capabilities": f.Linux.Capabilities, "hooks": f.Hooks,
	} {
		if len(known) == 0 {
			t.Errorf("features: no %s", kind)
		}
	}
	for _, name := range f.Linux.Namespaces {
		if r := newBundle(t, "true", mapped, namespace(specs.LinuxNamespaceType(name), "")).run(); r.status != 0 {
			if name == "user" { // this one without its maps
				continue
			}
			t.Errorf("namespace %s: %v", name, r)
		}
	}
	profile := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for _, arch := range f.Linux.Seccomp.Archs {
		profile.Architectures = append(profile.Architectures, specs.Arch(arch))
	}
	for _, flag := range f.Linux.Seccomp.SupportedFlags {
		profile.Flags = append(profile.Flags, specs.LinuxSeccompFlag(flag))
	}
	for _, action := range f.Linux.Seccomp.Actions {
		for _, operator := range f.Linux.Seccomp.Operators {
			profile.Syscalls = append(profile.Syscalls, specs.LinuxSyscall{
				Names: []string{"reboot"}, Action: specs.LinuxSeccompAction(action),
				Args: []specs.LinuxSeccompArg{{Op: specs.LinuxSeccompOperator(operator)}},
			})
		}
	}
	if r := newBundle(t, "true", func(s *specs.Spec) { s.Linux.Seccomp = profile }).run(); r.status != 0 {
		t.Errorf("seccomp: %v", r)
	}
	if len(f.Linux.MemoryPolicy.Modes) != 7 || len(f.Linux.MemoryPolicy.Flags) != 3 || !*f.Linux.NetDevices.Enabled {
		t.Errorf("memory policies, or network devices: %s", text)
	}
	for _, mode := range f.Linux.MemoryPolicy.Modes {
		for _, flag := range f.Linux.MemoryPolicy.Flags {
			r := newBundle(t, "true", func(s *specs.Spec) {
				s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MemoryPolicyModeType(mode),
					Flags: []specs.MemoryPolicyFlagType{specs.MemoryPolicyFlagType(flag)}}
			}).run()
			if strings.Contains(r.err, "invalid memory policy") { // the kernel may refuse it
				t.Errorf("memory policy %s, %s: %v", mode, flag, r)
			}
		}
	}
}

// A container in somebody else's mounts runs in its root there.
func TestConformance_JoinedMounts(t *testing.T) {
	holder := exec.Command("unshare", "--mount", "--propagation", "slave", "sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	path := fmt.Sprintf("/proc/%d/ns/mnt", holder.Process.Pid)
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a mount namespace", func() bool {
		theirs, err := os.Readlink(path)
		return err == nil && theirs != own
	})
	b := newBundle(t, "ls /bin/busybox", namespace(specs.MountNamespace, path), func(s *specs.Spec) {
		s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
	})
	if r := b.run(); r.out != "/bin/busybox\n" {
		t.Error(r)
	}
	_ = unix.Kill(holder.Process.Pid, unix.SIGKILL)
}
