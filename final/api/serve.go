//go:build linux

package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"minidocker/final/engine"
)

// request is what is noted of one.
type request struct {
	id      string  // in the log, and in the answer's header
	version version // of the API that the client speaks
}

type requestKey struct{}

func requestOf(r *http.Request) *request {
	in, _ := r.Context().Value(requestKey{}).(*request)
	if in == nil {
		return &request{version: newest}
	}
	return in
}

// entry is the beginning of what is to be said in the log of a request.
func (s *Server) entry(r *http.Request) *logrus.Entry {
	return s.log.WithFields(logrus.Fields{
		"request": requestOf(r).id, "method": r.Method, "path": r.URL.Path})
}

// version is one of the API's, of which all begin with "1.".
type version int

func (v version) String() string { return fmt.Sprintf("1.%d", int(v)) }

// The newest is spoken to who does not say.
var newest, oldest = mustVersion(engine.APIVersion), mustVersion(engine.MinAPIVersion)

func mustVersion(text string) version {
	v, ok := parseVersion(text)
	if !ok {
		panic("version " + text)
	}
	return v
}

func parseVersion(text string) (version, bool) {
	minor, ok := strings.CutPrefix(text, "1.")
	n, err := strconv.ParseUint(minor, 10, 16)
	return version(n), ok && err == nil
}

// before says whether the client speaks an older version than 1.N.
func before(r *http.Request, n version) bool { return requestOf(r).version < n }

// ServeHTTP answers a request, whatever comes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := &request{id: requestID(), version: newest}
	a := &answer{ResponseWriter: w}
	header(a.Header(), in)
	r = r.Clone(context.WithValue(r.Context(), requestKey{}, in))
	r.Form = r.URL.Query() // of the body nothing is a form
	if s.log.IsLevelEnabled(logrus.DebugLevel) {
		began := time.Now()
		defer func() {
			s.entry(r).WithFields(logrus.Fields{"status": a.status, "bytes": a.bytes,
				"took": time.Since(began).String()}).Debug("answered")
		}()
	}
	if err := in.choose(r); err != nil {
		s.fail(a, r, err)
		return
	}
	s.mux.ServeHTTP(a, r)
}

// choose takes the version off the path: /v1.41/info is /info.
func (in *request) choose(r *http.Request) error {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v")
	if !ok || rest == "" || rest[0] < '0' || rest[0] > '9' {
		return nil
	}
	text, path, _ := strings.Cut(rest, "/")
	v, ok := parseVersion(text)
	switch {
	case !ok:
		return invalid("invalid version %q in the path", text)
	case v > newest:
		return invalid("client version %s is too new. Maximum supported API version is %s", v, newest)
	case v < oldest:
		return invalid("client version %s is too old. Minimum supported API version is %s, please "+
			"upgrade your client to a newer version", v, oldest)
	}
	in.version = v
	r.URL.Path = "/" + path
	r.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, "/v"+text)
	return nil
}

// header sets what every answer says.
func header(h http.Header, in *request) {
	h.Set("Api-Version", engine.APIVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", runtime.GOOS)
	h.Set("Server", "minidocker/"+engine.Version+" (linux)")
	h.Set("X-Request-Id", in.id)
}

func requestID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// answer is an answer that is watched.
type answer struct {
	http.ResponseWriter
	status int // 0: nothing has been said yet
	bytes  int64
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush sends what was written.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// WriteHeader begins the answer.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(data []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(data)
	a.bytes += int64(n)
	return n, err
}

// begun says whether something has been answered.
func begun(w http.ResponseWriter) bool {
	a, ok := w.(*answer)
	return ok && a.status != 0
}
