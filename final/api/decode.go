//go:build linux

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"minidocker/final/engine"
)

// What a body of JSON may be at most. A container's configuration with all its labels is some
// kilobytes; a seccomp profile, which is given as text, some hundred.
const (
	maxBody  = 4 << 20 // bytes
	maxDepth = 64      // of arrays and objects
)

// decode reads the request's body, JSON. One that is not there is as good as {} if that may be.
func decode(r *http.Request, value any, optional bool) error {
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return &statusError{http.StatusRequestEntityTooLarge,
			errors.New("the body is longer than 4 MiB")}
	}
	if err != nil {
		return invalid("read the body: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		if optional {
			return nil
		}
		return invalid("invalid JSON: got EOF while reading request body")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return invalid("unsupported Content-Type header (%s): must be 'application/json'",
			r.Header.Get("Content-Type"))
	}
	return parse(data, value)
}

// parse reads JSON that came from outside.
func parse(data []byte, value any) error {
	if depth(data) > maxDepth {
		return invalid("invalid JSON: nested deeper than %d", maxDepth)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(value); err != nil {
		return invalid("invalid JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("invalid JSON: unexpected content after JSON")
	}
	return nil
}

// depth is how deep arrays and objects are nested, of JSON or of what is none.
func depth(data []byte) int {
	now, most, text := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// flag is a query's yes or no, as Docker reads it: all but these is yes.
func flag(r *http.Request, name string) bool {
	switch strings.ToLower(strings.TrimSpace(r.FormValue(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// flagOr is flag of one that may not be there.
func flagOr(r *http.Request, name string, otherwise bool) bool {
	if _, there := r.Form[name]; !there {
		return otherwise
	}
	return flag(r, name)
}

// number is a query's number, otherwise if there is none.
func number(r *http.Request, name string, otherwise int) (int, error) {
	text := r.FormValue(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalid("%s=%q is not a number", name, text)
	}
	return n, nil
}

// filters are the query's: {"name": {"value": true}}, or, as it was long ago, {"name": ["value"]}.
func filters(r *http.Request) (engine.Filters, error) {
	text := r.FormValue("filters")
	if text == "" {
		return nil, nil
	}
	named := map[string]json.RawMessage{}
	if err := parse([]byte(text), &named); err != nil {
		return nil, err
	}
	f := engine.Filters{}
	for name, raw := range named {
		var set map[string]bool
		var list []string
		if json.Unmarshal(raw, &list) == nil {
			f[name] = list
			continue
		}
		if err := json.Unmarshal(raw, &set); err != nil {
			return nil, invalid("invalid filter %q: %w", name, err)
		}
		for value := range set {
			f[name] = append(f[name], value)
		}
	}
	return f, nil
}
