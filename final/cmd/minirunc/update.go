//go:build linux

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func update(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	var file string
	var changes []func(*specs.LinuxResources) error
	f := newFlags("update", "ID")
	f.text(&file, "resources", "file with linux.resources, - for standard input")
	f.text(&file, "r", "the same")
	for _, o := range updateOptions {
		f.each(o.name, o.usage, func(s string) error {
			n, err := parseNumber(s)
			if err != nil && o.set != nil {
				return err
			}
			changes = append(changes, func(r *specs.LinuxResources) error {
				if r.Memory == nil {
					r.Memory = &specs.LinuxMemory{}
				}
				if r.CPU == nil {
					r.CPU = &specs.LinuxCPU{}
				}
				if o.set == nil {
					o.text(r, s)
				} else {
					o.set(r, n)
				}
				return nil
			})
			return nil
		})
	}
	id, err := one(f, args)
	if err != nil {
		return 1, err
	}
	if file == "" && len(changes) == 0 {
		return 1, errors.New("update: nothing to change: see minirunc --help")
	}
	return 0, r.Update(id, func(resources *specs.LinuxResources) error {
		if file != "" {
			return readJSONFile(file, resources)
		}
		for _, change := range changes {
			if err := change(resources); err != nil {
				return err
			}
		}
		return nil
	})
}

// updateOptions are the limits by their names in runc's command line.
var updateOptions = []struct {
	name, usage string
	set         func(*specs.LinuxResources, int64)
	text        func(*specs.LinuxResources, string)
}{
	{"memory", "bytes, with b, k, m or g; -1 for none", func(r *specs.LinuxResources, n int64) {
		r.Memory.Limit = &n
	}, nil},
	{"memory-swap", "memory and swap together", func(r *specs.LinuxResources, n int64) {
		r.Memory.Swap = &n
	}, nil},
	{"memory-reservation", "bytes", func(r *specs.LinuxResources, n int64) {
		r.Memory.Reservation = &n
	}, nil},
	{
		"kernel-memory", "ignored: the kernel has no such limit any more",
		func(*specs.LinuxResources, int64) {}, nil,
	},
	{"kernel-memory-tcp", "ignored", func(*specs.LinuxResources, int64) {}, nil},
	{"cpu-quota", "µs in a period", func(r *specs.LinuxResources, n int64) { r.CPU.Quota = &n }, nil},
	{"cpu-period", "µs", func(r *specs.LinuxResources, n int64) {
		u := uint64(n)
		r.CPU.Period = &u
	}, nil},
	{"cpu-burst", "µs", func(r *specs.LinuxResources, n int64) {
		u := uint64(n)
		r.CPU.Burst = &u
	}, nil},
	{"cpu-share", "2 to 262144", func(r *specs.LinuxResources, n int64) {
		u := uint64(n)
		r.CPU.Shares = &u
	}, nil},
	{"cpu-shares", "the same", func(r *specs.LinuxResources, n int64) {
		u := uint64(n)
		r.CPU.Shares = &u
	}, nil},
	{"cpu-idle", "1: only when nothing else wants to run", func(r *specs.LinuxResources, n int64) {
		r.CPU.Idle = &n
	}, nil},
	{"cpu-rt-period", "µs", func(r *specs.LinuxResources, n int64) {
		u := uint64(n)
		r.CPU.RealtimePeriod = &u
	}, nil},
	{"cpu-rt-runtime", "µs", func(r *specs.LinuxResources, n int64) {
		r.CPU.RealtimeRuntime = &n
	}, nil},
	{"cpuset-cpus", "as in 0-3,5", nil, func(r *specs.LinuxResources, s string) { r.CPU.Cpus = s }},
	{"cpuset-mems", "as in 0-3,5", nil, func(r *specs.LinuxResources, s string) { r.CPU.Mems = s }},
	{"pids-limit", "-1 for none", func(r *specs.LinuxResources, n int64) {
		r.Pids = &specs.LinuxPids{Limit: &n}
	}, nil},
	{"blkio-weight", "10 to 1000", func(r *specs.LinuxResources, n int64) {
		w := uint16(n)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}, nil},
}

// parseNumber reads a number, of bytes if it ends in b, k, m or g.
func parseNumber(s string) (int64, error) {
	units := map[byte]int64{'b': 1, 'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30}
	factor := int64(1)
	number := strings.ToLower(s)
	if len(number) > 1 {
		if u, ok := units[number[len(number)-1]]; ok {
			factor, number = u, number[:len(number)-1]
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q: want a number, or one with b, k, m or g", s)
	}
	return n * factor, nil
}
