//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"minidocker/final/rawfd"
)

// Stats are what "events --stats" prints, in the form that callers of runc read.
type Stats struct {
	CPU struct {
		Usage struct {
			Total  uint64   `json:"total"` // nanoseconds
			Kernel uint64   `json:"kernel"`
			User   uint64   `json:"user"`
			PerCPU []uint64 `json:"percpu,omitempty"`
		} `json:"usage"`
		Throttling struct {
			Periods          uint64 `json:"periods"`
			ThrottledPeriods uint64 `json:"throttledPeriods"`
			ThrottledTime    uint64 `json:"throttledTime"` // nanoseconds
		} `json:"throttling"`
	} `json:"cpu"`
	Memory struct {
		Cache uint64            `json:"cache"`
		Usage MemoryEntry       `json:"usage"` // bytes
		Swap  MemoryEntry       `json:"swap"`
		Raw   map[string]uint64 `json:"raw"`
	} `json:"memory"`
	Pids struct {
		Current uint64 `json:"current"`
		Limit   uint64 `json:"limit"`
	} `json:"pids"`
}

// MemoryEntry is a use of memory, in bytes.
type MemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage"`
	Max     uint64 `json:"max"`
	Failcnt uint64 `json:"failcnt"`
}

// Stats reads what the group uses. What the machine does not count is 0.
func (g *Group) Stats() *Stats {
	s := &Stats{}
	cpu := g.pairs("cpu.stat")
	if g.find("cpuacct.usage") != "" {
		s.CPU.Usage.Total, _ = g.number("cpuacct.usage")
		ticks := g.pairs("cpuacct.stat") // of 10 ms
		s.CPU.Usage.User, s.CPU.Usage.Kernel = ticks["user"]*1e7, ticks["system"]*1e7
		s.CPU.Throttling.ThrottledTime = cpu["throttled_time"]
	} else {
		s.CPU.Usage.Total = cpu["usage_usec"] * 1000
		s.CPU.Usage.User, s.CPU.Usage.Kernel = cpu["user_usec"]*1000, cpu["system_usec"]*1000
		s.CPU.Throttling.ThrottledTime = cpu["throttled_usec"] * 1000
	}
	s.CPU.Throttling.Periods = cpu["nr_periods"]
	s.CPU.Throttling.ThrottledPeriods = cpu["nr_throttled"]
	s.Memory.Raw = g.pairs("memory.stat")
	if g.find("memory.usage_in_bytes") != "" {
		s.Memory.Cache = s.Memory.Raw["cache"]
		s.Memory.Usage = g.memoryV1("memory.")
		s.Memory.Swap = g.memoryV1("memory.memsw.")
	} else {
		s.Memory.Cache = s.Memory.Raw["file"]
		s.Memory.Usage.Usage, _ = g.number("memory.current")
		s.Memory.Usage.Limit = g.limit("memory.max")
		s.Memory.Usage.Max, _ = g.number("memory.peak")
		s.Memory.Swap.Usage, _ = g.number("memory.swap.current")
		s.Memory.Swap.Limit = g.limit("memory.swap.max")
	}
	s.Pids.Current, _ = g.number("pids.current")
	s.Pids.Limit, _ = g.number("pids.max") // 0 for none
	return s
}

func (g *Group) memoryV1(prefix string) MemoryEntry {
	var e MemoryEntry
	e.Usage, _ = g.number(prefix + "usage_in_bytes")
	e.Max, _ = g.number(prefix + "max_usage_in_bytes")
	e.Limit, _ = g.number(prefix + "limit_in_bytes")
	e.Failcnt, _ = g.number(prefix + "failcnt")
	return e
}

// limit is a file with a number or "max".
func (g *Group) limit(file string) uint64 {
	n, err := g.number(file)
	if err != nil {
		return ^uint64(0)
	}
	return n
}

// pairs reads a file of lines "name number".
func (g *Group) pairs(file string) map[string]uint64 {
	all := map[string]uint64{}
	data, err := rawfd.ReadFile(g.find(file))
	if err != nil {
		return all
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 2 {
			all[f[0]], _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	return all
}

// OOMKills is how many processes of the group the kernel has killed for want of memory.
func (g *Group) OOMKills() uint64 {
	if g.find("memory.events") != "" {
		return g.pairs("memory.events")["oom_kill"]
	}
	if dir := g.controller("memory"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "memory.oom_control")); err == nil {
			return g.pairs("memory.oom_control")["oom_kill"]
		}
	}
	return 0
}
