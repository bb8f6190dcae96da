//go:build linux

package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"

	"minidocker/final/engine"
	"minidocker/final/engine/transfer"
)

func (s *Server) systemRoutes() {
	s.handle("GET /_ping", s.ping)
	s.handle("GET /info", s.info)
	s.handle("GET /version", s.version)
	s.handle("GET /system/df", s.diskUsage)
	s.handle("GET /events", s.events)
	s.handle("POST /auth", s.auth)
	s.handle("POST /build", s.build)
	s.handle("POST /build/prune", s.pruneBuild)
	s.handle("POST /build/cancel", s.build)
	s.handle("GET /plugins", s.listPlugins)
}

// ping is what every client asks first. What it may do follows from the headers.
func (s *Server) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Builder-Version", "1") // the classic builder
	h.Set("Swarm", "inactive")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := io.WriteString(w, "OK")
	return err
}

func (s *Server) info(w http.ResponseWriter, r *http.Request) error {
	info, err := s.e.Info(r.Context())
	if err != nil {
		return err
	}
	info.Swarm.LocalNodeState = swarm.LocalNodeStateInactive
	info.RegistryConfig = &registry.ServiceConfig{}
	info.Debug = s.log.IsLevelEnabled(debugLevel)
	info.NGoroutines, info.NFd = running()
	return writeJSON(w, http.StatusOK, oldInfo{Info: info,
		IndexServerAddress: "https://index.docker.io/v1/"})
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, s.e.Version(r.Context()))
}

func (s *Server) diskUsage(w http.ResponseWriter, r *http.Request) error {
	kinds := r.Form["type"]
	for _, kind := range kinds {
		if !slices.Contains([]string{"container", "image", "volume", "build-cache"}, kind) {
			return invalid("unknown object type: %s", kind)
		}
	}
	u, err := s.e.DiskUsage(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, oldDiskUsage(u, func(kind string) bool {
		return len(kinds) == 0 || slices.Contains(kinds, kind)
	}))
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	m := newMessages(w)
	o := engine.EventOptions{Since: r.FormValue("since"), Until: r.FormValue("until"), Filters: f}
	err = s.e.Events(r.Context(), o, func(e events.Message) error { return m.send(oldEvent(e)) })
	if errors.Is(err, errGone) || errors.Is(err, context.Canceled) {
		err = nil
	}
	return m.end(err)
}

// auth sees whether a registry takes the credentials. The client keeps them.
func (s *Server) auth(w http.ResponseWriter, r *http.Request) error {
	var body registry.AuthConfig
	if err := decode(r, &body, false); err != nil {
		return err
	}
	auth, err := credentials(&body)
	if err != nil {
		return err
	}
	if err := transfer.Check(r.Context(), body.ServerAddress, *auth, s.o.Insecure); err != nil {
		if engine.Code(err) == engine.Conflict {
			return &statusError{http.StatusUnauthorized, err}
		}
		return err
	}
	return writeJSON(w, http.StatusOK, registry.AuthResponse{Status: "Login Succeeded"})
}

// build gives the request to the builder, if there is one.
func (s *Server) build(w http.ResponseWriter, r *http.Request) error {
	if s.o.Build == nil {
		return unavailable("this daemon has no builder yet: build an image with another tool, and " +
			"docker load it")
	}
	credentials, err := configHeader(r)
	if err != nil {
		return err
	}
	s.o.Build(credentials).ServeHTTP(w, r)
	return nil
}

func (s *Server) pruneBuild(w http.ResponseWriter, r *http.Request) error {
	report := build.CachePruneReport{CachesDeleted: []string{}}
	if s.o.PruneBuild != nil {
		bytes, err := s.o.PruneBuild(r.Context())
		if err != nil {
			return err
		}
		report.SpaceReclaimed = uint64(max(bytes, 0))
	}
	return writeJSON(w, http.StatusOK, report)
}

func (s *Server) listPlugins(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, []string{})
}
