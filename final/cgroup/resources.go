//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// setting is a value for one of the group's files.
type setting struct{ file, value string }

// Set sets the limits of config.json's linux.resources: config-linux.md, "Control
// groups". A limit that is asked for and cannot be set is an error that names the file,
// the value and the reason.
func (g *Group) Set(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	for _, set := range []func(*specs.LinuxResources) error{
		g.setMemory, g.setCPU, g.setPids, g.setBlockIO, g.setHugepages, g.setNetwork, g.setRdma,
		g.setUnified,
	} {
		if err := set(r); err != nil {
			return err
		}
	}
	return nil
}

// write writes the settings of version 2 if the machine has the first's file, else those
// of version 1.
func (g *Group) write(name string, v2, v1 []setting) error {
	settings := v2
	if len(v2) == 0 || v2[0].file == "" || g.find(v2[0].file) == "" {
		settings = v1
	}
	for _, s := range settings {
		path := g.find(s.file)
		if path == "" {
			return fmt.Errorf("%s: no control group has a file %s: is the controller on?", name, s.file)
		}
		if err := rawfd.SetFile(path, s.value); err != nil {
			return fmt.Errorf("%s: write %q: %w", name, s.value, err)
		}
	}
	return nil
}

func (g *Group) setMemory(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	if m.Limit != nil || m.Swap != nil {
		if err := g.setMemoryLimits(m); err != nil {
			return err
		}
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		err := g.write("memory.reservation",
			[]setting{{"memory.low", number(*m.Reservation)}},
			[]setting{{"memory.soft_limit_in_bytes", strconv.FormatInt(*m.Reservation, 10)}})
		if err != nil {
			return err
		}
	}
	if m.Swappiness != nil {
		if err := g.write("memory.swappiness", nil,
			[]setting{{"memory.swappiness", strconv.FormatUint(*m.Swappiness, 10)}}); err != nil &&
			!g.Unified() { // version 2 has no such thing
			return err
		}
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller && !g.Unified() {
		if err := g.write("memory.disableOOMKiller", nil,
			[]setting{{"memory.oom_control", "1"}}); err != nil {
			return err
		}
	}
	// kernel and kernelTCP limits are deprecated, and ignored by the kernel or missing.
	return nil
}

// setMemoryLimits sets limit and swap, which the specification counts together, as
// version 1 does; version 2 counts swap alone.
func (g *Group) setMemoryLimits(m *specs.LinuxMemory) error {
	if m.Limit != nil && *m.Limit == -1 && (m.Swap == nil || *m.Swap == 0) {
		// No limit on memory, and one on memory and swap, is what version 1 does not take.
		without := *m
		without.Swap, m = m.Limit, &without
	}
	if path := g.find("memory.max"); path != "" {
		if m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate && m.Limit != nil && *m.Limit > 0 {
			if now, err := g.number("memory.current"); err == nil && now > uint64(*m.Limit) {
				return fmt.Errorf("memory.limit: %d bytes are in use, more than %d", now, *m.Limit)
			}
		}
		var settings []setting
		if m.Swap != nil {
			swap := *m.Swap
			if swap > 0 {
				if m.Limit == nil || *m.Limit <= 0 {
					return errors.New("memory.swap: a limit on memory and swap needs one on memory")
				}
				if swap < *m.Limit {
					return fmt.Errorf("memory.swap: %d for memory and swap is less than %d for memory",
						swap, *m.Limit)
				}
				swap -= *m.Limit
			}
			if swap != 0 || m.Limit != nil && *m.Swap == *m.Limit {
				settings = append(settings, setting{"memory.swap.max", number(swap)})
			}
		}
		if m.Limit != nil && *m.Limit != 0 {
			settings = append(settings, setting{"memory.max", number(*m.Limit)})
		}
		if len(settings) > 0 && settings[0].file == "memory.swap.max" && g.find("memory.swap.max") == "" {
			settings = settings[1:] // a kernel without swap accounting has nothing to limit
		}
		return g.write("memory.limit", settings, settings)
	}
	var settings []setting
	if m.Limit != nil && *m.Limit != 0 {
		settings = append(settings, setting{"memory.limit_in_bytes", strconv.FormatInt(*m.Limit, 10)})
	}
	if m.Swap != nil && *m.Swap != 0 && g.find("memory.memsw.limit_in_bytes") != "" {
		swap := setting{"memory.memsw.limit_in_bytes", strconv.FormatInt(*m.Swap, 10)}
		// Memory is never more than memory and swap: the one that grows goes first.
		now, _ := g.number("memory.memsw.limit_in_bytes")
		if *m.Swap < 0 || uint64(*m.Swap) > now {
			settings = slices.Insert(settings, 0, swap)
		} else {
			settings = append(settings, swap)
		}
	}
	return g.write("memory.limit", nil, settings)
}

// number is a limit as version 2 wants it: negative means none.
func number(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func (g *Group) setCPU(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	if c.Shares != nil && *c.Shares != 0 {
		if err := g.write("cpu.shares",
			[]setting{{"cpu.weight", strconv.FormatUint(Weight(*c.Shares), 10)}},
			[]setting{{"cpu.shares", strconv.FormatUint(*c.Shares, 10)}}); err != nil {
			return err
		}
	}
	if c.Quota != nil || c.Period != nil {
		if err := g.setQuota(c); err != nil {
			return err
		}
	}
	if err := g.setRealtime(c); err != nil {
		return err
	}
	for _, s := range []struct {
		name   string
		v2, v1 setting
		set    bool
	}{
		{"cpu.burst", setting{"cpu.max.burst", str(c.Burst)},
			setting{"cpu.cfs_burst_us", str(c.Burst)}, c.Burst != nil},
		{"cpu.idle", setting{"cpu.idle", str(c.Idle)}, setting{"cpu.idle", str(c.Idle)}, c.Idle != nil},
		{"cpu.cpus", setting{"cpuset.cpus", c.Cpus}, setting{"cpuset.cpus", c.Cpus}, c.Cpus != ""},
		{"cpu.mems", setting{"cpuset.mems", c.Mems}, setting{"cpuset.mems", c.Mems}, c.Mems != ""},
	} {
		if !s.set {
			continue
		}
		if err := g.write(s.name, []setting{s.v2}, []setting{s.v1}); err != nil {
			return err
		}
	}
	return nil
}

func str[T int64 | uint64](n *T) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

// setQuota sets the quota of a period; what is not given stays as it is.
func (g *Group) setQuota(c *specs.LinuxCPU) error {
	if path := g.find("cpu.max"); path != "" {
		now, err := rawfd.ReadFile(path)
		if err != nil {
			return err
		}
		f := strings.Fields(string(now)) // QUOTA|max PERIOD
		if len(f) != 2 {
			return fmt.Errorf("%s: %q", path, now)
		}
		if c.Quota != nil && *c.Quota != 0 {
			f[0] = number(*c.Quota)
		}
		if c.Period != nil && *c.Period != 0 {
			f[1] = strconv.FormatUint(*c.Period, 10)
		}
		return g.write("cpu.quota", []setting{{"cpu.max", f[0] + " " + f[1]}}, nil)
	}
	var settings []setting
	if c.Period != nil && *c.Period != 0 {
		settings = append(settings, setting{"cpu.cfs_period_us", strconv.FormatUint(*c.Period, 10)})
	}
	if c.Quota != nil && *c.Quota != 0 {
		settings = append(settings, setting{"cpu.cfs_quota_us", strconv.FormatInt(*c.Quota, 10)})
	}
	return g.writePair("cpu.quota", settings)
}

// setRealtime sets what tasks with a real-time policy may use, which only version 1 knows.
func (g *Group) setRealtime(c *specs.LinuxCPU) error {
	var settings []setting
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		settings = append(settings, setting{"cpu.rt_period_us", str(c.RealtimePeriod)})
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		settings = append(settings, setting{"cpu.rt_runtime_us", str(c.RealtimeRuntime)})
	}
	return g.writePair("cpu.realtime", settings)
}

// writePair writes a period and what may be used of it, of which the kernel checks each alone.
func (g *Group) writePair(name string, settings []setting) error {
	err := g.write(name, nil, settings)
	if errors.Is(err, unix.EINVAL) && len(settings) == 2 {
		// The new period does not fit the old quota: the other way round, then.
		slices.Reverse(settings)
		err = g.write(name, nil, settings)
	}
	return err
}

// Weight turns version 1's shares, 2 to 262,144 with 1,024 as default, into version 2's
// weight, 1 to 10,000 with 100 as default. The curve goes through all three points, as
// runc's and crun's have since 2025.
func Weight(shares uint64) uint64 {
	if shares == 0 {
		return 0
	}
	x := math.Log2(float64(min(max(shares, 2), 262144)))
	// The parabola, in logarithms, through the three points.
	exponent := (x*x+125*x)/612 - 7.0/34
	return uint64(math.Ceil(math.Pow(10, exponent)))
}

func (g *Group) setPids(r *specs.LinuxResources) error {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil
	}
	limit := *r.Pids.Limit
	value := "max"
	if limit >= 0 {
		// With 0 nothing could be born in it; the first process makes no difference to the rest.
		value = strconv.FormatInt(max(limit, 1), 10)
	}
	return g.write("pids.limit", nil, []setting{{"pids.max", value}})
}

func (g *Group) setBlockIO(r *specs.LinuxResources) error {
	b := r.BlockIO
	if b == nil {
		return nil
	}
	if b.Weight != nil && *b.Weight != 0 {
		file := "blkio.bfq.weight"
		if g.find(file) == "" {
			file = "blkio.weight"
		}
		v2 := setting{"io.bfq.weight", strconv.Itoa(int(*b.Weight))}
		if g.find("io.bfq.weight") == "" {
			// 10 to 1,000 becomes 1 to 10,000.
			v2 = setting{"io.weight", strconv.Itoa(1 + (int(*b.Weight)-10)*9999/990)}
		}
		if err := g.write("blockIO.weight", []setting{v2},
			[]setting{{file, strconv.Itoa(int(*b.Weight))}}); err != nil {
			return err
		}
	}
	for _, w := range b.WeightDevice {
		if w.Weight == nil {
			continue
		}
		value := fmt.Sprintf("%d:%d %d", w.Major, w.Minor, *w.Weight)
		if err := g.write("blockIO.weightDevice", []setting{{"io.bfq.weight", value}},
			[]setting{{"blkio.bfq.weight_device", value}}); err != nil {
			return err
		}
	}
	for _, t := range []struct {
		name, v2, v1 string
		devices      []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "rbps", "read_bps", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "wbps", "write_bps", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "riops", "read_iops", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "wiops", "write_iops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			device := fmt.Sprintf("%d:%d ", d.Major, d.Minor)
			rate := strconv.FormatUint(d.Rate, 10)
			v2rate := rate
			if d.Rate == 0 {
				v2rate = "max"
			}
			if err := g.write("blockIO."+t.name,
				[]setting{{"io.max", device + t.v2 + "=" + v2rate}},
				[]setting{{"blkio.throttle." + t.v1 + "_device", device + rate}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Group) setHugepages(r *specs.LinuxResources) error {
	for _, h := range r.HugepageLimits {
		limit := strconv.FormatUint(h.Limit, 10)
		if err := g.write("hugepageLimits",
			[]setting{{"hugetlb." + h.Pagesize + ".max", limit}},
			[]setting{{"hugetlb." + h.Pagesize + ".limit_in_bytes", limit}}); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) setNetwork(r *specs.LinuxResources) error {
	if r.Network == nil {
		return nil
	}
	if r.Network.ClassID != nil && *r.Network.ClassID != 0 {
		if err := g.write("network.classID", nil, []setting{
			{"net_cls.classid", strconv.FormatUint(uint64(*r.Network.ClassID), 10)}}); err != nil {
			return err
		}
	}
	for _, p := range r.Network.Priorities {
		if err := g.write("network.priorities", nil, []setting{
			{"net_prio.ifpriomap", fmt.Sprintf("%s %d", p.Name, p.Priority)}}); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) setRdma(r *specs.LinuxResources) error {
	for _, device := range slices.Sorted(maps.Keys(r.Rdma)) {
		value := device
		if n := r.Rdma[device].HcaHandles; n != nil {
			value += fmt.Sprintf(" hca_handle=%d", *n)
		}
		if n := r.Rdma[device].HcaObjects; n != nil {
			value += fmt.Sprintf(" hca_object=%d", *n)
		}
		if err := g.write("rdma", nil, []setting{{"rdma.max", value}}); err != nil {
			return err
		}
	}
	return nil
}

// setUnified writes files of version 2 by their names.
func (g *Group) setUnified(r *specs.LinuxResources) error {
	if len(r.Unified) == 0 {
		return nil
	}
	dir := g.v2()
	if dir == "" {
		return errors.New("unified: this machine has no cgroup version 2")
	}
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		if strings.Contains(file, "/") || !strings.Contains(file, ".") {
			return fmt.Errorf("unified: %q is no name of a file of a control group", file)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(r.Unified[file]), "\n") {
			f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0) // never made
			if err == nil {
				_, err = f.WriteString(line)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				return fmt.Errorf("unified: %s=%q: %w", file, line, err)
			}
		}
	}
	return nil
}

// number reads a file with one number.
func (g *Group) number(file string) (uint64, error) {
	data, err := rawfd.ReadFile(g.find(file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}
