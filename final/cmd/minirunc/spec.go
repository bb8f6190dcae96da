//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"minidocker/final/cgroup"
	"minidocker/final/oci/initproc"
	"minidocker/final/oci/seccomp"
)

// printableFeatures: features.md of the specification.
func printableFeatures() *features.Features {
	yes, no := true, false
	modes, flags := initproc.MemoryPolicies()
	return &features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version,
		Hooks: []string{
			"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
		},
		MountOptions: initproc.MountOptions(),
		Linux: &features.Linux{
			Namespaces:   []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"},
			Capabilities: initproc.Capabilities(),
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &no, SystemdUser: &no, Rdma: &yes},
			Seccomp: &features.Seccomp{
				Enabled: &yes, Actions: seccomp.Actions, Operators: seccomp.Operators,
				Archs: seccomp.Architectures, KnownFlags: seccomp.Flags,
				SupportedFlags: seccomp.Flags[:3],
			},
			Apparmor: &features.Apparmor{Enabled: &yes}, Selinux: &features.Selinux{Enabled: &yes},
			IntelRdt: &features.IntelRdt{Enabled: &no}, NetDevices: &features.NetDevices{Enabled: &yes},
			MemoryPolicy:    &features.MemoryPolicy{Modes: modes, Flags: flags},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
		},
	}
}

func printFeatures(_ *global, args []string) (int, error) {
	if _, err := newFlags("features", "").parse(args, false); err != nil {
		return 1, err
	}
	return 0, printJSON(printableFeatures())
}

// writeSpec writes what most containers are like.
func writeSpec(_ *global, args []string) (int, error) {
	bundle, rootless := ".", false
	f := newFlags("spec", "")
	f.text(&bundle, "bundle", "folder to write config.json to")
	f.text(&bundle, "b", "the same")
	f.flag(&rootless, "rootless", "for an ordinary user")
	if rest, err := f.parse(args, false); err != nil {
		return 1, err
	} else if len(rest) > 0 {
		return 1, errors.New("spec takes no arguments")
	}
	path := filepath.Join(bundle, "config.json")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return 1, err
	}
	data, err := json.MarshalIndent(exampleSpec(rootless), "", "\t")
	if err != nil {
		return 1, err
	}
	_, err = file.Write(append(data, '\n'))
	return 0, errors.Join(err, file.Close())
}

func exampleSpec(rootless bool) *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			Terminal: true, Args: []string{"sh"}, Cwd: "/", NoNewPrivileges: true,
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"},
			Capabilities: &specs.LinuxCapabilities{
				Bounding: caps, Effective: caps, Permitted: caps,
			},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
		},
		Hostname: "minirunc",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
				Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
				Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
				Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue",
				Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs",
				Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
				Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
			},
			ReadonlyPaths: []string{
				"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
			},
		},
	}
	// As engines have it: with version 1 a container sees where its groups are.
	if g, err := cgroup.Open("/"); err == nil && g.Unified() {
		s.Linux.Namespaces = append(s.Linux.Namespaces,
			specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if rootless {
		makeRootless(s)
	}
	return s
}

func makeRootless(s *specs.Spec) {
	l := s.Linux
	l.Resources = nil
	var kept []specs.LinuxNamespace
	for _, ns := range l.Namespaces {
		if ns.Type != specs.NetworkNamespace {
			kept = append(kept, ns)
		}
	}
	l.Namespaces = append(kept, specs.LinuxNamespace{Type: specs.UserNamespace})
	l.UIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}}
	l.GIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}}
	var mounts []specs.Mount
	for _, m := range s.Mounts {
		switch m.Destination {
		case "/sys/fs/cgroup":
			continue
		case "/sys": // a sysfs takes a network namespace of its own
			m = specs.Mount{Destination: "/sys", Type: "none", Source: "/sys",
				Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
		case "/dev/pts":
			m.Options = m.Options[:len(m.Options)-1] // no group 5 in a map of one
		}
		mounts = append(mounts, m)
	}
	s.Mounts = mounts
}
