//go:build linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// resources are the container's limits, as the runtime wants them.
func (s *starting) resources() (*specs.LinuxResources, error) {
	return toResources(&s.HostConfig.Resources)
}

func toResources(r *container.Resources) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{Memory: memoryOf(r), CPU: cpuOf(r)}
	if r.PidsLimit != nil && *r.PidsLimit != 0 {
		limit := *r.PidsLimit
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	block := &specs.LinuxBlockIO{}
	if r.BlkioWeight > 0 {
		block.Weight = &r.BlkioWeight
	}
	for _, d := range r.BlkioWeightDevice {
		major, minor, err := blockDevice(d.Path)
		if err != nil {
			return nil, err
		}
		w := specs.LinuxWeightDevice{Weight: &d.Weight}
		w.Major, w.Minor = major, minor
		block.WeightDevice = append(block.WeightDevice, w)
	}
	for _, one := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &block.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &block.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &block.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &block.ThrottleWriteIOPSDevice},
	} {
		for _, d := range one.from {
			major, minor, err := blockDevice(d.Path)
			if err != nil {
				return nil, err
			}
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor = major, minor
			*one.to = append(*one.to, t)
		}
	}
	if block.Weight != nil || block.WeightDevice != nil || block.ThrottleReadBpsDevice != nil ||
		block.ThrottleWriteBpsDevice != nil || block.ThrottleReadIOPSDevice != nil ||
		block.ThrottleWriteIOPSDevice != nil {
		out.BlockIO = block
	}
	return out, nil
}

func memoryOf(r *container.Resources) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if r.Memory > 0 {
		m.Limit = &r.Memory
		swap := 2 * r.Memory // as Docker: as much swap as memory, together twice as much
		if r.MemorySwap != 0 {
			swap = r.MemorySwap
		}
		m.Swap = &swap
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		swappiness := uint64(*r.MemorySwappiness)
		m.Swappiness = &swappiness
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		m.DisableOOMKiller = r.OomKillDisable
	}
	if *m == (specs.LinuxMemory{}) {
		return nil
	}
	return m
}

func cpuOf(r *container.Resources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		c.Shares = &shares
	}
	period, quota := uint64(r.CPUPeriod), r.CPUQuota
	if r.NanoCPUs > 0 {
		period, quota = 100_000, r.NanoCPUs/10_000 // µs
	}
	if period > 0 {
		c.Period = &period
	}
	if quota != 0 { // -1: no limit
		c.Quota = &quota
	}
	if r.CPURealtimePeriod > 0 {
		p := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod = &p
	}
	if r.CPURealtimeRuntime > 0 {
		c.RealtimeRuntime = &r.CPURealtimeRuntime
	}
	if *c == (specs.LinuxCPU{}) {
		return nil
	}
	return c
}

func blockDevice(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, failed(Invalid, "device %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, failed(Invalid, "%s is no block device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// devices adds the devices that the user wants, and the rules for them.
func (s *starting) devices(spec *specs.Spec) error {
	r := spec.Linux.Resources
	if s.HostConfig.Privileged {
		r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return s.hostDevices(spec)
	}
	r.Devices = defaultDeviceRules()
	for _, rule := range s.HostConfig.DeviceCgroupRules {
		parsed, err := parseDeviceRule(rule)
		if err != nil {
			return err
		}
		r.Devices = append(r.Devices, parsed)
	}
	for _, d := range s.HostConfig.Devices {
		if err := addDevice(spec, d); err != nil {
			return err
		}
	}
	return nil
}

// defaultDeviceRules are Docker's: nodes of all kinds may be made, and the harmless ones used.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	allow := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		return d
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		allow("c", -1, -1, "m"), allow("b", -1, -1, "m"),
		allow("c", 1, 3, "rwm"), allow("c", 1, 5, "rwm"), allow("c", 1, 7, "rwm"),
		allow("c", 1, 8, "rwm"), allow("c", 1, 9, "rwm"),
		allow("c", 5, 0, "rwm"), allow("c", 5, 1, "rwm"), allow("c", 5, 2, "rwm"),
		allow("c", 136, -1, "rwm"),
	}
}

// parseDeviceRule is --device-cgroup-rule: "c 1:3 rwm", with * for any number.
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	d := specs.LinuxDeviceCgroup{Allow: true}
	wrong := failed(Invalid, "invalid device cgroup rule format: '%s'", text)
	f := strings.Fields(text)
	if len(f) != 3 || len(f[0]) != 1 || !strings.Contains("abc", f[0]) ||
		strings.Trim(f[2], "rwm") != "" {
		return d, wrong
	}
	d.Type, d.Access = f[0], f[2]
	major, minor, ok := strings.Cut(f[1], ":")
	if !ok {
		return d, wrong
	}
	for _, one := range []struct {
		text string
		to   **int64
	}{{major, &d.Major}, {minor, &d.Minor}} {
		if one.text == "*" {
			continue
		}
		var n int64
		if _, err := fmt.Sscanf(one.text, "%d", &n); err != nil {
			return d, wrong
		}
		*one.to = &n
	}
	return d, nil
}

// addDevice adds a device, or all in a folder.
func addDevice(spec *specs.Spec, d container.DeviceMapping) error {
	info, err := os.Stat(d.PathOnHost)
	if err != nil {
		return failed(Invalid, "error gathering device information while adding custom device %q: %w",
			d.PathOnHost, err)
	}
	if d.PathInContainer == "" {
		d.PathInContainer = d.PathOnHost
	}
	if d.CgroupPermissions == "" {
		d.CgroupPermissions = "rwm"
	}
	if !info.IsDir() {
		return addNode(spec, d.PathOnHost, d.PathInContainer, d.CgroupPermissions)
	}
	found := false
	err = filepath.WalkDir(d.PathOnHost, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.Type()&os.ModeDevice == 0 {
			return err
		}
		found = true
		rel, _ := filepath.Rel(d.PathOnHost, path)
		return addNode(spec, path, filepath.Join(d.PathInContainer, rel), d.CgroupPermissions)
	})
	if err == nil && !found {
		err = failed(Invalid, "error gathering device information while adding custom device %q: "+
			"no device nodes found", d.PathOnHost)
	}
	return err
}

// errNoDevice says that a path is of no device.
var errNoDevice = errors.New("not a device node")

func addNode(spec *specs.Spec, path, inside, access string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	var kind string
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return failed(Invalid, "error gathering device information while adding custom device %q: %w",
			path, errNoDevice)
	}
	major, minor := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	mode := os.FileMode(st.Mode & 0o777)
	spec.Linux.Devices = append(spec.Linux.Devices, specs.LinuxDevice{
		Path: inside, Type: kind, Major: major, Minor: minor, FileMode: &mode,
		UID: &st.Uid, GID: &st.Gid,
	})
	spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
		Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access,
	})
	return nil
}

// hostDevices adds all of the host's, for a container with all privileges; but no terminals, and
// none that the container has of its own.
func (s *starting) hostDevices(spec *specs.Spec) error {
	skip := map[string]bool{"/dev/pts": true, "/dev/shm": true, "/dev/fd": true, "/dev/mqueue": true,
		"/dev/console": true, "/dev/ptmx": true}
	own := map[string]bool{"/dev/null": true, "/dev/zero": true, "/dev/full": true, "/dev/tty": true,
		"/dev/random": true, "/dev/urandom": true}
	err := filepath.WalkDir("/dev", func(path string, e os.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case skip[path] && e.IsDir():
			return filepath.SkipDir
		case e.Type()&os.ModeDevice == 0 || skip[path] || own[path]:
			return nil
		}
		err = addNode(spec, path, path, "rwm")
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	spec.Linux.Resources.Devices = spec.Linux.Resources.Devices[:1]
	return err
}
