//go:build linux

package engine

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/volume"
)

// Filters are what a list is to be held to: of the values of one name one must fit, and all names
// must. Labels are an exception: all must fit.
type Filters map[string][]string

// check refuses filters that nobody knows.
func (f Filters) check(known ...string) error {
	for name := range f {
		if len(f[name]) > 0 && !slices.Contains(known, name) {
			return failed(Invalid, "invalid filter '%s'", name)
		}
	}
	return nil
}

func (f Filters) first(name string) string {
	if len(f[name]) == 0 {
		return ""
	}
	return f[name][0]
}

// any says whether one of a name's values fits, or there is none.
func (f Filters) any(name string, fits func(value string) bool) bool {
	return len(f[name]) == 0 || slices.ContainsFunc(f[name], fits)
}

// labels says whether all labels fit: NAME or NAME=VALUE.
func (f Filters) labels(labels map[string]string) bool {
	fits := func(want string) bool {
		name, value, valued := strings.Cut(want, "=")
		have, ok := labels[name]
		return ok && (!valued || have == value)
	}
	for _, want := range f["label"] {
		if !fits(want) {
			return false
		}
	}
	return !slices.ContainsFunc(f["label!"], fits)
}

// dangling is the filter of that name, which says yes or no; set is false if it is not there.
func (f Filters) dangling() (value, set bool, err error) {
	text := f.first("dangling")
	switch strings.ToLower(text) {
	case "":
		return false, false, nil
	case "1", "true", "t":
		return true, true, nil
	case "0", "false", "f":
		return false, true, nil
	}
	return false, false, failed(Invalid, "invalid filter 'dangling=%s'", text)
}

func (f Filters) volume(v *volume.Volume, dangling bool) (bool, error) {
	want, set, err := f.dangling()
	if err != nil {
		return false, err
	}
	return (!set || want == dangling) && f.labels(v.Labels) &&
		f.any("driver", func(d string) bool { return d == v.Driver }) &&
		f.any("name", func(n string) bool { return strings.Contains(v.Name, n) }), nil
}

// until is the filter's time: one, or a duration before now. The zero time is none.
func (f Filters) until() (time.Time, error) {
	text := f.first("until")
	if text == "" {
		return time.Time{}, nil
	}
	return parseTime(text, time.Now())
}

// parseTime is a time as Docker's options have it: RFC 3339 or its beginnings, seconds since 1970
// with a fraction, or a duration before now ("10m", "1h30m").
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		seconds, fraction, _ := strings.Cut(text, ".")
		whole, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return time.Time{}, failed(Invalid, "invalid time %q", text)
		}
		nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		return time.Unix(whole, nanos), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999",
		"2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, failed(Invalid, "invalid time %q: want 2006-01-02T15:04:05Z, seconds since "+
		"1970, or how long ago, as 10m", text)
}
