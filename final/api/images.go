//go:build linux

package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	apiregistry "github.com/moby/moby/api/types/registry"

	"minidocker/final/engine"
	"minidocker/final/engine/transfer"
	"minidocker/final/image/archive"
	"minidocker/final/image/registry"
)

func (s *Server) imageRoutes() {
	s.handle("GET /images/json", s.listImages)
	s.handle("POST /images/create", s.createImage)
	s.handle("POST /images/load", s.load)
	s.handle("POST /images/prune", s.pruneImages)
	s.handle("GET /images/search", s.search)
	s.handle("GET /images/get", s.saveMany)
	s.handle("POST /commit", s.commit)
	// A name has slashes in it: what is asked of it comes behind.
	s.handle("GET /images/{rest...}", s.behind(map[string]named{
		"json": s.inspectImage, "history": s.history, "get": s.saveOne}))
	s.handle("POST /images/{rest...}", s.behind(map[string]named{"push": s.push, "tag": s.tag}))
	s.handle("DELETE /images/{name...}", s.removeImage)
}

// named is a handler that is given an image's name.
type named func(w http.ResponseWriter, r *http.Request, name string) error

func (s *Server) behind(all map[string]named) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		rest := r.PathValue("rest")
		if i := strings.LastIndexByte(rest, '/'); i > 0 && all[rest[i+1:]] != nil {
			return all[rest[i+1:]](w, r, rest[:i])
		}
		return &engine.Error{Kind: engine.NotFound, Err: errNoPage}
	}
}

func (s *Server) listImages(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	if old := r.FormValue("filter"); old != "" { // a name; until 1.41
		if f == nil {
			f = engine.Filters{}
		}
		f["reference"] = append(f["reference"], old)
	}
	all, err := s.e.Images(r.Context(), engine.ImageListOptions{All: flag(r, "all"),
		Shared: flag(r, "shared-size"), Filters: f})
	if err != nil || !before(r, 44) {
		return ok(w, all, err)
	}
	old := []oldImage{}
	for _, i := range all {
		old = append(old, oldImage{i, i.Size})
	}
	return writeJSON(w, http.StatusOK, old)
}

func (s *Server) inspectImage(w http.ResponseWriter, r *http.Request, name string) error {
	i, err := s.e.InspectImage(r.Context(), name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, oldInspectImage(i, before(r, 45)))
}

func (s *Server) history(w http.ResponseWriter, r *http.Request, name string) error {
	h, err := s.e.History(r.Context(), name)
	return ok(w, h, err)
}

func (s *Server) tag(w http.ResponseWriter, r *http.Request, name string) error {
	target := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" {
		target += ":" + tag
	}
	if err := s.e.Tag(r.Context(), name, target); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) removeImage(w http.ResponseWriter, r *http.Request) error {
	removed, err := s.e.RemoveImage(context.WithoutCancel(r.Context()), r.PathValue("name"),
		flag(r, "force"))
	return ok(w, removed, err)
}

func (s *Server) pruneImages(w http.ResponseWriter, r *http.Request) error {
	f, err := filters(r)
	if err != nil {
		return err
	}
	report, err := s.e.PruneImages(r.Context(), f)
	return ok(w, report, err)
}

func (s *Server) saveOne(w http.ResponseWriter, r *http.Request, name string) error {
	return s.save(w, r, []string{name})
}

func (s *Server) saveMany(w http.ResponseWriter, r *http.Request) error {
	names := r.Form["names"]
	if len(names) == 0 {
		return invalid("names: which images?")
	}
	return s.save(w, r, names)
}

func (s *Server) save(w http.ResponseWriter, r *http.Request, names []string) error {
	l := newLazy(w, "application/x-tar")
	return l.end(transfer.Save(r.Context(), s.e, l, names, archive.FormatDocker))
}

func (s *Server) load(w http.ResponseWriter, r *http.Request) error {
	m := newMessages(w)
	loaded, err := transfer.Load(r.Context(), s.e, r.Body,
		archive.LoadOptions{Platform: r.FormValue("platform")})
	if err != nil { // which clients look for in the stream, with dockerd's 200
		return m.tell(err)
	}
	for _, l := range loaded {
		for _, name := range l.Names {
			if err := m.send(stream("Loaded image: " + name + "\n")); err != nil {
				return nil //nolint:nilerr // it is loaded, whether somebody reads that or not
			}
		}
		if len(l.Names) == 0 {
			_ = m.send(stream("Loaded image ID: " + l.Image.ID + "\n"))
		}
	}
	return m.end(nil)
}

func stream(text string) map[string]string { return map[string]string{"stream": text} }

// commit makes an image of a container.
func (s *Server) commit(w http.ResponseWriter, r *http.Request) error {
	var config *container.Config // what docker-py may send: the changes say it all
	if err := decode(r, &config, true); err != nil {
		return err
	}
	name := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" && name != "" {
		name += ":" + tag
	}
	img, err := transfer.Commit(context.WithoutCancel(r.Context()), s.e, r.FormValue("container"),
		transfer.CommitOptions{Name: name, Author: r.FormValue("author"),
			Message: r.FormValue("comment"), Changes: changesOf(r), Pause: flagOr(r, "pause", true)})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, container.CommitResponse{ID: img.ID})
}

// changesOf are the query's, lines of a Dockerfile.
func changesOf(r *http.Request) []string {
	var all []string
	for _, text := range r.Form["changes"] {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				all = append(all, line)
			}
		}
	}
	return all
}

func (s *Server) search(w http.ResponseWriter, r *http.Request) error {
	limit, err := number(r, "limit", 25)
	if err != nil {
		return err
	}
	auth, err := authHeader(r)
	if err != nil {
		return err
	}
	f, err := filters(r)
	if err != nil {
		return err
	}
	term := r.FormValue("term")
	found, err := transfer.Search(r.Context(), term, limit,
		transfer.PullOptions{Auth: auth, Insecure: s.o.Insecure})
	if err != nil {
		return err
	}
	results := []apiregistry.SearchResult{}
	for _, one := range found {
		if len(f["is-official"]) > 0 && f["is-official"][0] != strconv.FormatBool(one.Official) {
			continue
		}
		results = append(results, apiregistry.SearchResult{Name: one.Name, StarCount: one.Stars,
			Description: one.Description, IsOfficial: one.Official})
	}
	return writeJSON(w, http.StatusOK, results)
}

// authHeader are the credentials for a registry that came with the request. The daemon's own are
// not given to its clients.
func authHeader(r *http.Request) (*registry.Credentials, error) {
	var config apiregistry.AuthConfig
	if err := parseHeader(r, apiregistry.AuthHeader, &config); err != nil {
		return nil, err
	}
	return credentials(&config)
}

// parseHeader reads a header that is JSON in base64; without it value stays as it is.
func parseHeader(r *http.Request, name string, value any) error {
	text := r.Header.Get(name)
	if text == "" {
		return nil
	}
	data, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		if data, err = base64.StdEncoding.DecodeString(text); err != nil {
			return invalid("invalid %s header: %w", name, err)
		}
	}
	if err := parse(data, value); err != nil {
		return fmt.Errorf("%s header: %w", name, err)
	}
	return nil
}

// configHeader are the credentials that come with a build, for all registries that it may ask: the
// client's config.json.
func configHeader(r *http.Request) (func(string) (registry.Credentials, error), error) {
	var configs map[string]apiregistry.AuthConfig
	if err := parseHeader(r, "X-Registry-Config", &configs); err != nil {
		return nil, err
	}
	return func(domain string) (registry.Credentials, error) {
		config, ok := configs[registry.ConfigKey(domain)]
		if !ok {
			return registry.Credentials{}, nil
		}
		auth, err := credentials(&config)
		if err != nil {
			return registry.Credentials{}, err
		}
		return *auth, nil
	}, nil
}

// credentials are what a client's configuration says; Auth is base64 of NAME:PASSWORD.
func credentials(c *apiregistry.AuthConfig) (*registry.Credentials, error) {
	auth := &registry.Credentials{Username: c.Username, Password: c.Password,
		IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}
	if auth.Username == "" && c.Auth != "" {
		data, err := base64.StdEncoding.DecodeString(c.Auth)
		name, password, found := strings.Cut(string(data), ":")
		if err != nil || !found {
			return nil, invalid("the credentials' auth is not base64 of NAME:PASSWORD")
		}
		auth.Username, auth.Password = name, strings.TrimRight(password, "\x00")
	}
	return auth, nil
}

// fail says what went wrong: as an answer, or, when that has begun, in the stream.
func (m *messages) fail(err error) error {
	m.lazy.mu.Lock()
	begun := m.begun || len(m.buffer) > 0
	m.lazy.mu.Unlock()
	if !begun {
		return m.end(err)
	}
	return m.tell(err)
}

// tell says in the stream what went wrong.
func (m *messages) tell(err error) error {
	if !errors.Is(err, errGone) {
		_ = m.send(map[string]any{"error": err.Error(), // or nobody is there to read it
			"errorDetail": map[string]any{"message": err.Error()}})
	}
	return m.end(nil)
}

// copyBody copies what may be long.
func copyBody(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(w, r, make([]byte, lazyBuffer))
}
