//go:build linux

package engine

import (
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"minidocker/final/shim"
)

func itoa(n int) string { return strconv.Itoa(n) }

// mergeResources takes over what is not zero.
func mergeResources(to, from *container.Resources) {
	for _, p := range []struct{ to, from *int64 }{
		{&to.CPUShares, &from.CPUShares}, {&to.Memory, &from.Memory}, {&to.NanoCPUs, &from.NanoCPUs},
		{&to.CPUPeriod, &from.CPUPeriod}, {&to.CPUQuota, &from.CPUQuota},
		{&to.CPURealtimePeriod, &from.CPURealtimePeriod},
		{&to.CPURealtimeRuntime, &from.CPURealtimeRuntime},
		{&to.MemoryReservation, &from.MemoryReservation}, {&to.MemorySwap, &from.MemorySwap},
	} {
		if *p.from != 0 {
			*p.to = *p.from
		}
	}
	if from.NanoCPUs != 0 {
		to.CPUPeriod, to.CPUQuota = 0, 0
	}
	if from.CPUPeriod != 0 || from.CPUQuota != 0 {
		to.NanoCPUs = 0
	}
	if from.CpusetCpus != "" {
		to.CpusetCpus = from.CpusetCpus
	}
	if from.CpusetMems != "" {
		to.CpusetMems = from.CpusetMems
	}
	if from.BlkioWeight != 0 {
		to.BlkioWeight = from.BlkioWeight
	}
	if limit := from.PidsLimit; limit != nil {
		n := max(*limit, 0) // 0, or less: no limit
		to.PidsLimit = &n
	}
}

// updateRunning changes a running container: its control group, and its shim's mind.
func (e *Engine) updateRunning(
	l *locked, host *container.HostConfig, u container.UpdateConfig,
) error {
	err := e.runtime().Update(l.ID, func(r *specs.LinuxResources) error {
		limits, err := toResources(&host.Resources)
		if err != nil {
			return err
		}
		if limit := u.PidsLimit; limit != nil && *limit <= 0 {
			limits.Pids = &specs.LinuxPids{Limit: new(int64)}
			*limits.Pids.Limit = -1
		}
		*r = *limits
		return nil
	})
	if err != nil {
		return failed(Invalid, "cannot update container %s: %w", l.ID, err)
	}
	if u.RestartPolicy.Name == "" {
		return nil
	}
	conn, _, err := e.ask(l.ID, shim.Request{Do: "policy",
		Restart: string(host.RestartPolicy.Name), MaxRetries: host.RestartPolicy.MaximumRetryCount})
	if err != nil {
		return err
	}
	return conn.Close()
}
