//go:build linux

package engine

import (
	"errors"
	"fmt"
)

// Kind is what kind of an error it is: who asks may do something about it, or not.
type Kind int

// The kinds, and the HTTP status that Docker has for each.
const (
	Internal    Kind = iota // 500
	NotFound                // 404
	Conflict                // 409: the state of something does not allow it
	Invalid                 // 400
	NotModified             // 304: it is so already
	Unavailable             // 501: this engine, or this machine, has it not
	Forbidden               // 403: nobody may do that
)

// Error is an error of a kind.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Code is the kind of an error.
func Code(err error) Kind {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// failed is an error of a kind, from words.
func failed(kind Kind, format string, args ...any) error {
	return &Error{kind, fmt.Errorf(format, args...)}
}

// StartError says that a container was not started, and the exit status that run has then: 125
// for the engine's own failure, 126 if the program cannot be executed, 127 if there is none.
type StartError struct {
	Status int
	Err    error
}

func (e *StartError) Error() string { return e.Err.Error() }

func (e *StartError) Unwrap() error { return e.Err }
