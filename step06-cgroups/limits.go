//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// limit is what a flag means to the kernel: which files of a control group it goes to,
// in version 2 and in version 1, in this order.
type limit struct {
	flag   string
	v2, v1 []setting
}

// setting is a file of a control group and what is written to it.
type setting struct{ file, value string }

// swapDefault is the limit that comes with -m, as in docker: as much swap as memory.
const swapDefault = "--memory-swap (from -m)"

func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "memory", Aliases: []string{"m"}, Usage: "limit of memory: 64m, 1g"},
		&cli.StringFlag{Name: "memory-swap", Usage: "limit of memory and swap together, -1 for none"},
		&cli.Float64Flag{Name: "cpus", Usage: "limit of CPU time: 1.5 is one and a half CPUs"},
		&cli.Int64Flag{Name: "cpu-quota", Usage: "limit of CPU time in µs per period"},
		&cli.Int64Flag{Name: "cpu-period", Usage: "the period in µs", DefaultText: "100000"},
		&cli.Uint64Flag{Name: "cpu-shares", Usage: "weight against others, 2 to 262144 (usual: 1024)"},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "the CPUs to run on: 0-1,3"},
		&cli.Int64Flag{Name: "pids-limit", Usage: "limit of processes and threads"},
		&cli.StringSliceFlag{Name: "device-read-bps", Usage: "`PATH:RATE`: bytes a second, 1mb"},
		&cli.StringSliceFlag{Name: "device-write-bps", Usage: "`PATH:RATE`: bytes a second, 1mb"},
	}
}

// limitOptions reads the flags of limitFlags, which are docker's.
func limitOptions(c *cli.Context) ([]limit, error) {
	limits, err := memoryLimits(c.String("memory"), c.String("memory-swap"))
	if err != nil {
		return nil, err
	}
	quota, period := c.Int64("cpu-quota"), c.Int64("cpu-period")
	if cpus := c.Float64("cpus"); cpus != 0 {
		if quota != 0 || period != 0 {
			return nil, errors.New("--cpus is --cpu-quota and --cpu-period in one: give either")
		}
		quota = int64(cpus * 100000)
	}
	if quota != 0 || period != 0 {
		limits = append(limits, cpuLimit(quota, period))
	}
	if shares := c.Uint64("cpu-shares"); shares != 0 {
		limits = append(limits, limit{"--cpu-shares",
			[]setting{{"cpu.weight", fmt.Sprint(weight(shares))}},
			[]setting{{"cpu.shares", fmt.Sprint(shares)}}})
	}
	if cpus := c.String("cpuset-cpus"); cpus != "" {
		s := []setting{{"cpuset.cpus", cpus}}
		limits = append(limits, limit{"--cpuset-cpus", s, s})
	}
	if pids := c.Int64("pids-limit"); pids > 0 {
		s := []setting{{"pids.max", fmt.Sprint(pids)}}
		limits = append(limits, limit{"--pids-limit", s, s})
	}
	for _, way := range []string{"read", "write"} {
		for _, spec := range c.StringSlice("device-" + way + "-bps") {
			l, err := deviceLimit(way, spec)
			if err != nil {
				return nil, err
			}
			limits = append(limits, l)
		}
	}
	return limits, nil
}

func memoryLimits(memory, swap string) ([]limit, error) {
	if memory == "" {
		if swap != "" {
			return nil, errors.New("--memory-swap is for memory and swap together: it needs -m")
		}
		return nil, nil
	}
	bytes, err := parseBytes("-m", memory)
	if err != nil {
		return nil, err
	}
	if bytes < 6<<20 {
		return nil, fmt.Errorf("-m %s: 6m is the least: init itself needs some", memory)
	}
	flag, both := swapDefault, 2*bytes
	if swap != "" {
		flag = "--memory-swap"
		if both, err = parseBytes(flag, swap); err != nil && swap != "-1" {
			return nil, err
		}
		if swap != "-1" && both < bytes {
			return nil, fmt.Errorf("--memory-swap %s includes memory: it cannot be less than -m", swap)
		}
	}
	// Version 2 counts swap alone; version 1 memory and swap together.
	alone, together := fmt.Sprint(both-bytes), fmt.Sprint(both)
	if swap == "-1" {
		alone, together = "max", "-1"
	}
	return []limit{
		{"-m", []setting{{"memory.max", fmt.Sprint(bytes)}},
			[]setting{{"memory.limit_in_bytes", fmt.Sprint(bytes)}}},
		{flag, []setting{{"memory.swap.max", alone}},
			[]setting{{"memory.memsw.limit_in_bytes", together}}},
	}, nil
}

// cpuLimit lets the group run for quota µs in every period µs, on all CPUs together.
func cpuLimit(quota, period int64) limit {
	if period == 0 {
		period = 100000
	}
	v2, v1 := fmt.Sprint(quota), fmt.Sprint(quota)
	if quota == 0 {
		v2, v1 = "max", "-1"
	}
	return limit{"--cpus, --cpu-quota",
		[]setting{{"cpu.max", fmt.Sprint(v2, " ", period)}},
		[]setting{{"cpu.cfs_period_us", fmt.Sprint(period)}, {"cpu.cfs_quota_us", v1}}}
}

// weight turns version 1's shares, 2 to 262144 and usually 1024, into version 2's
// weight, 1 to 10000 and usually 100: the curve that runc uses.
func weight(shares uint64) uint64 {
	l := math.Log2(float64(min(max(shares, 2), 262144)))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// deviceLimit reads PATH:RATE.
func deviceLimit(way, spec string) (limit, error) {
	flag := "--device-" + way + "-bps"
	path, rate, _ := strings.Cut(spec, ":")
	bytes, err := parseBytes(flag, rate)
	if err != nil {
		return limit{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return limit{}, fmt.Errorf("%s %s: %s is not a block device", flag, spec, path)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	return limit{flag,
		[]setting{{"io.max", fmt.Sprintf("%s %cbps=%d", device, way[0], bytes)}},
		[]setting{{"blkio.throttle." + way + "_bps_device", fmt.Sprint(device, " ", bytes)}}}, nil
}

// parseBytes reads a number of bytes with docker's units: b, k, m, g, also kb, mb, gb.
func parseBytes(flag, text string) (int64, error) {
	number := strings.TrimSuffix(strings.ToLower(text), "b")
	shift := 0
	if at := strings.IndexAny(number, "kmg"); at >= 0 && at == len(number)-1 {
		shift = 10 * (1 + strings.IndexByte("kmg", number[at]))
		number = number[:at]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%s %q: want a number of bytes as in 512k, 64m or 1g", flag, text)
	}
	return n << shift, nil
}
