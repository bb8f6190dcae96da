//go:build linux

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"minidocker/final/engine"
)

var errNoPage = errors.New("page not found")

// statuses are HTTP's for the engine's kinds of errors, as dockerd has them.
var statuses = map[engine.Kind]int{
	engine.Internal:    http.StatusInternalServerError,
	engine.NotFound:    http.StatusNotFound,
	engine.Conflict:    http.StatusConflict,
	engine.Invalid:     http.StatusBadRequest,
	engine.NotModified: http.StatusNotModified,
	engine.Unavailable: http.StatusNotImplemented,
	engine.Forbidden:   http.StatusForbidden,
}

// statusError is an error with a status that the engine has no kind for.
type statusError struct {
	status int
	error
}

func (e *statusError) Unwrap() error { return e.error }

func invalid(format string, args ...any) error {
	return &engine.Error{Kind: engine.Invalid, Err: fmt.Errorf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &engine.Error{Kind: engine.Conflict, Err: fmt.Errorf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &engine.Error{Kind: engine.NotFound, Err: fmt.Errorf(format, args...)}
}

func unavailable(format string, args ...any) error {
	return &engine.Error{Kind: engine.Unavailable, Err: fmt.Errorf(format, args...)}
}

// statusOf is the status of an error.
func statusOf(err error) int {
	if s := (*statusError)(nil); errors.As(err, &s) {
		return s.status
	}
	if s := (*engine.StartError)(nil); errors.As(err, &s) && s.Status != 125 {
		return http.StatusBadRequest // it is the user's program that is at fault
	}
	if errors.Is(err, context.Canceled) {
		return 499 // the client is gone; nginx's number, for the log alone
	}
	return statuses[engine.Code(err)]
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	entry := s.entry(r).WithField("status", status).WithError(err)
	if status >= 500 && status != http.StatusNotImplemented {
		entry.Error("failed")
	} else {
		entry.Debug("refused")
	}
	if begun(w) {
		// Half an answer must not look like a whole one.
		panic(http.ErrAbortHandler)
	}
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	_ = writeJSON(w, status, map[string]string{"message": err.Error()}) // or the client is gone
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// ok answers with a value, of a method that gave an error or not.
func ok[T any](w http.ResponseWriter, value T, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, value)
}

// done answers that it is done, and nothing more.
func done(w http.ResponseWriter, err error) error {
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
