//go:build linux

package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The known ways out of containers of runc, Docker and containerd, each tried. What the
// attacker runs in the container beyond a shell is this test's own binary.
const attackVar = "MINIRUNC_TEST_ATTACK"

// attack is what the binary does in a container, if it is asked to.
func attack() {
	switch os.Getenv(attackVar) {
	case "":
		return
	case "spy":
		spy()
	case "overwrite":
		overwrite()
	}
	os.Exit(0)
}

// others calls f with the folder in /proc of each other process of the container, again
// and again until /dev/shm/stop is there.
func others(f func(dir string)) {
	for {
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			if filepath.Base(dir) != fmt.Sprint(os.Getpid()) {
				f(dir)
			}
		}
		if _, err := os.Stat("/dev/shm/stop"); err == nil {
			return
		}
	}
}

// spy looks for descriptors of the host's in processes that come into the container.
func spy() {
	others(func(dir string) {
		links, _ := filepath.Glob(dir + "/fd/*")
		for _, link := range append(links, dir+"/cwd", dir+"/root") {
			target, err := os.Readlink(link)
			if err == nil && (strings.HasPrefix(target, "/run/") || strings.Contains(target, "state")) {
				fmt.Println("seen", link, target)
			}
		}
	})
	fmt.Println("end")
}

// overwrite tries to write to the file that a process of the runtime was started from.
func overwrite() {
	others(func(dir string) {
		f, err := os.Open(dir + "/exe")
		if err != nil {
			return
		}
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if !strings.Contains(name, "minirunc") {
			f.Close()
			return
		}
		fmt.Println("open", name)
		for range 200 { // until it does not run any more
			w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|os.O_TRUNC, 0)
			if err == nil {
				_, _ = w.WriteString("#!/bin/sh\necho escaped\n")
				w.Close()
				fmt.Println("written", name)
			}
			time.Sleep(time.Millisecond)
		}
		f.Close()
	})
	fmt.Println("end")
}

// attacker starts a container in which the test's binary runs.
func attacker(t *testing.T, what string) *bundle {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, "", func(s *specs.Spec) {
		s.Process.Args = []string{"/attack"}
		s.Process.Env = append(s.Process.Env, attackVar+"="+what)
		withMount(specs.Mount{Destination: "/attack", Type: "bind", Source: self, Options: []string{"bind", "ro"}})(s)
	})
	return b.up()
}

func (b *bundle) stopAttack() {
	b.t.Helper()
	b.call("exec", b.id, "touch", "/dev/shm/stop") // which ends with the container, or before
	defer func() {
		if b.t.Failed() {
			b.t.Log(b.output())
		}
	}()
	eventually(b.t, "the attack ends", func() bool { return strings.HasSuffix(b.output(), "end\n") })
}

func TestCVE_2016_9962_DescriptorsOfTheRuntime(t *testing.T) {
	b := attacker(t, "spy")
	path := fmt.Sprintf("/proc/%d/ns/pid", b.state().Pid)
	for range 30 {
		b.must("exec", b.id, "true")
		if r := newBundle(t, "true", namespace(specs.PIDNamespace, path)).run(); r.status != 0 {
			t.Fatal(r)
		}
	}
	b.stopAttack()
	if strings.Contains(b.output(), "seen") {
		t.Error(b.output())
	}
}

func TestCVE_2019_5736_OverwriteTheRuntime(t *testing.T) {
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	// A copy that may be written to: the original is on a read-only mount here.
	original := program
	program = filepath.Join(t.TempDir(), "minirunc")
	t.Cleanup(func() { program = original })
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	b := attacker(t, "overwrite")
	b.must("exec", b.id, "sh", "-c", "echo '#!/proc/self/exe' > /dev/shm/x; chmod +x /dev/shm/x")
	path := fmt.Sprintf("/proc/%d/ns/pid", b.state().Pid)
	for range 5 {
		// A command that is the runtime itself, by name or as the interpreter of a script; events
		// goes on for long enough to be seen.
		for _, name := range []string{"/proc/self/exe", "/dev/shm/x"} {
			b.call("exec", "--detach", b.id, name, "--root", "/dev/shm", "pause")
			b.call("exec", b.id, name, "list")
			b.call("exec", b.id, name, "--version")
		}
		r := newBundle(t, "", func(s *specs.Spec) {
			namespace(specs.PIDNamespace, path)(s)
			s.Process.Args = []string{"/proc/self/exe", "--version"}
		}).run()
		_ = r // it may fail or print the version
	}
	b.stopAttack()
	now, err := os.ReadFile(program)
	if err != nil || sha256.Sum256(now) != sha256.Sum256(data) || strings.Contains(b.output(), "written") {
		t.Errorf("the runtime has been written to: %s", b.output())
	}
}

// linkedProc is a root file system whose /proc leads elsewhere.
func linkedProc(t *testing.T, target string) *bundle {
	t.Helper()
	b := newBundle(t, "true")
	root := b.ownRootfs()
	if err := os.Remove(root + "/proc"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(root+"/fake/self/attr", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, root+"/proc"); err != nil {
		t.Fatal(err)
	}
	return b
}

// Labels and limits are written to /proc: an image that puts its own there would get
// around them.
func TestCVE_2019_19921_2023_27561_2023_28642_ProcIsALink(t *testing.T) {
	for _, target := range []string{"/fake", "fake", "../../../proc", "/"} {
		linkedProc(t, target).fails2("create", "without links")
	}
}

func (b *bundle) fails2(command string, words ...string) {
	b.t.Helper()
	b.fails([]string{command, b.id}, words...)
}

func TestCVE_2019_16884_ProcIsCovered(t *testing.T) {
	fake := t.TempDir()
	if err := os.MkdirAll(fake+"/self/attr", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fake+"/self/oom_score_adj", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, "exec sleep 1000", withMount(specs.Mount{Destination: "/proc", Type: "bind", Source: fake,
		Options: []string{"bind"}}), func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(321) }).up()
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", b.state().Pid))
	if err != nil || string(got) != "321\n" {
		t.Errorf("oom_score_adj: %q, %v", got, err)
	}
	if written, _ := os.ReadFile(fake + "/self/oom_score_adj"); len(written) > 0 {
		t.Errorf("the covering file got %q", written)
	}
}

func TestCVE_2025_52881_WritesAreRedirected(t *testing.T) {
	b := newBundle(t, "exec sleep 1000",
		withMount(specs.Mount{Destination: "/proc/sys", Type: "tmpfs", Source: "tmpfs"}),
		func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} }).up()
	if r := newBundle(t, "cat /proc/sys/net/ipv4/ip_forward", namespace(specs.NetworkNamespace,
		fmt.Sprintf("/proc/%d/ns/net", b.state().Pid))).run(); r.out != "1\n" {
		t.Errorf("the sysctl is not set: %v", r)
	}
}

// A folder of the container's that a mount goes to turns into a link to / and back.
func TestCVE_2021_30465_MountTargetIsSwapped(t *testing.T) {
	source := t.TempDir()
	b := newBundle(t, "[ -e /run/rootfs ] && echo escaped; ls /proc/self/fd | wc -l; cat /proc/mounts")
	root := b.ownRootfs()
	for _, dir := range []string{"/a", "/b"} {
		if err := os.MkdirAll(root+dir+"/x", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/", root+"/link"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		withMount(specs.Mount{Destination: "/a/x", Type: "bind", Source: source, Options: []string{"bind"}})(b.spec)
		withMount(specs.Mount{Destination: "/a/../a/y", Type: "tmpfs", Source: "tmpfs"})(b.spec)
	}
	b.write()
	before := mounts(t)
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, root+"/a", unix.AT_FDCWD, root+"/link", unix.RENAME_EXCHANGE)
		}
	}()
	for range rounds(40) {
		if r := b.run(); strings.Contains(r.out, "escaped") { // an error is as good as none
			t.Error(r)
		}
	}
	stop.Store(true)
	<-done
	if mounts(t) != before {
		t.Errorf("mounts of the host have changed: %s", mounts(t))
	}
	if _, err := os.Stat("/x"); err == nil {
		t.Error("/x has been made on the host")
	}
}

func TestCVE_2022_0492_ReleaseAgent(t *testing.T) {
	for name, edit := range map[string]func(*specs.Spec){"root": func(*specs.Spec) {}, "mapped": mapped} {
		b := newBundle(t, `for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release); do
				echo 1 > $f && echo escaped $f
			done
			unshare -Urm sh -c 'for c in memory cpu rdma misc pids devices; do
				mount -t cgroup -o $c none /mnt && echo 1 > /mnt/release_agent && echo escaped $c
			done'; echo end`, edit)
		if r := b.run(); r.out != "end\n" {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func TestCVE_2022_29162_InheritableCapabilities(t *testing.T) {
	b := newBundle(t, "grep CapInh /proc/self/status; exec sleep 1000").up()
	out := b.must("exec", "--cap", "NET_RAW", b.id, "grep", "CapInh", "/proc/self/status")
	eventually(t, "output", func() bool { return b.output() != "" })
	const none = "CapInh:\t0000000000000000\n"
	if out != none || b.output() != none {
		t.Errorf("inheritable: exec %q, the first process %q", out, b.output())
	}
}

func TestCVE_2024_21626_WorkingDirectoryOfTheHost(t *testing.T) {
	b := newBundle(t, "exec sleep 1000").up()
	for fd := range 20 {
		for _, path := range []string{"/proc/self/fd/%d", "/proc/self/fd/%d/..", "/proc/self/fd/%d/../../.."} {
			cwd := fmt.Sprintf(path, fd)
			const script = "for d in . .. ../.. ../../.. ../../../..; do [ -e $d/run/rootfs ] && echo escaped; done; true"
			r := newBundle(t, script, func(s *specs.Spec) { s.Process.Cwd = cwd }).run()
			if strings.Contains(r.out, "escaped") {
				t.Errorf("run in %s: %v", cwd, r)
			}
			if r := b.call("exec", "--cwd", cwd, b.id, "sh", "-c", script); strings.Contains(r.out, "escaped") {
				t.Errorf("exec in %s: %v", cwd, r)
			}
			if _, err := os.Stat(rootfs + "/run/rootfs"); err == nil {
				t.Fatalf("run in %s makes a path of the host's in the container", cwd)
			}
			program := cwd + "/run/rootfs/bin/busybox"
			if r := b.call("exec", b.id, program, "true"); r.status == 0 {
				t.Errorf("exec of %s: %v", program, r)
			}
		}
	}
}

func withoutDev(s *specs.Spec) {
	var kept []specs.Mount
	for _, m := range s.Mounts {
		if !strings.HasPrefix(m.Destination, "/dev") || m.Destination == "/dev/pts" {
			kept = append(kept, m)
		}
	}
	s.Mounts = kept
}

func TestCVE_2025_31133_NullIsALink(t *testing.T) {
	for _, target := range []string{"/proc/sysrq-trigger", "/etc/passwd", "zero"} {
		b := newBundle(t, "true", withoutDev)
		root := b.ownRootfs()
		if err := os.Symlink(target, root+"/dev/null"); err != nil {
			t.Fatal(err)
		}
		b.fails2("create", "/dev/null")
	}
	b := newBundle(t, "true", withoutDev)
	if err := os.WriteFile(b.ownRootfs()+"/dev/null", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	b.fails2("create", "/dev/null")
}

func TestCVE_2025_52565_ConsoleIsALink(t *testing.T) {
	b := newBundle(t, "true", withoutDev, func(s *specs.Spec) { s.Process.Terminal = true })
	root := b.ownRootfs()
	if err := os.Symlink("/proc/sys/kernel/core_pattern", root+"/dev/console"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", b.dir+"/console")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.fails([]string{"create", "--console-socket", "console", b.id}, "/dev/console")
}
