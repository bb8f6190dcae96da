//go:build linux

package api

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/sirupsen/logrus"

	"minidocker/final/engine"
)

const debugLevel = logrus.DebugLevel

// counts are what Metrics shows.
type counts struct {
	mu     sync.Mutex
	by     map[counted]*count
	flight int
}

// counted is what requests are told apart by. A path is a pattern: there are so many.
type counted struct {
	method, path string
	status       int
}

type count struct {
	requests int64
	seconds  float64
}

// measured counts what a handler answers.
func (c *counts) measured(method, path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		c.mu.Lock()
		c.flight++
		c.mu.Unlock()
		defer func() {
			status := 0
			if a, ok := w.(*answer); ok {
				status = a.status
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.flight--
			key := counted{cmp.Or(method, r.Method), path, status}
			if c.by == nil {
				c.by = map[counted]*count{}
			}
			if c.by[key] == nil {
				c.by[key] = &count{}
			}
			c.by[key].requests++
			c.by[key].seconds += time.Since(began).Seconds()
		}()
		h.ServeHTTP(w, r)
	})
}

// Metrics serves what Prometheus reads: its text format, version 0.0.4.
func (s *Server) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		containers, err := s.e.Containers(r.Context(), engine.ListOptions{All: true})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.counts.write(w)
		writeGauges(w, containers)
	})
}

func (c *counts) write(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]counted, 0, len(c.by))
	for key := range c.by {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b counted) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.method, b.method),
			cmp.Compare(a.status, b.status))
	})
	describe(w, "minidocker_api_requests_total", "counter", "Requests that were answered.")
	for _, k := range keys {
		fmt.Fprintf(w, "minidocker_api_requests_total{%s} %d\n", k, c.by[k].requests)
	}
	describe(w, "minidocker_api_seconds_total", "counter", "Time that the answers took.")
	for _, k := range keys {
		fmt.Fprintf(w, "minidocker_api_seconds_total{%s} %g\n", k, c.by[k].seconds)
	}
	describe(w, "minidocker_api_requests_in_flight", "gauge", "Requests that are being answered.")
	fmt.Fprintf(w, "minidocker_api_requests_in_flight %d\n", c.flight)
}

func (k counted) String() string {
	return fmt.Sprintf(`method="%s",path="%s",status="%d"`, k.method, k.path, k.status)
}

func describe(w io.Writer, name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func writeGauges(w io.Writer, containers []container.Summary) {
	states := map[container.ContainerState]int{}
	for _, c := range containers {
		states[c.State]++
	}
	describe(w, "minidocker_containers", "gauge", "Containers by their state.")
	for _, state := range []container.ContainerState{container.StateCreated,
		container.StateRunning, container.StatePaused, container.StateRestarting,
		container.StateExited, container.StateDead} {
		fmt.Fprintf(w, "minidocker_containers{state=\"%s\"} %d\n", state, states[state])
	}
	goroutines, files := running()
	for _, g := range []struct {
		name, help string
		value      int64
	}{
		{"go_goroutines", "Goroutines.", int64(goroutines)},
		{"process_open_fds", "Open files.", int64(files)},
		{"process_resident_memory_bytes", "Memory.", resident()},
	} {
		describe(w, g.name, "gauge", g.help)
		fmt.Fprintf(w, "%s %d\n", g.name, g.value)
	}
	describe(w, "minidocker_info", "gauge", "Which version this is.")
	fmt.Fprintf(w, "minidocker_info{version=\"%s\",api=\"%s\"} 1\n", engine.Version,
		engine.APIVersion)
}

// running says how many goroutines and open files this process has.
func running() (goroutines, files int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return runtime.NumGoroutine(), 0
	}
	return runtime.NumGoroutine(), len(entries) - 1 // one is the folder itself
}

// resident is the process's memory, in bytes: statm in proc(5).
func resident() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var all, pages int64
	if _, err := fmt.Fscan(strings.NewReader(string(data)), &all, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
