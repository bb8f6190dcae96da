//go:build linux

package cgroup

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

// fake is a group on a fake cgroupfs whose files are there, with these contents.
func fake(t *testing.T, v2 bool, files map[string]string) *Group {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/group", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, "group", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := Hierarchy{Mount: dir, V2: v2}
	if !v2 {
		h.Controllers = []string{"cpu", "memory", "pids", "blkio", "devices", "freezer"}
	}
	return &Group{Path: "/group", hierarchies: []Hierarchy{h}}
}

func (g *Group) content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(g.dir(g.hierarchies[0]), name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func files(names string) map[string]string {
	all := map[string]string{}
	for _, name := range strings.Fields(names) {
		all[name] = ""
	}
	return all
}

const (
	filesV2 = "memory.max memory.low memory.swap.max cpu.weight cpu.max.burst cpu.idle cpuset.cpus cpuset.mems " +
		"pids.max io.weight io.max hugetlb.2MB.max rdma.max memory.high"
	filesV1 = "memory.limit_in_bytes memory.soft_limit_in_bytes memory.memsw.limit_in_bytes memory.swappiness " +
		"memory.oom_control cpu.shares cpu.cfs_quota_us cpu.cfs_period_us cpu.rt_runtime_us cpu.rt_period_us " +
		"cpuset.cpus cpuset.mems pids.max blkio.weight blkio.throttle.read_bps_device hugetlb.2MB.limit_in_bytes " +
		"net_cls.classid net_prio.ifpriomap"
)

func TestGroup_Set(t *testing.T) {
	type want map[string]string
	for _, c := range []struct {
		name   string
		set    specs.LinuxResources
		v2, v1 want
	}{
		{"memory", specs.LinuxResources{Memory: &specs.LinuxMemory{
			Limit: ptr(int64(1000)), Swap: ptr(int64(1500)), Reservation: ptr(int64(500))}},
			want{"memory.max": "1000", "memory.swap.max": "500", "memory.low": "500"},
			want{"memory.limit_in_bytes": "1000", "memory.memsw.limit_in_bytes": "1500",
				"memory.soft_limit_in_bytes": "500"}},
		{"no swap", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1000)), Swap: ptr(int64(1000))}},
			want{"memory.swap.max": "0"}, want{"memory.memsw.limit_in_bytes": "1000"}},
		{"no limits", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Swap: ptr(int64(-1))}},
			want{"memory.max": "max", "memory.swap.max": "max"},
			want{"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"}},
		{"swappiness", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(7)),
			DisableOOMKiller: ptr(true)}}, nil, want{"memory.swappiness": "7", "memory.oom_control": "1"}},
		{"cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(5000)),
			Period: ptr(uint64(10000)), Cpus: "0-1", Mems: "0"}},
			want{"cpu.weight": "100", "cpu.max": "5000 10000", "cpuset.cpus": "0-1", "cpuset.mems": "0"},
			want{"cpu.shares": "1024", "cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000", "cpuset.cpus": "0-1",
				"cpuset.mems": "0"}},
		{"quota alone", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(5000))}},
			want{"cpu.max": "5000 100000"}, want{"cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": ""}},
		{"no quota", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}},
			want{"cpu.max": "max 100000"}, want{"cpu.cfs_quota_us": "-1"}},
		{"burst and idle", specs.LinuxResources{CPU: &specs.LinuxCPU{Burst: ptr(uint64(9)), Idle: ptr(int64(1))}},
			want{"cpu.max.burst": "9", "cpu.idle": "1"}, nil},
		{"real time", specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: ptr(uint64(9)),
			RealtimeRuntime: ptr(int64(8))}}, nil, want{"cpu.rt_period_us": "9", "cpu.rt_runtime_us": "8"}},
		{"pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}},
			want{"pids.max": "5"}, want{"pids.max": "5"}},
		{"no pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}},
			want{"pids.max": "max"}, want{"pids.max": "max"}},
		{"block I/O", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(10)),
			ThrottleReadBpsDevice: throttle(8, 0, 1<<20)}},
			want{"io.weight": "1", "io.max": "8:0 rbps=1048576"},
			want{"blkio.weight": "10", "blkio.throttle.read_bps_device": "8:0 1048576"}},
		{"huge pages", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4}}},
			want{"hugetlb.2MB.max": "4"}, want{"hugetlb.2MB.limit_in_bytes": "4"}},
		{"network", specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(17)),
			Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}}}, nil,
			want{"net_cls.classid": "17", "net_prio.ifpriomap": "eth0 5"}},
		{"rdma", specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"mlx": {HcaHandles: ptr(uint32(2)),
			HcaObjects: ptr(uint32(3))}}}, want{"rdma.max": "mlx hca_handle=2 hca_object=3"}, nil},
		{"unified", specs.LinuxResources{Unified: map[string]string{"memory.high": "77"}},
			want{"memory.high": "77"}, nil},
	} {
		for version, want := range map[bool]want{true: c.v2, false: c.v1} {
			names := filesV1
			if version {
				names = filesV2
			}
			g := fake(t, version, files(names))
			if version {
				path := filepath.Join(g.dir(g.hierarchies[0]), "cpu.max")
				if err := os.WriteFile(path, []byte("max 100000\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := g.Set(&c.set)
			if want == nil {
				if err == nil && c.name != "swappiness" { // which version 2 does not have, nor need
					t.Errorf("%s, version 2 %v: no error", c.name, version)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, version 2 %v: %v", c.name, version, err)
			}
			for file, value := range want {
				if got := g.content(t, file); got != value {
					t.Errorf("%s: %s: got %q, want %q", c.name, file, got, value)
				}
			}
		}
	}
}

func throttle(major, minor int64, rate uint64) []specs.LinuxThrottleDevice {
	d := specs.LinuxThrottleDevice{Rate: rate}
	d.Major, d.Minor = major, minor
	return []specs.LinuxThrottleDevice{d}
}

func TestGroup_SetErrors(t *testing.T) {
	for want, set := range map[string]specs.LinuxResources{
		"memory.limit":      {Memory: &specs.LinuxMemory{Limit: ptr(int64(5))}},
		"pids.limit":        {Pids: &specs.LinuxPids{Limit: ptr(int64(5))}},
		"is the controller": {CPU: &specs.LinuxCPU{Shares: ptr(uint64(5))}},
		"unified":           {Unified: map[string]string{"pids.max": "1"}},
		"no name of a file": {Unified: map[string]string{"../pids.max": "1"}},
	} {
		if err := fake(t, true, nil).Set(&set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	g := fake(t, true, files(filesV2))
	for _, m := range []specs.LinuxMemory{
		{Swap: ptr(int64(5))}, {Limit: ptr(int64(9)), Swap: ptr(int64(5))},
	} {
		if err := g.Set(&specs.LinuxResources{Memory: &m}); err == nil {
			t.Errorf("memory %d, swap %d: no error", m.Limit, m.Swap)
		}
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 30: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("%d shares: got %d, want %d", shares, got, want)
		}
	}
}

func TestSetDevices_V1(t *testing.T) {
	g := fake(t, false, files("devices.allow devices.deny"))
	if err := g.SetDevices([]specs.LinuxDeviceCgroup{{Access: "rwm"}}); err != nil {
		t.Fatal(err)
	}
	if got := g.content(t, "devices.deny"); got != "a" {
		t.Errorf("devices.deny: got %q", got)
	}
	if err := g.SetDevices([]specs.LinuxDeviceCgroup{{Type: "x"}}); err == nil {
		t.Error("a rule of type x is accepted")
	}
}

// allowed interprets a program of eBPF as far as deviceProgram uses it.
func allowed(t *testing.T, program []byte, kind, access, major, minor uint32) bool {
	t.Helper()
	var r [11]uint64
	context := map[int16]uint32{0: access<<16 | kind, 4: major, 8: minor}
	for pc := 0; pc < len(program)/8; pc++ {
		i := program[8*pc : 8*pc+8]
		target, source := i[1]&0xf, i[1]>>4
		offset := int16(binary.NativeEndian.Uint16(i[2:]))
		value := uint64(int32(binary.NativeEndian.Uint32(i[4:])))
		switch i[0] {
		case 0x61:
			if source != 1 || r[1] != 0 {
				t.Fatalf("instruction %d loads from register %d", pc, source)
			}
			r[target] = uint64(context[offset])
		case 0xbf:
			r[target] = r[source]
		case 0x57:
			r[target] &= value
		case 0x77:
			r[target] >>= value
		case 0xb7:
			r[target] = value
		case 0x55:
			if r[target] != value {
				pc += int(offset)
			}
		case 0x95:
			return r[0] != 0
		default:
			t.Fatalf("instruction %d: %x", pc, i)
		}
	}
	t.Fatal("the program has no end")
	return false
}

func TestSetDevices_V1_Impossible(t *testing.T) {
	one, two := int64(1), int64(2)
	all := specs.LinuxDeviceCgroup{Access: "rwm"}
	wide := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &one, Access: "rw"}
	narrow := specs.LinuxDeviceCgroup{Type: "c", Major: &one, Minor: &two, Access: "r"}
	other := specs.LinuxDeviceCgroup{Type: "c", Major: &two, Minor: &two, Access: "r"}
	for name, c := range map[string]struct {
		rules []specs.LinuxDeviceCgroup
		want  bool
	}{
		"a part of a wider one": {[]specs.LinuxDeviceCgroup{all, wide, narrow}, false},
		"another device":        {[]specs.LinuxDeviceCgroup{all, wide, other}, true},
		"the other order":       {[]specs.LinuxDeviceCgroup{wide, narrow, all}, true},
	} {
		if err := checkV1(c.rules); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDeviceProgram(t *testing.T) {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(200)), Access: "rw"},
		{Allow: true, Type: "b", Major: ptr(int64(8)), Access: "r"},
		{Allow: true, Type: "b", Access: "m"},
		{Allow: true, Type: "c", Major: ptr(int64(5)), Access: "rwm"},
		{Allow: false, Type: "c", Major: ptr(int64(5)), Minor: ptr(int64(1)), Access: "w"},
	}
	program := deviceProgram(rules)
	naive := func(kind, access, major, minor uint32) bool {
		for i := len(rules) - 1; i >= 0; i-- {
			r := rules[i]
			if r.Type != "" {
				fits := (r.Type == "b") == (kind == devBlock) && access&^uint32(accessBits(r.Access)) == 0 &&
					(r.Major == nil || *r.Major == int64(major)) && (r.Minor == nil || *r.Minor == int64(minor))
				if !fits {
					continue
				}
			}
			return r.Allow
		}
		return false
	}
	for kind := uint32(1); kind <= 2; kind++ {
		for access := uint32(1); access <= 7; access++ {
			for _, major := range []uint32{1, 5, 8, 10} {
				for _, minor := range []uint32{0, 1, 200} {
					got, want := allowed(t, program, kind, access, major, minor), naive(kind, access, major, minor)
					if got != want {
						t.Errorf("type %d, access %d, %d:%d: got %v, want %v", kind, access, major, minor, got, want)
					}
				}
			}
		}
	}
}
