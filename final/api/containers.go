//go:build linux

package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"minidocker/final/engine"
)

func (s *Server) containerRoutes() {
	s.handle("GET /containers/json", s.listContainers)
	s.handle("POST /containers/create", s.createContainer)
	s.handle("POST /containers/prune", s.pruneContainers)
	s.handle("DELETE /containers/{id}", s.removeContainer)
	s.handle("DELETE /containers/{id}/{alias}", s.removeLink)
	s.handle("GET /containers/{id}/json", s.inspectContainer)
	s.handle("GET /containers/{id}/top", s.top)
	s.handle("GET /containers/{id}/logs", s.logs)
	s.handle("GET /containers/{id}/stats", s.stats)
	s.handle("GET /containers/{id}/changes", s.changes)
	s.handle("GET /containers/{id}/export", s.export)
	s.handle("HEAD /containers/{id}/archive", s.statPath)
	s.handle("GET /containers/{id}/archive", s.copyFrom)
	s.handle("PUT /containers/{id}/archive", s.copyTo)
	s.handle("POST /containers/{id}/start", s.start)
	s.handle("POST /containers/{id}/stop", s.stopContainer)
	s.handle("POST /containers/{id}/restart", s.restart)
	s.handle("POST /containers/{id}/kill", s.kill)
	s.handle("POST /containers/{id}/pause", s.pause)
	s.handle("POST /containers/{id}/unpause", s.unpause)
	s.handle("POST /containers/{id}/wait", s.wait)
	s.handle("POST /containers/{id}/resize", s.resize)
	s.handle("POST /containers/{id}/rename", s.rename)
	s.handle("POST /containers/{id}/update", s.update)
	s.handle("POST /containers/{id}/attach", s.attach)
}

func (s *Server) listContainers(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	limit, err := number(r, "limit", 0)
	if err != nil {
		return err
	}
	all, err := s.e.Containers(r.Context(), engine.ListOptions{
		All: flag(r, "all"), Limit: max(limit, 0), Size: flag(r, "size"), Filters: f})
	if before(r, 46) {
		for i := range all {
			all[i].HostConfig.Annotations = nil
		}
	}
	return ok(w, all, err)
}

// createRequest is the body of create, with what older clients have at another place.
type createRequest struct {
	*container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *network.NetworkingConfig
	MacAddress       string // until 1.43; now of an endpoint
}

func (s *Server) createContainer(w http.ResponseWriter, r *http.Request) error {
	var body createRequest
	if err := decode(r, &body, false); err != nil {
		return err
	}
	if body.Config == nil {
		return invalid("config cannot be empty in order to create a container")
	}
	if err := body.moveMac(); err != nil {
		return err
	}
	if h := body.HostConfig; before(r, 40) && (h == nil || h.IpcMode == "") {
		if h == nil {
			body.HostConfig = &container.HostConfig{}
		}
		body.HostConfig.IpcMode = container.IPCModeShareable // until it could be said otherwise
	}
	if n := body.NetworkingConfig; n != nil && before(r, 44) && len(n.EndpointsConfig) > 1 {
		names := slices.Sorted(maps.Keys(n.EndpointsConfig))
		return invalid("Container cannot be created with multiple network endpoints: %s",
			strings.Join(names, ", "))
	}
	response, err := s.e.Create(context.WithoutCancel(r.Context()), engine.CreateOptions{
		Name: r.FormValue("name"), Config: body.Config, HostConfig: body.HostConfig,
		Networking: body.NetworkingConfig, Platform: r.FormValue("platform"),
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, response)
}

// moveMac puts an old client's address where the container's network is.
func (b *createRequest) moveMac() error {
	if b.MacAddress == "" {
		return nil
	}
	var mac network.HardwareAddr
	if err := mac.UnmarshalText([]byte(b.MacAddress)); err != nil {
		return invalid("invalid MAC address %q: %w", b.MacAddress, err)
	}
	if b.NetworkingConfig == nil {
		b.NetworkingConfig = &network.NetworkingConfig{}
	}
	if b.NetworkingConfig.EndpointsConfig == nil {
		b.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	name := "default"
	if b.HostConfig != nil && b.HostConfig.NetworkMode != "" {
		name = string(b.HostConfig.NetworkMode)
	}
	settings := b.NetworkingConfig.EndpointsConfig[name]
	if settings == nil {
		settings = &network.EndpointSettings{}
		b.NetworkingConfig.EndpointsConfig[name] = settings
	}
	if len(settings.MacAddress) == 0 {
		settings.MacAddress = mac
	}
	return nil
}

func (s *Server) pruneContainers(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	report, err := s.e.PruneContainers(r.Context(), f)
	return ok(w, report, err)
}

func (s *Server) removeContainer(w http.ResponseWriter, r *http.Request) error {
	if flag(r, "link") {
		return invalid("bad parameter: a link is CONTAINER/ALIAS")
	}
	return done(w, s.e.Remove(context.WithoutCancel(r.Context()), r.PathValue("id"),
		engine.RemoveOptions{Force: flag(r, "force"), Volumes: flag(r, "v")}))
}

// removeLink is docker rm --link CONTAINER/ALIAS.
func (s *Server) removeLink(w http.ResponseWriter, r *http.Request) error {
	if !flag(r, "link") {
		return &engine.Error{Kind: engine.NotFound, Err: errNoPage}
	}
	return done(w, s.e.RemoveLink(r.PathValue("id"), r.PathValue("alias")))
}

func (s *Server) inspectContainer(w http.ResponseWriter, r *http.Request) error {
	c, err := s.e.Inspect(r.Context(), r.PathValue("id"), flag(r, "size"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, oldInspect(c))
}

func (s *Server) top(w http.ResponseWriter, r *http.Request) error {
	list, err := s.e.Top(r.Context(), r.PathValue("id"), r.FormValue("ps_args"))
	return ok(w, list, err)
}

func (s *Server) changes(w http.ResponseWriter, r *http.Request) error {
	all, err := s.e.Changes(r.Context(), r.PathValue("id"))
	return ok(w, all, err)
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) error {
	l := newLazy(w, "application/x-tar")
	return l.end(s.e.Export(r.Context(), r.PathValue("id"), l))
}

// seconds is the query's t, nil if there is none.
func seconds(r *http.Request) (*int, error) {
	if r.FormValue("t") == "" {
		return nil, nil
	}
	t, err := number(r, "t", 0)
	return &t, err
}

func (s *Server) stopContainer(w http.ResponseWriter, r *http.Request) error {
	t, err := seconds(r)
	if err != nil {
		return err
	}
	return done(w, s.e.Stop(context.WithoutCancel(r.Context()), r.PathValue("id"),
		r.FormValue("signal"), t))
}

func (s *Server) restart(w http.ResponseWriter, r *http.Request) error {
	t, err := seconds(r)
	if err != nil {
		return err
	}
	return done(w, s.e.Restart(context.WithoutCancel(r.Context()), r.PathValue("id"),
		r.FormValue("signal"), t))
}

func (s *Server) kill(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.e.Kill(r.Context(), r.PathValue("id"), r.FormValue("signal")))
}

func (s *Server) pause(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.e.Pause(r.Context(), r.PathValue("id")))
}

func (s *Server) unpause(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.e.Unpause(r.Context(), r.PathValue("id")))
}

// wait answers its head at once, so that the client knows that it may start the container now.
func (s *Server) wait(w http.ResponseWriter, r *http.Request) error {
	wait, err := s.e.Waiting(r.PathValue("id"), container.WaitCondition(r.FormValue("condition")))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flushed := http.NewResponseController(w).Flush()
	ctx := r.Context()
	if flushed != nil { // wait must be called all the same
		gone, cancel := context.WithCancel(ctx)
		cancel()
		ctx = gone
	}
	response, err := wait(ctx)
	if err != nil {
		response.Error = &container.WaitExitError{Message: err.Error()}
	}
	return json.NewEncoder(w).Encode(response)
}

func (s *Server) resize(w http.ResponseWriter, r *http.Request) error {
	rows, columns, err := size(r)
	if err != nil {
		return err
	}
	if err := s.e.Resize(r.Context(), r.PathValue("id"), rows, columns); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) rename(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.e.Rename(r.Context(), r.PathValue("id"), r.FormValue("name")))
}

func (s *Server) update(w http.ResponseWriter, r *http.Request) error {
	var body container.UpdateConfig
	if err := decode(r, &body, false); err != nil {
		return err
	}
	if before(r, 40) {
		body.PidsLimit = nil
	}
	response, err := s.e.Update(r.Context(), r.PathValue("id"), body)
	return ok(w, response, err)
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	c, err := s.e.Inspect(r.Context(), r.PathValue("id"), false)
	if err != nil {
		return err
	}
	kind := types.MediaTypeRawStream
	if !c.Config.Tty && !before(r, 42) {
		kind = types.MediaTypeMultiplexedStream
	}
	l := newLazy(w, kind)
	out, errs := outputs(l, c.Config.Tty)
	return l.end(s.e.Logs(r.Context(), c.ID, engine.LogOptions{
		Stdout: flag(r, "stdout"), Stderr: flag(r, "stderr"), Follow: flag(r, "follow"),
		Timestamps: flag(r, "timestamps"), Details: flag(r, "details"), Tail: r.FormValue("tail"),
		Since: r.FormValue("since"), Until: r.FormValue("until"),
	}, out, errs))
}

// stats tells what a container uses: once a second, or once, with the second before that.
func (s *Server) stats(w http.ResponseWriter, r *http.Request) error {
	stream := flagOr(r, "stream", true)
	ctx, ref := r.Context(), r.PathValue("id")
	sample, err := s.e.Stats(ctx, ref, nil)
	if err != nil {
		return err
	}
	m := newMessages(w)
	if !stream && flag(r, "one-shot") {
		return m.end(m.send(sample))
	}
	for first := true; ; first = false {
		if stream || !first {
			if m.send(sample) != nil {
				return nil // the client has gone away
			}
		}
		if !stream && !first {
			return m.end(nil)
		}
		select {
		case <-ctx.Done():
			return m.end(nil)
		case <-time.After(time.Second):
		}
		if sample, err = s.e.Stats(ctx, ref, sample); err != nil {
			return m.end(nil) //nolint:nilerr // it is removed, and that is the end of it
		}
	}
}

// pathStatHeader has base64 of JSON in it.
const pathStatHeader = "X-Docker-Container-Path-Stat"

func setPathStat(w http.ResponseWriter, stat container.PathStat) error {
	data, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	w.Header().Set(pathStatHeader, base64.StdEncoding.EncodeToString(data))
	return nil
}

// path is the query's path in a container.
func path(r *http.Request) (string, error) {
	p := r.FormValue("path")
	if p == "" {
		return "", invalid("bad parameter: path cannot be empty")
	}
	return p, nil
}

func (s *Server) statPath(w http.ResponseWriter, r *http.Request) error {
	p, err := path(r)
	if err != nil {
		return err
	}
	stat, err := s.e.StatPath(r.Context(), r.PathValue("id"), p)
	if err != nil {
		return err
	}
	if err := setPathStat(w, stat); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) copyFrom(w http.ResponseWriter, r *http.Request) error {
	p, err := path(r)
	if err != nil {
		return err
	}
	files, stat, err := s.e.CopyFrom(r.Context(), r.PathValue("id"), p)
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }() // what it reads has been seen
	if err := setPathStat(w, stat); err != nil {
		return err
	}
	l := newLazy(w, "application/x-tar")
	_, err = copyBody(l, files)
	return l.end(err)
}

func (s *Server) copyTo(w http.ResponseWriter, r *http.Request) error {
	p, err := path(r)
	if err != nil {
		return err
	}
	err = s.e.CopyTo(r.Context(), r.PathValue("id"), p, r.Body, engine.CopyOptions{
		NoOverwriteDirNonDir: flag(r, "noOverwriteDirNonDir"), CopyUIDGID: flag(r, "copyUIDGID")})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
