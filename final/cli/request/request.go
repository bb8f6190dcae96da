// Package request turns the flags of run, create and their kin into the requests of the Docker
// API, as Docker's own command line does: what may be judged without the engine is judged here,
// in Docker's words. It asks nothing of the machine but the files that flags name.
package request

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// Flags are a command's flags by their long names; urfave/cli's Context has these methods.
// A flag that was not given is its type's zero value.
type Flags interface {
	String(name string) string
	StringSlice(name string) []string
	Bool(name string) bool
	Int(name string) int
	Int64(name string) int64
	Duration(name string) time.Duration
	IsSet(name string) bool
}

// Container is what is asked for with run or create.
type Container struct {
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
}

// Parse makes the request for a container of an image; args are its command.
func Parse(f Flags, image string, args []string) (*Container, error) {
	if err := refuse(f); err != nil {
		return nil, err
	}
	config, err := parseConfig(f)
	if err != nil {
		return nil, err
	}
	config.Image = image
	if len(args) > 0 {
		config.Cmd = args
	}
	host, err := parseHost(f)
	if err != nil {
		return nil, err
	}
	exposed, bindings, err := Ports(f.StringSlice("publish"), f.StringSlice("expose"))
	if err != nil {
		return nil, err
	}
	config.ExposedPorts, host.PortBindings = exposed, bindings
	if config.Volumes, host.Binds, err = volumes(f.StringSlice("volume")); err != nil {
		return nil, err
	}
	mode, endpoints, err := networks(f)
	if err != nil {
		return nil, err
	}
	host.NetworkMode = container.NetworkMode(mode)
	return &Container{
		Config: config, HostConfig: host,
		Networking: &network.NetworkingConfig{EndpointsConfig: endpoints},
	}, nil
}

// refuse names what else to do instead of the flags that there will not be.
func refuse(f Flags) error {
	if f.IsSet("link") {
		return errors.New("--link is not supported: connect both containers to a network of their " +
			"own (network create, run --network); there each finds the other by its name, and " +
			"--network-alias gives it more names")
	}
	if f.IsSet("gpus") {
		return errors.New("--gpus is not supported: pass the devices themselves, " +
			"as in --device /dev/dri")
	}
	return nil
}

// invalid says which flag's value is wrong, as Docker does.
func invalid(flag, value string, err error) error {
	return fmt.Errorf("invalid argument %q for \"--%s\" flag: %w", value, flag, err)
}

// each parses all values of a flag.
func each[T any](f Flags, flag string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for _, value := range f.StringSlice(flag) {
		v, err := parse(value)
		if err != nil {
			return nil, invalid(flag, value, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// bytes are a size such as 64m; 0 if it is not given.
func bytes(f Flags, flag string) (int64, error) {
	value := f.String(flag)
	if value == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(value)
	if err != nil {
		return 0, invalid(flag, value, err)
	}
	return n, nil
}

// Pairs are KEY=VALUE; without a value it is "".
func Pairs(values []string) map[string]string {
	if len(values) == 0 {
		return nil
	}
	m := make(map[string]string, len(values))
	for _, value := range values {
		key, v, _ := strings.Cut(value, "=")
		m[key] = v
	}
	return m
}

func parseConfig(f Flags) (*container.Config, error) {
	c := &container.Config{
		Hostname: f.String("hostname"), Domainname: f.String("domainname"),
		User: f.String("user"), WorkingDir: f.String("workdir"),
		Tty: f.Bool("tty"), OpenStdin: f.Bool("interactive"),
		StopSignal: f.String("stop-signal"),
	}
	if err := attach(c, f.StringSlice("attach")); err != nil {
		return nil, err
	}
	var err error
	if c.Env, err = Env(f.StringSlice("env-file"), f.StringSlice("env")); err != nil {
		return nil, err
	}
	if c.Labels, err = Labels(f.StringSlice("label-file"), f.StringSlice("label")); err != nil {
		return nil, err
	}
	if c.Healthcheck, err = health(f); err != nil {
		return nil, err
	}
	if f.IsSet("entrypoint") { // --entrypoint= takes the image's away
		c.Entrypoint = []string{f.String("entrypoint")}
	}
	if f.IsSet("stop-timeout") {
		seconds := f.Int("stop-timeout")
		c.StopTimeout = &seconds
	}
	return c, nil
}

// attach decides which streams are connected: both outputs if none is named, and the input
// with -i.
func attach(c *container.Config, streams []string) error {
	for _, s := range streams {
		switch strings.ToLower(s) {
		case "stdin":
			c.AttachStdin = true
		case "stdout":
			c.AttachStdout = true
		case "stderr":
			c.AttachStderr = true
		default:
			return invalid("attach", s, errors.New("valid streams are STDIN, STDOUT and STDERR"))
		}
	}
	if len(streams) == 0 {
		c.AttachStdout, c.AttachStderr = true, true
	}
	c.AttachStdin = c.AttachStdin || c.OpenStdin
	c.StdinOnce = c.OpenStdin && c.AttachStdin
	return nil
}

func parseHost(f Flags) (*container.HostConfig, error) {
	h := &container.HostConfig{
		ContainerIDFile: f.String("cidfile"), AutoRemove: f.Bool("rm"),
		Privileged: f.Bool("privileged"), ReadonlyRootfs: f.Bool("read-only"),
		PublishAllPorts: f.Bool("publish-all"), OomScoreAdj: f.Int("oom-score-adj"),
		VolumesFrom: f.StringSlice("volumes-from"), VolumeDriver: f.String("volume-driver"),
		CapAdd: f.StringSlice("cap-add"), CapDrop: f.StringSlice("cap-drop"),
		GroupAdd: f.StringSlice("group-add"), Runtime: f.String("runtime"),
		IpcMode:     container.IpcMode(f.String("ipc")),
		DNSOptions:  slices.Concat(f.StringSlice("dns-option"), f.StringSlice("dns-opt")),
		Annotations: Pairs(f.StringSlice("annotation")),
	}
	if f.IsSet("init") {
		on := f.Bool("init")
		h.Init = &on
	}
	for _, part := range []func(*container.HostConfig, Flags) error{
		modes, restart, names, mounts, logging, security, umask,
	} {
		if err := part(h, f); err != nil {
			return nil, err
		}
	}
	var err error
	if h.ShmSize, err = bytes(f, "shm-size"); err != nil {
		return nil, err
	}
	h.Resources, err = resources(f)
	return h, err
}

// modes are whose namespaces the container is in.
func modes(h *container.HostConfig, f Flags) error {
	h.PidMode = container.PidMode(f.String("pid"))
	h.UTSMode = container.UTSMode(f.String("uts"))
	h.UsernsMode = container.UsernsMode(f.String("userns"))
	h.CgroupnsMode = container.CgroupnsMode(f.String("cgroupns"))
	switch {
	case !h.PidMode.Valid():
		return errors.New("--pid: invalid PID mode")
	case !h.UTSMode.Valid():
		return errors.New("--uts: invalid UTS mode")
	case !h.UsernsMode.Valid():
		return errors.New("--userns: invalid USER mode")
	case !h.CgroupnsMode.Valid():
		return errors.New("--cgroupns: invalid CGROUP mode")
	}
	return nil
}

// names are what resolv.conf and hosts in the container say.
func names(h *container.HostConfig, f Flags) (err error) {
	h.DNS, err = each(f, "dns", func(s string) (netip.Addr, error) {
		addr, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return addr, fmt.Errorf("%s is not an ip address", s)
		}
		return addr, nil
	})
	if err != nil {
		return err
	}
	h.DNSSearch = f.StringSlice("dns-search")
	h.ExtraHosts, err = each(f, "add-host", extraHost)
	return err
}

// extraHost is NAME:IP, NAME=IP or NAME:host-gateway, an IPv6 address with brackets or without.
func extraHost(s string) (string, error) {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		name, ip, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" {
		return "", fmt.Errorf("bad format for add-host: %q", s)
	}
	if ip == "host-gateway" {
		return name + ":" + ip, nil
	}
	if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
		ip = ip[1 : len(ip)-1]
	}
	if _, err := netip.ParseAddr(ip); err != nil {
		return "", fmt.Errorf("invalid IP address in add-host: %q", ip)
	}
	return name + ":" + ip, nil
}
