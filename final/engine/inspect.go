//go:build linux

package engine

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/storage"

	"minidocker/final/shim"
	"minidocker/final/shim/server"
)

// Inspect is all that is known of a container.
func (e *Engine) Inspect(
	_ context.Context, ref string, size bool,
) (*container.InspectResponse, error) {
	r, state, err := e.get(ref)
	if err != nil {
		return nil, err
	}
	settings, endpoints, err := e.endpointSettings(r)
	if err != nil {
		return nil, err
	}
	c := &container.InspectResponse{
		ID: r.ID, Created: r.Created.Format(time.RFC3339Nano), Path: r.Path,
		Args: append([]string{}, r.Args...), Image: r.Image, Name: "/" + r.Name,
		State: e.apiState(r, state), RestartCount: state.RestartCount, Driver: e.layers.Name(),
		Platform: r.Platform, HostConfig: r.HostConfig, Config: r.Config, Mounts: mountPoints(r),
		ResolvConfPath: e.file(r.ID, "resolv.conf"), HostnamePath: e.file(r.ID, "hostname"),
		HostsPath:   e.file(r.ID, "hosts"),
		GraphDriver: &storage.DriverData{Name: e.layers.Name()},
		NetworkSettings: &container.NetworkSettings{
			Networks: settings, Ports: portMap(r, endpoints)},
	}
	if r.HostConfig.LogConfig.Type == "json-file" {
		c.LogPath = e.file(r.ID, server.LogName)
	}
	if len(r.HostConfig.Links) > 0 {
		host := *r.HostConfig
		host.Links = slices.Clone(host.Links)
		for i, text := range host.Links {
			l := parseLink(text)
			host.Links[i] = "/" + l.name + ":/" + r.Name + "/" + l.alias
		}
		c.HostConfig = &host
	}
	c.GraphDriver.Data, err = e.layers.Metadata(r.ID)
	if err != nil && !e.layers.Exists(r.ID) { // it is being removed: the layer goes before the record
		return nil, noContainer(ref)
	}
	if err != nil {
		return nil, err
	}
	for _, id := range state.Execs {
		if id != "health" {
			c.ExecIDs = append(c.ExecIDs, id)
		}
	}
	if state.Status == "running" {
		c.NetworkSettings.SandboxID = r.ID
		c.NetworkSettings.SandboxKey = "/proc/" + itoa(state.Pid) + "/ns/net"
	}
	if size {
		rw, root, err := e.sizes(r)
		if err != nil {
			return nil, err
		}
		c.SizeRw, c.SizeRootFs = &rw, &root
	}
	return c, nil
}

func (e *Engine) file(id, name string) string {
	path := filepath.Join(e.dir(id), name)
	if !exists(path) {
		return ""
	}
	return path
}

// apiState is a state as the API has it.
func (e *Engine) apiState(r *record, s *shim.State) *container.State {
	at := func(t time.Time) string { return t.Format(time.RFC3339Nano) }
	out := &container.State{
		Status: container.ContainerState(s.Status), Running: s.Status == "running",
		Restarting: s.Status == "restarting", OOMKilled: s.OOMKilled, Dead: s.Status == "dead",
		Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error, StartedAt: at(s.StartedAt),
		FinishedAt: at(s.FinishedAt),
	}
	if out.Restarting {
		out.Running = true
	}
	if s.Status == "running" && e.paused(r.ID) {
		out.Paused, out.Status = true, container.StatePaused
	}
	if h := s.Health; h != nil {
		out.Health = &container.Health{Status: container.HealthStatus(h.Status),
			FailingStreak: h.FailingStreak, Log: []*container.HealthcheckResult{}}
		for _, l := range h.Log {
			out.Health.Log = append(out.Health.Log, &container.HealthcheckResult{
				Start: l.Start, End: l.End, ExitCode: l.ExitCode, Output: l.Output})
		}
	}
	return out
}

// allCapabilities are those that this kernel has and this process may pass on.
func allCapabilities() []string { return slices.Clone(boundCapabilities()) }
