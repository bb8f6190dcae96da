//go:build linux

package api

import (
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

func (s *Server) volumeRoutes() {
	s.handle("GET /volumes", s.listVolumes)
	s.handle("POST /volumes/create", s.createVolume)
	s.handle("POST /volumes/prune", s.pruneVolumes)
	s.handle("GET /volumes/{name}", s.inspectVolume)
	s.handle("DELETE /volumes/{name}", s.removeVolume)
}

func (s *Server) listVolumes(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	all, err := s.e.Volumes(r.Context(), f)
	if err != nil {
		return err
	}
	list := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	for _, v := range all {
		list.Volumes = append(list.Volumes, *v)
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) createVolume(w http.ResponseWriter, r *http.Request) error {
	var body volume.CreateRequest
	if err := decode(r, &body, true); err != nil {
		return err
	}
	v, err := s.e.CreateVolume(r.Context(), body)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, v)
}

func (s *Server) inspectVolume(w http.ResponseWriter, r *http.Request) error {
	v, err := s.e.InspectVolume(r.Context(), r.PathValue("name"))
	return ok(w, v, err)
}

func (s *Server) removeVolume(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.e.RemoveVolume(r.Context(), r.PathValue("name"), flag(r, "force")))
}

// pruneVolumes deletes those that nobody has named. Until 1.41 it was all.
func (s *Server) pruneVolumes(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	if before(r, 42) {
		all := map[string][]string{"all": {"true"}}
		for name, values := range f {
			all[name] = values
		}
		f = all
	}
	report, err := s.e.PruneVolumes(r.Context(), f)
	return ok(w, report, err)
}
