//go:build linux

package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"minidocker/final/cgroup"
	"minidocker/final/rootless"
)

// What a container has unless it is told otherwise: as Docker's.
var (
	capabilities = []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
		"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
		"CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	}
)

// specification is a container's config.json.
func (s *starting) specification() (*specs.Spec, error) {
	r, host := s.record, s.HostConfig
	spec := &specs.Spec{
		Version: specs.Version, Hostname: r.Config.Hostname, Domainname: r.Config.Domainname,
		Root:        &specs.Root{Path: s.rootDir(), Readonly: host.ReadonlyRootfs},
		Annotations: host.Annotations,
		Linux: &specs.Linux{
			CgroupsPath: s.cgroupsPath(), Sysctl: s.sysctls(),
			MaskedPaths: host.MaskedPaths, ReadonlyPaths: host.ReadonlyPaths,
		},
	}
	if host.UTSMode.IsHost() {
		spec.Hostname, spec.Domainname = "", ""
	}
	var err error
	if spec.Linux.Namespaces, err = s.namespaces(); err != nil {
		return nil, err
	}
	if spec.Process, err = s.process(); err != nil {
		return nil, err
	}
	if spec.Mounts, spec.Linux.RootfsPropagation, err = s.mounts(); err != nil {
		return nil, err
	}
	if spec.Linux.Resources, err = s.resources(); err != nil {
		return nil, err
	}
	if err := s.devices(spec); err != nil {
		return nil, err
	}
	return spec, s.security(spec)
}

// cgroupsPath is where the container's control group is.
func (s *starting) cgroupsPath() string {
	parent := s.HostConfig.CgroupParent
	if parent == "" {
		parent = cgroup.Parent
	}
	return filepath.Join("/", parent, s.ID)
}

// sysctls are the user's, and what containers have always had: ping without rights, low ports.
func (s *starting) sysctls() map[string]string {
	all := map[string]string{}
	if mode := s.HostConfig.NetworkMode; !mode.IsHost() && !mode.IsContainer() {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
		all["net.ipv4.ping_group_range"] = "0 2147483647"
		if rootless.Dir() != "" { // of the groups that there are
			all["net.ipv4.ping_group_range"] = "0 65535"
		}
	}
	for name, value := range s.HostConfig.Sysctls {
		all[name] = value
	}
	return all
}

// namespaces are new ones, but those that are the host's or another container's.
func (s *starting) namespaces() ([]specs.LinuxNamespace, error) {
	host := s.HostConfig
	all := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(kind specs.LinuxNamespaceType, isHost bool, other, file string) error {
		switch {
		case isHost:
		case other != "":
			pid, err := s.pidOf(strings.ToUpper(file), other)
			if err != nil {
				return err
			}
			all = append(all, specs.LinuxNamespace{
				Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, file)})
		default:
			all = append(all, specs.LinuxNamespace{Type: kind})
		}
		return nil
	}
	for _, err := range []error{
		add(specs.PIDNamespace, host.PidMode.IsHost(), host.PidMode.Container(), "pid"),
		add(specs.IPCNamespace, host.IpcMode.IsHost(), host.IpcMode.Container(), "ipc"),
		add(specs.NetworkNamespace, host.NetworkMode.IsHost(),
			host.NetworkMode.ConnectedContainer(), "net"),
		add(specs.UTSNamespace, host.UTSMode.IsHost(), "", "uts"),
		add(specs.CgroupNamespace, host.CgroupnsMode.IsHost(), "", "cgroup"),
	} {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// pidOf is the first process of a running container, whose namespaces are to be shared.
func (s *starting) pidOf(kind, ref string) (int, error) {
	r, state, err := s.e.get(ref)
	if err != nil {
		return 0, err
	}
	if state.Status != "running" {
		return 0, failed(Conflict, "failed to join %s namespace: cannot join the namespace of a non "+
			"running container: container %s is not running", kind, r.ID)
	}
	return state.Pid, nil
}

// process is the container's first process.
func (s *starting) process() (*specs.Process, error) {
	config, host := s.Config, s.HostConfig
	p := &specs.Process{
		Terminal: config.Tty, Args: append([]string{s.Path}, s.Args...), Cwd: config.WorkingDir,
		NoNewPrivileges: s.secure.noNewPrivileges, ApparmorProfile: s.secure.apparmor,
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if init := host.Init; init != nil && *init {
		p.Args = append([]string{"/sbin/docker-init", "--"}, p.Args...)
	}
	p.Env = mergeEnv(linkEnv(s.Name, s.links), environment(config))
	if host.ConsoleSize[0] > 0 {
		p.ConsoleSize = &specs.Box{Height: host.ConsoleSize[0], Width: host.ConsoleSize[1]}
	}
	user, err := s.user(config.User, host.GroupAdd)
	if err != nil {
		return nil, err
	}
	p.User = *user
	if host.Umask != nil {
		p.User.Umask = host.Umask
	}
	if host.OomScoreAdj != 0 {
		p.OOMScoreAdj = &host.OomScoreAdj
	}
	for _, l := range host.Ulimits {
		hard, soft := uint64(l.Hard), uint64(l.Soft)
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(l.Name), Hard: hard, Soft: soft})
	}
	caps, err := capabilitiesOf(host)
	if err != nil {
		return nil, err
	}
	p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	if p.User.UID != 0 { // exec gives them back only to root
		p.Capabilities.Effective, p.Capabilities.Permitted = nil, nil
	}
	return p, nil
}

// environment is what the user and the image say, and what every process expects.
func environment(config *container.Config) []string {
	base := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if config.Hostname != "" {
		base = append(base, "HOSTNAME="+config.Hostname)
	}
	if config.Tty {
		base = append(base, "TERM=xterm")
	}
	return mergeEnv(base, config.Env)
}

// capabilitiesOf are the default ones, without those to drop, with those to add.
func capabilitiesOf(host *container.HostConfig) ([]string, error) {
	if host.Privileged {
		return allCapabilities(), nil
	}
	known := allCapabilities()
	normal := func(list []string) (names []string, all bool, err error) {
		for _, name := range list {
			name = strings.ToUpper(name)
			if name == "ALL" {
				all = true
				continue
			}
			name = "CAP_" + strings.TrimPrefix(name, "CAP_")
			if !slices.Contains(known, name) {
				return nil, false, failed(Invalid, "invalid capability: %s", quoted(name))
			}
			names = append(names, name)
		}
		return names, all, nil
	}
	add, addAll, err := normal(host.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := normal(host.CapDrop)
	if err != nil {
		return nil, err
	}
	caps := slices.Clone(capabilities)
	if dropAll {
		caps = nil
	}
	if addAll {
		caps = known
	}
	caps = slices.DeleteFunc(slices.Clone(caps),
		func(c string) bool { return slices.Contains(drop, c) })
	for _, c := range add {
		if !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// securityOptions are what --security-opt says.
type securityOptions struct {
	noNewPrivileges bool
	apparmor        string
	seccomp         string // a profile's text, "unconfined", or "": the default
	systempaths     bool   // unconfined
}

func parseSecurity(options []string) (securityOptions, error) {
	var o securityOptions
	for _, option := range options {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			name, value, ok = strings.Cut(option, ":")
		}
		switch {
		case name == "no-new-privileges" && (!ok || value == "true"):
			o.noNewPrivileges = true
		case name == "no-new-privileges" && value == "false":
		case name == "seccomp" && ok:
			o.seccomp = value
		case name == "apparmor" && ok:
			if value != "unconfined" {
				o.apparmor = value
			}
		case name == "label" && ok: // SELinux's: where there is none it says nothing
		case name == "systempaths" && value == "unconfined":
			o.systempaths = true
		default:
			return o, failed(Invalid, "invalid --security-opt: %s", quoted(option))
		}
	}
	return o, nil
}

// security sets the seccomp filter, and takes the masks away where they are not wanted.
func (s *starting) security(spec *specs.Spec) error {
	if s.HostConfig.Privileged || s.secure.systempaths {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	}
	var err error
	switch profile := s.secure.seccomp; {
	case s.HostConfig.Privileged && profile == "", profile == "unconfined":
		return nil
	case profile != "" && profile != "builtin":
		spec.Linux.Seccomp, err = seccomp.LoadProfile(profile, spec)
	default:
		spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec)
	}
	if err != nil {
		return failed(Invalid, "seccomp profile: %w", err)
	}
	return nil
}
