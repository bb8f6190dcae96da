//go:build linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// defaultRuntime is the one that there is.
const defaultRuntime = "minirunc"

// minMemory is the least memory that a container may have, as Docker's.
const minMemory = 6 << 20

// validate refuses what contradicts itself, in Docker's words.
func (c *creation) validate() error {
	config, host := c.r.Config, c.r.HostConfig
	if err := container.ValidateRestartPolicy(host.RestartPolicy); err != nil {
		return &Error{Invalid, err}
	}
	if host.AutoRemove && !host.RestartPolicy.IsNone() {
		return failed(Invalid, "can't create 'AutoRemove' container with restart policy")
	}
	if config.WorkingDir != "" && !path.IsAbs(config.WorkingDir) {
		return failed(Invalid, "the working directory '%s' is invalid, it needs to be an absolute path",
			config.WorkingDir)
	}
	if config.WorkingDir != "" {
		config.WorkingDir = path.Clean(config.WorkingDir)
	}
	if config.StopSignal != "" {
		if _, err := parseSignal(config.StopSignal); err != nil {
			return err
		}
	}
	for _, kv := range config.Env {
		if strings.HasPrefix(kv, "=") || kv == "" {
			return failed(Invalid, "invalid environment variable: %s", kv)
		}
	}
	if host.ShmSize < 0 {
		return failed(Invalid, "SHM size can not be less than 0")
	}
	if err := c.checkLinks(); err != nil {
		return err
	}
	if host.Runtime != defaultRuntime {
		return failed(Invalid, "unknown or invalid runtime name: %s", host.Runtime)
	}
	if len(host.DeviceRequests) > 0 {
		return failed(Unavailable, `could not select device driver "" with capabilities: [[gpu]]`)
	}
	if _, empty := host.Annotations[""]; empty {
		return failed(Invalid, "invalid Annotations: the empty string is not permitted as an "+
			"annotation key")
	}
	if !host.Isolation.IsValid() {
		return failed(Invalid, "invalid isolation '%s' on linux", host.Isolation)
	}
	if n := host.OomScoreAdj; n < -1000 || n > 1000 {
		return failed(Invalid, "Invalid value %d, range for oom score adj is [-1000, 1000]", n)
	}
	if !host.UsernsMode.Valid() {
		return failed(Invalid, "invalid userns mode: %s", host.UsernsMode)
	}
	// What the start would find, too, but then there is a container already.
	_, wrongCapability := capabilitiesOf(host)
	_, wrongOption := parseSecurity(host.SecurityOpt)
	for _, other := range []string{host.PidMode.Container(), host.IpcMode.Container()} {
		if other == "" {
			continue
		}
		if _, err := c.e.find(other); err != nil {
			return missing(err)
		}
	}
	return errors.Join(validateLog(&host.LogConfig), c.validateModes(),
		validateResources(&host.Resources), validateHealth(config.Healthcheck),
		wrongCapability, wrongOption)
}

func (c *creation) validateModes() error {
	host := c.r.HostConfig
	switch {
	case !host.PidMode.Valid():
		return failed(Invalid, "invalid PID mode: %s", host.PidMode)
	case !host.IpcMode.Valid():
		return failed(Invalid, "invalid IPC mode: %s", host.IpcMode)
	case !host.UTSMode.Valid():
		return failed(Invalid, "invalid UTS mode: %s", host.UTSMode)
	case !host.CgroupnsMode.Valid():
		return failed(Invalid, "invalid cgroup namespace mode: %s", host.CgroupnsMode)
	case host.NetworkMode.IsContainer() && c.r.Config.Hostname != "":
		return failed(Invalid, "conflicting options: hostname and the network mode")
	case host.UTSMode.IsHost() && c.r.Config.Hostname != "":
		return failed(Invalid, "conflicting options: hostname and the UTS mode")
	case host.NetworkMode.IsContainer() && len(host.PortBindings) > 0:
		return failed(Invalid, "conflicting options: port publishing and the container type network mode")
	case host.NetworkMode.IsContainer() && len(host.ExtraHosts) > 0:
		return failed(Invalid, "conflicting options: custom host-to-IP mapping and the network mode")
	}
	return nil
}

func validateLog(l *container.LogConfig) error {
	if l.Type != "json-file" && l.Type != "local" && l.Type != "none" {
		return failed(Invalid, "logger: no log driver named '%s' is registered", l.Type)
	}
	for name, value := range l.Config {
		if l.Type == "none" {
			return failed(Invalid, "unknown log opt '%s' for none log driver", name)
		}
		var err error
		switch name {
		case "max-size":
			_, err = units.FromHumanSize(value)
		case "max-file":
			var n int
			if n, err = strconv.Atoi(value); err == nil && n < 1 {
				err = errors.New("it cannot be less than 1")
			}
		case "mode":
			if value != "blocking" && value != "non-blocking" {
				err = errors.New("want blocking or non-blocking")
			}
		case "labels", "labels-regex", "env", "env-regex", "tag", "compress", "max-buffer-size":
		default:
			return failed(Invalid, "unknown log opt '%s' for %s log driver", name, l.Type)
		}
		if err != nil {
			return failed(Invalid, "log opt %s=%s: %w", name, value, err)
		}
	}
	return nil
}

func validateResources(r *container.Resources) error {
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return failed(Invalid, "Minimum memory limit allowed is 6MB")
	case r.MemorySwap > 0 && r.Memory == 0:
		return failed(Invalid, "You should always set the Memory limit when using Memoryswap limit")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return failed(Invalid, "Minimum memoryswap limit should be larger than memory limit")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return failed(Invalid, "Minimum memory limit can not be less than memory reservation limit")
	case r.MemoryReservation != 0 && r.MemoryReservation < minMemory:
		return failed(Invalid, "Minimum memory reservation allowed is 6MB")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return failed(Invalid, "invalid value: %d, valid memory swappiness range is 0-100",
			*r.MemorySwappiness)
	case r.NanoCPUs < 0:
		return failed(Invalid, "range of CPUs is from 0.01 to %d, as there are only %d CPUs available",
			cpus(), cpus())
	case r.NanoCPUs > int64(cpus())*1e9:
		return failed(Invalid, "range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available",
			cpus(), cpus())
	case r.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0):
		return failed(Invalid, "conflicting options: Nano CPUs and CPU Period or Quota")
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return failed(Invalid, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return failed(Invalid, "CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPUShares < 0:
		return failed(Invalid, "invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000):
		return failed(Invalid, "range of blkio weight is from 10 to 1000")
	}
	return nil
}

func validateHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, one := range []struct {
		name string
		time time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod},
		{"StartInterval", h.StartInterval}} {
		if one.time != 0 && one.time < container.MinimumDuration {
			return failed(Invalid, "%s in Healthcheck cannot be less than %s", one.name,
				container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return failed(Invalid, "Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) == 0 || h.Test[0] == "NONE" {
		return nil
	}
	if !slices.Contains([]string{"CMD", "CMD-SHELL"}, h.Test[0]) || len(h.Test) < 2 {
		return failed(Invalid, "a health check is CMD or CMD-SHELL with a command, not %q", h.Test)
	}
	return nil
}

// cpus is how many there are to be had.
func cpus() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 1
	}
	return set.Count()
}

// layerSize is --storage-opt size=.
func layerSize(options map[string]string) (int64, error) {
	for name, value := range options {
		if name != "size" {
			return 0, failed(Invalid, "unknown storage option: %s", name)
		}
		n, err := units.RAMInBytes(value)
		if err != nil {
			return 0, failed(Invalid, "storage option size=%s: %w", value, err)
		}
		return n, nil
	}
	return 0, nil
}

// parseSignal is a signal by its number, or by its name with or without SIG.
func parseSignal(text string) (unix.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > 64 {
			return 0, failed(Invalid, "invalid signal: %s", text)
		}
		return unix.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if s := unix.SignalNum(name); s != 0 {
		return s, nil
	}
	// The real-time signals have no numbers of their own: signal(7).
	for prefix, base := range map[string]int{"SIGRTMIN": 34, "SIGRTMAX": 64} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			n, err := strconv.Atoi(rest)
			if rest == "" {
				n, err = 0, nil
			}
			if err == nil && base+n >= 34 && base+n <= 64 {
				return unix.Signal(base + n), nil
			}
		}
	}
	return 0, failed(Invalid, "invalid signal: %s", text)
}

// exists says whether a path is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }
