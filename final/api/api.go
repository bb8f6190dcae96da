//go:build linux

// Package api is the engine's second door: the Docker Engine REST API, so that the real docker
// command line, Compose, and programs that use Docker's libraries can drive it. The first door is
// package cli, which needs no daemon; both may be open at once, since no process owns the state.
//
//	docker ──HTTP/1.1──> /run/minidocker.sock ──> Server ──> engine.Engine ──> files, shims
//
// The requests and answers are those of version 1.47,
// https://docs.docker.com/reference/api/engine/version/v1.47/, in the types of
// github.com/moby/moby/api. The engine speaks in the same types, and so a handler
// decodes, calls one method and encodes. What is more than that is about streams: see stream.go
// for the wire, attach.go and exec.go for who is at its ends.
//
// What a daemon has in memory are the connections, exec's objects, and attachments to containers
// that are yet to be started. If it is killed, containers go on, and logs and attach find them.
package api

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"minidocker/final/engine"
	"minidocker/final/image/registry"
)

// Options is how a Server serves.
type Options struct {
	// Log is told what happened; nil: nobody is.
	Log *logrus.Logger
	// Build, if there is one, gives what answers a POST /build that brings these credentials.
	Build func(credentials func(domain string) (registry.Credentials, error)) http.Handler
	// PruneBuild, if there is one, empties the builder's cache; it gives the bytes that are free then.
	PruneBuild func(context.Context) (int64, error)
	// Insecure allows registries without TLS, or with certificates that nobody vouches for.
	Insecure bool
}

// Server serves the API. It is an http.Handler.
type Server struct {
	e       *engine.Engine
	o       Options
	log     *logrus.Logger
	mux     *http.ServeMux
	execs   execs
	pending pending
	counts  counts
	// stop ends what goes on beside requests; done is its other side.
	done context.Context
	stop context.CancelFunc
	busy sync.WaitGroup
}

// New makes a server for an engine. It must be closed.
func New(e *engine.Engine, o Options) *Server {
	s := &Server{e: e, o: o, log: o.Log, mux: http.NewServeMux()}
	if s.log == nil {
		s.log = logrus.New()
		s.log.SetLevel(logrus.PanicLevel)
	}
	s.done, s.stop = context.WithCancel(context.Background())
	s.routes()
	return s
}

// Close lets go of all connections that were hijacked, and waits for that. Containers go on.
func (s *Server) Close() {
	s.stop()
	s.busy.Wait()
}

// handler answers a request. Its error becomes the answer, unless one has begun.
type handler func(w http.ResponseWriter, r *http.Request) error

func (s *Server) handle(pattern string, h handler) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = "", pattern
	}
	s.mux.Handle(pattern, s.counts.measured(method, path, http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})))
}

// routes is the list of all that is served.
func (s *Server) routes() {
	s.systemRoutes()
	s.containerRoutes()
	s.imageRoutes()
	s.networkRoutes()
	s.volumeRoutes()
	s.handle("POST /containers/{id}/exec", s.createExec)
	s.handle("POST /exec/{id}/start", s.startExec)
	s.handle("POST /exec/{id}/resize", s.resizeExec)
	s.handle("GET /exec/{id}/json", s.inspectExec)
	s.handle("/swarm/", s.noSwarm)
	for _, path := range []string{"/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"} {
		s.handle(path, s.noSwarm)
	}
	for path, what := range notHere {
		s.handle(path, func(http.ResponseWriter, *http.Request) error {
			return unavailable("%s", what)
		})
	}
	s.handle("/", func(http.ResponseWriter, *http.Request) error {
		return &engine.Error{Kind: engine.NotFound, Err: errNoPage}
	})
}

const (
	noSessions    = "BuildKit's sessions are not supported: build with DOCKER_BUILDKIT=0"
	noCheckpoints = "checkpoints are not supported"
	noPlugins     = "plugins are not supported"
)

// notHere are the endpoints that this engine lacks, and what is to be said of each.
var notHere = map[string]string{
	"POST /session":                           noSessions,
	"POST /grpc":                              noSessions,
	"GET /containers/{id}/attach/ws":          "attaching by WebSocket is not supported",
	"GET /containers/{id}/checkpoints":        noCheckpoints,
	"POST /containers/{id}/checkpoints":       noCheckpoints,
	"DELETE /containers/{id}/checkpoints/{n}": noCheckpoints,
	"GET /plugins/privileges":                 noPlugins,
	"POST /plugins/":                          noPlugins,
	"DELETE /plugins/":                        noPlugins,
	"GET /distribution/{name...}":             "a registry is looked into by pulling",
	"PUT /volumes/{name}":                     "cluster volumes are not supported",
}
