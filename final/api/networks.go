//go:build linux

package api

import (
	"errors"
	"net/http"

	"github.com/moby/moby/api/types/network"

	"minidocker/final/engine"
)

func (s *Server) networkRoutes() {
	s.handle("GET /networks", s.listNetworks)
	s.handle("GET /networks/{$}", s.listNetworks)
	s.handle("POST /networks/create", s.createNetwork)
	s.handle("POST /networks/prune", s.pruneNetworks)
	s.handle("GET /networks/{id}", s.inspectNetwork)
	s.handle("DELETE /networks/{id}", s.removeNetwork)
	s.handle("POST /networks/{id}/connect", s.connect)
	s.handle("POST /networks/{id}/disconnect", s.disconnect)
}

func (s *Server) listNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	all, err := s.e.Networks(r.Context(), f)
	return ok(w, all, err)
}

func (s *Server) createNetwork(w http.ResponseWriter, r *http.Request) error {
	var body network.CreateRequest
	if err := decode(r, &body, false); err != nil {
		return err
	}
	response, err := s.e.CreateNetwork(r.Context(), body)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, response)
}

func (s *Server) inspectNetwork(w http.ResponseWriter, r *http.Request) error {
	n, err := s.e.InspectNetwork(r.Context(), r.PathValue("id"))
	return ok(w, n, err)
}

// removeNetwork forbids what dockerd forbids: it is 403 there, and no conflict.
func (s *Server) removeNetwork(w http.ResponseWriter, r *http.Request) error {
	return done(w, forbidden(s.e.RemoveNetwork(r.Context(), r.PathValue("id"))))
}

func forbidden(err error) error {
	if err != nil && engine.Code(err) == engine.Conflict {
		return &statusError{http.StatusForbidden, err}
	}
	return err
}

func (s *Server) connect(w http.ResponseWriter, r *http.Request) error {
	var body network.ConnectRequest
	if err := decode(r, &body, false); err != nil {
		return err
	}
	if err := s.e.Connect(r.Context(), r.PathValue("id"), body); err != nil {
		return forbidden(err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) disconnect(w http.ResponseWriter, r *http.Request) error {
	var body network.DisconnectRequest
	if err := decode(r, &body, false); err != nil {
		return err
	}
	if err := s.e.Disconnect(r.Context(), r.PathValue("id"), body); err != nil {
		return forbidden(err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) pruneNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	report, err := s.e.PruneNetworks(r.Context(), f)
	return ok(w, report, err)
}

var errNoSwarm = errors.New("this node is not a swarm manager: swarms are not supported")

// noSwarm answers as an engine does that is in no swarm.
func (s *Server) noSwarm(http.ResponseWriter, *http.Request) error {
	return &statusError{http.StatusServiceUnavailable, errNoSwarm}
}
