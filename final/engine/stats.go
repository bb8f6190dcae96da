//go:build linux

package engine

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"minidocker/final/oci"
)

// Stats is what a container uses at this moment; previous, if there is one, is the sample before.
// Of a container that does not run all is zero.
func (e *Engine) Stats(
	_ context.Context, ref string, previous *container.StatsResponse,
) (*container.StatsResponse, error) {
	r, state, err := e.get(ref)
	if err != nil {
		return nil, err
	}
	s := &container.StatsResponse{ID: r.ID, Name: "/" + r.Name, OSType: "linux", Read: time.Now()}
	if previous != nil {
		s.PreRead, s.PreCPUStats = previous.Read, previous.CPUStats
	}
	if state.Status != "running" {
		return s, nil
	}
	stats, err := e.runtime().Stats(r.ID)
	if errors.Is(err, oci.ErrNotExist) || err != nil && strings.Contains(err.Error(), "not running") {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.CPUStats = container.CPUStats{
		CPUUsage: container.CPUUsage{TotalUsage: stats.CPU.Usage.Total,
			UsageInKernelmode: stats.CPU.Usage.Kernel, UsageInUsermode: stats.CPU.Usage.User,
			PercpuUsage: stats.CPU.Usage.PerCPU},
		ThrottlingData: container.ThrottlingData{Periods: stats.CPU.Throttling.Periods,
			ThrottledPeriods: stats.CPU.Throttling.ThrottledPeriods,
			ThrottledTime:    stats.CPU.Throttling.ThrottledTime},
	}
	if s.CPUStats.SystemUsage, s.CPUStats.OnlineCPUs, err = systemCPU(); err != nil {
		return nil, err
	}
	s.MemoryStats = container.MemoryStats{Usage: stats.Memory.Usage.Usage,
		MaxUsage: stats.Memory.Usage.Max, Failcnt: stats.Memory.Usage.Failcnt,
		Limit: stats.Memory.Usage.Limit, Stats: stats.Memory.Raw}
	if total := memoryTotal(); s.MemoryStats.Limit > total || s.MemoryStats.Limit == 0 {
		s.MemoryStats.Limit = total
	}
	s.PidsStats = container.PidsStats{Current: stats.Pids.Current, Limit: stats.Pids.Limit}
	s.Networks = networkStats(state.Pid)
	return s, nil
}

// ticks is how many a second has in /proc/stat: sysconf(_SC_CLK_TCK), always 100.
const ticks = 100

// systemCPU is the time of all processors together, in nanoseconds, and how many there are.
func systemCPU() (uint64, uint32, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	var total uint64
	var online uint32
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 8 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			online++
			continue
		}
		for _, text := range f[1:8] { // user to softirq, of which guests are part
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return 0, 0, err
			}
			total += n
		}
	}
	return total * uint64(time.Second/ticks), online, nil
}

// memoryTotal is the machine's memory in bytes.
func memoryTotal() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) >= 2 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// networkStats reads /proc/PID/net/dev, which is of the process's network namespace.
func networkStats(pid int) map[string]container.NetworkStats {
	data, err := os.ReadFile("/proc/" + itoa(pid) + "/net/dev")
	if err != nil {
		return nil
	}
	all := map[string]container.NetworkStats{}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(rest)
		if !ok || len(f) < 16 || name == "lo" {
			continue
		}
		n := make([]uint64, 16)
		for i := range n {
			n[i], _ = strconv.ParseUint(f[i], 10, 64)
		}
		all[name] = container.NetworkStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return all
}
