//go:build linux

// Package oci runs containers from OCI bundles: create, start, state, kill, delete, exec
// and their kin, as runtime.md of the OCI runtime specification has them. It is the
// runtime's side, outside of the container; package initproc is the side within.
//
// A container's state is a folder below the runtime's root with state.json, the link
// "process", config.json (a copy of the bundle's), the FIFO that start opens, and nothing
// else. Nothing of the runtime stays resident.
package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/oci/initproc"
	"minidocker/final/oci/quickjson"
	"minidocker/final/rawfd"
)

// loadSpec reads and checks config.json, or the text that is in its place.
func loadSpec(path string, data []byte) (*specs.Spec, []byte, error) {
	if data == nil {
		var err error
		if data, err = rawfd.ReadFile(path); err != nil {
			return nil, nil, fmt.Errorf("bundle: %w", err)
		}
	}
	spec := &specs.Spec{}
	if err := quickjson.Unmarshal(data, spec); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	if err := validate(spec); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	return spec, data, nil
}

// validate refuses what contradicts itself and what is not supported: a limit or a
// protection that is asked for is never left out in silence.
func validate(s *specs.Spec) error {
	if !validVersion(s.Version) {
		return fmt.Errorf("ociVersion %q: this runtime knows 1.0.0 to %s", s.Version, specs.Version)
	}
	if s.Root == nil || s.Root.Path == "" {
		return errors.New("root.path is missing")
	}
	initproc.Complete(s)
	if p := s.Process; p != nil {
		if err := validateProcess(p); err != nil {
			return err
		}
	}
	for i, m := range s.Mounts {
		if m.Destination == "" {
			return fmt.Errorf("mounts[%d]: no destination", i)
		}
		if (m.UIDMappings == nil) != (m.GIDMappings == nil) {
			return fmt.Errorf("mounts[%d]: uidMappings and gidMappings go together", i)
		}
	}
	if _, ok := s.Annotations[""]; ok {
		return errors.New("annotations: a key is empty")
	}
	if err := validateHooks(s.Hooks); err != nil {
		return err
	}
	return validateLinux(s)
}

// validVersion says whether it is 1.MINOR.PATCH, with or without a pre-release or a build:
// semver.org.
func validVersion(version string) bool {
	version, _, _ = strings.Cut(version, "+")
	version, _, _ = strings.Cut(version, "-")
	parts := strings.Split(version, ".")
	return len(parts) == 3 && parts[0] == "1" && !slices.ContainsFunc(parts, func(part string) bool {
		n, err := strconv.ParseUint(part, 10, 32)
		return err != nil || strconv.FormatUint(n, 10) != part
	})
}

func validateHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	for name, hooks := range map[string][]specs.Hook{
		//nolint:staticcheck // prestart is deprecated, and asked for all the same.
		"prestart": h.Prestart, "createRuntime": h.CreateRuntime,
		"createContainer": h.CreateContainer, "startContainer": h.StartContainer,
		"poststart": h.Poststart, "poststop": h.Poststop,
	} {
		for _, hook := range hooks {
			if !filepath.IsAbs(hook.Path) {
				return fmt.Errorf("hooks.%s: path %q is not absolute", name, hook.Path)
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return fmt.Errorf("hooks.%s: timeout %d is not above 0", name, *hook.Timeout)
			}
		}
	}
	return nil
}

func validateProcess(p *specs.Process) error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return errors.New("process.args is empty")
	}
	if !filepath.IsAbs(p.Cwd) {
		return fmt.Errorf("process.cwd %q is not absolute", p.Cwd)
	}
	seen := map[string]bool{}
	for _, l := range p.Rlimits {
		if seen[l.Type] {
			return fmt.Errorf("process.rlimits: %s is there twice", l.Type)
		}
		seen[l.Type] = true
	}
	return nil
}

func validateLinux(s *specs.Spec) error {
	l := s.Linux
	has := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range l.Namespaces {
		if _, ok := namespaceFlags[ns.Type]; !ok {
			return fmt.Errorf("linux.namespaces: type %q is unknown", ns.Type)
		}
		if has[ns.Type] {
			return fmt.Errorf("linux.namespaces: %s is there twice", ns.Type)
		}
		has[ns.Type] = true
		if ns.Path != "" && !filepath.IsAbs(ns.Path) {
			return fmt.Errorf("linux.namespaces: path %q is not absolute", ns.Path)
		}
	}
	if (len(l.UIDMappings) > 0 || len(l.GIDMappings) > 0) && !has[specs.UserNamespace] {
		return errors.New("linux.uidMappings need a user namespace")
	}
	if (s.Hostname != "" || s.Domainname != "") && !has[specs.UTSNamespace] {
		return errors.New("hostname and domainname need a uts namespace of the container's own")
	}
	if len(l.TimeOffsets) > 0 && !has[specs.TimeNamespace] {
		return errors.New("linux.timeOffsets need a time namespace")
	}
	if (len(l.MaskedPaths) > 0 || len(l.ReadonlyPaths) > 0) && !has[specs.MountNamespace] {
		return errors.New("linux.maskedPaths and readonlyPaths need a mount namespace")
	}
	for _, path := range slices.Concat(l.MaskedPaths, l.ReadonlyPaths) {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("linux.maskedPaths and readonlyPaths: %q is not absolute", path)
		}
	}
	if p := s.Process; p != nil && has[specs.UserNamespace] && len(l.UIDMappings) > 0 {
		if err := validateMapped(&p.User, l); err != nil {
			return err
		}
	}
	if l.MemoryPolicy != nil {
		if _, err := initproc.NewMemoryPolicy(l.MemoryPolicy); err != nil {
			return err
		}
	}
	if err := validateNetDevices(l, has[specs.NetworkNamespace]); err != nil {
		return err
	}
	for name, value := range l.Sysctl {
		if strings.ReplaceAll(name, "/", ".") == "kernel.domainname" && s.Domainname != "" &&
			s.Domainname != value {
			return fmt.Errorf("linux.sysctl: %q and domainname contradict each other", name)
		}
		if err := validateSysctl(name, has); err != nil {
			return err
		}
	}
	if l.RootfsPropagation != "" && !slices.Contains([]string{
		"shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable",
	}, l.RootfsPropagation) {
		return fmt.Errorf("linux.rootfsPropagation %q: want shared, slave, private or unbindable",
			l.RootfsPropagation)
	}
	switch {
	case l.IntelRdt != nil:
		return errors.New("linux.intelRdt is not supported")
	case l.MountLabel != "" && !selinuxEnabled():
		return fmt.Errorf("linux.mountLabel %q: this kernel has no SELinux", l.MountLabel)
	}
	return nil
}

// validateMapped refuses a user whom nobody outside is.
func validateMapped(u *specs.User, l *specs.Linux) error {
	in := func(id uint32, maps []specs.LinuxIDMapping) bool {
		return slices.ContainsFunc(maps, func(m specs.LinuxIDMapping) bool {
			return id >= m.ContainerID && id-m.ContainerID < m.Size
		})
	}
	if !in(u.UID, l.UIDMappings) {
		return fmt.Errorf("process.user: uid %d is not in linux.uidMappings", u.UID)
	}
	for _, gid := range append([]uint32{u.GID}, u.AdditionalGids...) {
		if !in(gid, l.GIDMappings) {
			return fmt.Errorf("process.user: gid %d is not in linux.gidMappings", gid)
		}
	}
	return nil
}

func selinuxEnabled() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// validateSysctl refuses a kernel parameter that would not be the container's but the
// machine's.
func validateSysctl(name string, has map[specs.LinuxNamespaceType]bool) error {
	dotted := name
	if strings.Contains(name, "/") {
		dotted = strings.ReplaceAll(name, "/", ".")
	}
	if strings.Contains(dotted, "..") || strings.HasPrefix(dotted, ".") {
		return fmt.Errorf("linux.sysctl: %q is no name", name)
	}
	switch {
	case strings.HasPrefix(dotted, "net."):
		if has[specs.NetworkNamespace] {
			return nil
		}
	case strings.HasPrefix(dotted, "fs.mqueue."), slices.Contains([]string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
		"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	}, dotted):
		if has[specs.IPCNamespace] {
			return nil
		}
	case dotted == "kernel.hostname":
		return fmt.Errorf("linux.sysctl: %q: that is what hostname is for", name)
	case dotted == "kernel.domainname":
		if has[specs.UTSNamespace] {
			return nil
		}
	case strings.HasPrefix(dotted, "user."):
		if has[specs.UserNamespace] {
			return nil
		}
	}
	return fmt.Errorf("linux.sysctl: %q is not of a namespace of the container's", name)
}

// namespaceFlags are those of clone(2), and the names in /proc/PID/ns.
var namespaceFlags = map[specs.LinuxNamespaceType]struct {
	flag uintptr
	file string
}{
	specs.UserNamespace:    {unix.CLONE_NEWUSER, "user"},
	specs.MountNamespace:   {unix.CLONE_NEWNS, "mnt"},
	specs.UTSNamespace:     {unix.CLONE_NEWUTS, "uts"},
	specs.IPCNamespace:     {unix.CLONE_NEWIPC, "ipc"},
	specs.NetworkNamespace: {unix.CLONE_NEWNET, "net"},
	specs.PIDNamespace:     {unix.CLONE_NEWPID, "pid"},
	specs.CgroupNamespace:  {unix.CLONE_NEWCGROUP, "cgroup"},
	specs.TimeNamespace:    {unix.CLONE_NEWTIME, "time"},
}
