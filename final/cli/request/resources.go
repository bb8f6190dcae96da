package request

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

func resources(f Flags) (r container.Resources, err error) {
	r = container.Resources{
		CgroupParent: f.String("cgroup-parent"), CPUShares: f.Int64("cpu-shares"),
		DeviceCgroupRules: f.StringSlice("device-cgroup-rule"),
	}
	if err := limits(&r, f); err != nil {
		return r, err
	}
	swappiness := int64(-1)
	if f.IsSet("memory-swappiness") {
		swappiness = f.Int64("memory-swappiness")
	}
	if swappiness < -1 || swappiness > 100 {
		return r, fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", swappiness)
	}
	r.MemorySwappiness = &swappiness
	kill := f.Bool("oom-kill-disable")
	r.OomKillDisable = &kill
	pids := f.Int64("pids-limit")
	r.PidsLimit = &pids
	for _, rule := range r.DeviceCgroupRules {
		if !deviceRule(rule) {
			return r, invalid("device-cgroup-rule", rule,
				fmt.Errorf("invalid device cgroup format '%s'", rule))
		}
	}
	if r.Devices, err = devices(f.StringSlice("device")); err != nil {
		return r, err
	}
	if r.Ulimits, err = ulimits(f); err != nil {
		return r, err
	}
	return r, throttles(&r, f)
}

// limits are those that update can change as well.
func limits(r *container.Resources, f Flags) (err error) {
	r.CPUPeriod, r.CPUQuota = f.Int64("cpu-period"), f.Int64("cpu-quota")
	r.CPURealtimePeriod = f.Int64("cpu-rt-period")
	r.CPURealtimeRuntime = f.Int64("cpu-rt-runtime")
	r.CpusetCpus, r.CpusetMems = f.String("cpuset-cpus"), f.String("cpuset-mems")
	r.CPUShares = f.Int64("cpu-shares")
	weight := f.Int("blkio-weight")
	if weight < 0 || weight > 1000 || weight > 0 && weight < 10 {
		return invalid("blkio-weight", strconv.Itoa(weight),
			errors.New("want 10 to 1000, or 0 to disable"))
	}
	r.BlkioWeight = uint16(weight)
	if r.Memory, err = bytes(f, "memory"); err != nil {
		return err
	}
	if r.MemoryReservation, err = bytes(f, "memory-reservation"); err != nil {
		return err
	}
	if r.MemorySwap = -1; f.String("memory-swap") != "-1" {
		if r.MemorySwap, err = bytes(f, "memory-swap"); err != nil {
			return err
		}
	}
	if cpus := f.String("cpus"); cpus != "" {
		if r.NanoCPUs, err = nanoCPUs(cpus); err != nil {
			return invalid("cpus", cpus, err)
		}
	}
	return nil
}

// Update is the request of update.
func Update(f Flags) (u container.UpdateConfig, err error) {
	if err := limits(&u.Resources, f); err != nil {
		return u, err
	}
	if f.IsSet("pids-limit") {
		pids := f.Int64("pids-limit")
		u.PidsLimit = &pids
	}
	if f.IsSet("restart") {
		u.RestartPolicy, err = RestartPolicy(f.String("restart"))
	}
	return u, err
}

// nanoCPUs reads a decimal number of processors in billionths.
func nanoCPUs(s string) (int64, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > 9 {
		return 0, errors.New("value is too precise")
	}
	digits := whole + fraction + strings.Repeat("0", 9-len(fraction))
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || whole+fraction == "" || n < 0 {
		return 0, fmt.Errorf("failed to parse %s as a number of CPUs, such as 1.5", s)
	}
	return n, nil
}

// ulimits are sorted by name; the last of the same name holds.
func ulimits(f Flags) ([]*container.Ulimit, error) {
	all, err := each(f, "ulimit", units.ParseUlimit)
	if err != nil {
		return nil, err
	}
	byName := map[string]*container.Ulimit{}
	for _, u := range all {
		byName[u.Name] = u
	}
	all = slices.DeleteFunc(all, func(u *units.Ulimit) bool { return byName[u.Name] != u })
	slices.SortFunc(all, func(a, b *units.Ulimit) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// throttles are the limits of block devices, DEVICE:VALUE.
func throttles(r *container.Resources, f Flags) (err error) {
	r.BlkioWeightDevice, err = each(f, "blkio-weight-device", weightDevice)
	if err != nil {
		return err
	}
	for _, t := range []struct {
		flag  string
		to    *[]*blkiodev.ThrottleDevice
		parse func(string) (*blkiodev.ThrottleDevice, error)
	}{
		{"device-read-bps", &r.BlkioDeviceReadBps, bytesPerSecond},
		{"device-write-bps", &r.BlkioDeviceWriteBps, bytesPerSecond},
		{"device-read-iops", &r.BlkioDeviceReadIOps, callsPerSecond},
		{"device-write-iops", &r.BlkioDeviceWriteIOps, callsPerSecond},
	} {
		if *t.to, err = each(f, t.flag, t.parse); err != nil {
			return err
		}
	}
	return nil
}

// ofDevice cuts DEVICE:VALUE.
func ofDevice(s string) (device, value string, err error) {
	device, value, ok := strings.Cut(s, ":")
	if !ok || device == "" || strings.Contains(value, ":") {
		return "", "", fmt.Errorf("bad format: %s", s)
	}
	if !strings.HasPrefix(device, "/dev/") {
		return "", "", fmt.Errorf("bad format for device path: %s", s)
	}
	return device, value, nil
}

func weightDevice(s string) (*blkiodev.WeightDevice, error) {
	device, value, err := ofDevice(s)
	if err != nil {
		return nil, err
	}
	weight, err := strconv.ParseUint(value, 10, 16)
	if err != nil || weight > 0 && (weight < 10 || weight > 1000) {
		return nil, fmt.Errorf("invalid weight for device: %s", s)
	}
	return &blkiodev.WeightDevice{Path: device, Weight: uint16(weight)}, nil
}

func bytesPerSecond(s string) (*blkiodev.ThrottleDevice, error) {
	device, value, err := ofDevice(s)
	if err != nil {
		return nil, err
	}
	rate, err := units.RAMInBytes(value)
	if err != nil || rate < 0 {
		return nil, fmt.Errorf("invalid rate for device: %s. The correct format is "+
			"<device-path>:<number>[<unit>]. Number must be a positive integer. "+
			"Unit is optional and can be kb, mb, or gb", s)
	}
	return &blkiodev.ThrottleDevice{Path: device, Rate: uint64(rate)}, nil
}

func callsPerSecond(s string) (*blkiodev.ThrottleDevice, error) {
	device, value, err := ofDevice(s)
	if err != nil {
		return nil, err
	}
	rate, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("invalid rate for device: %s. The correct format is "+
			"<device-path>:<number>. Number must be a positive integer", s)
	}
	return &blkiodev.ThrottleDevice{Path: device, Rate: rate}, nil
}
