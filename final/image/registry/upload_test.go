//go:build linux

package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"minidocker/final/image"
	"minidocker/final/image/imagetest"
	"minidocker/final/image/registry"
)

// memory is a registry that keeps what has come of an upload that broke off, as the real one does
// and go-containerregistry's does not.
type memory struct {
	mu       sync.Mutex
	blobs    map[string][]byte // and manifests, by digest and tag
	types    map[string]string
	uploads  map[string][]byte
	next     int
	patches  int
	restarts int // patches that began where another broke off
	// fault is asked before anything else; true is that it has answered.
	fault func(w http.ResponseWriter, r *http.Request) bool
	// most is how many bytes of a patch come before the connection breaks; 0: all.
	most int
}

func serveMemory(t testing.TB) (*memory, string) {
	t.Helper()
	m := &memory{blobs: map[string][]byte{}, types: map[string]string{}, uploads: map[string][]byte{}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return m, strings.TrimPrefix(server.URL, "http://")
}

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.fault != nil && m.fault(w, r) {
		return
	}
	_, last, _ := strings.Cut(r.URL.Path, "/v2/")
	last = last[strings.LastIndex(last, "/")+1:]
	switch {
	case strings.Contains(r.URL.Path, "/uploads/"):
		m.upload(w, r, last)
	case r.Method == http.MethodPut:
		text, _ := io.ReadAll(r.Body)
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, name := range []string{last, image.DigestOf(text)} {
			m.blobs[name], m.types[name] = text, r.Header.Get("Content-Type")
		}
		w.WriteHeader(http.StatusCreated)
	case last != "":
		m.mu.Lock()
		defer m.mu.Unlock()
		content, ok := m.blobs[last]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", m.types[last])
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func (m *memory) upload(w http.ResponseWriter, r *http.Request, id string) {
	m.mu.Lock()
	if r.Method == http.MethodPost {
		m.next++
		id = fmt.Sprint(m.next)
		m.uploads[id] = []byte{}
	}
	have, ok := m.uploads[id]
	m.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Location", "/v2/x/blobs/uploads/"+id+"?state=1")
	switch r.Method {
	case http.MethodPost:
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch:
		have = m.patch(w, r, id, have)
		w.Header().Set("Range", fmt.Sprintf("0-%d", len(have)-1))
		w.WriteHeader(http.StatusAccepted)
	case http.MethodGet:
		w.Header().Set("Range", fmt.Sprintf("0-%d", len(have)-1))
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPut:
		if image.DigestOf(have) != r.URL.Query().Get("digest") || r.URL.Query().Get("state") != "1" {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		m.mu.Lock()
		m.blobs[image.DigestOf(have)] = have
		delete(m.uploads, id)
		m.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	}
}

func (m *memory) patch(w http.ResponseWriter, r *http.Request, id string, have []byte) []byte {
	if c := r.Header.Get("Content-Range"); c != "" || len(have) > 0 {
		var from, to int
		if _, err := fmt.Sscanf(c, "%d-%d", &from, &to); err != nil || from != len(have) {
			http.Error(w, c, http.StatusRequestedRangeNotSatisfiable)
			panic(http.ErrAbortHandler)
		}
	}
	most := int64(1 << 40)
	if m.most > 0 {
		most = int64(m.most)
	}
	part, err := io.ReadAll(io.LimitReader(r.Body, most))
	more, _ := r.Body.Read(make([]byte, 1))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.patches++
	if len(have) > 0 {
		m.restarts++
	}
	have = append(have, part...)
	m.uploads[id] = have
	if err != nil || more > 0 {
		panic(http.ErrAbortHandler)
	}
	return have
}

// TestPush_Faults has a bad connection, on which it goes well nevertheless.
func TestPush_Faults(t *testing.T) {
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	img := fruits(t, store, layers)
	once := func(is func(r *http.Request) bool, answer func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
		var mu sync.Mutex
		seen := map[string]bool{}
		return func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			key := r.Method + r.URL.Path
			if seen[key] || !is(r) {
				return false
			}
			seen[key] = true
			answer(w)
			return true
		}
	}
	always := func(*http.Request) bool { return true }
	for name, fault := range map[string]func(m *memory){
		"cut off": func(m *memory) { m.most = 60 << 10 },
		"busy": func(m *memory) {
			m.fault = once(always, func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) })
		},
		"breaks at once": func(m *memory) {
			m.fault = once(func(r *http.Request) bool { return r.URL.Path != "/v2/" },
				func(http.ResponseWriter) { panic(http.ErrAbortHandler) })
		},
		"forgets": func(m *memory) {
			m.most = 150 << 10
			forgot := 0
			m.fault = once(func(r *http.Request) bool {
				forget := r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/")
				if forget {
					forgot++
				}
				return forget && forgot <= 2
			}, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) })
		},
		"loses answers": func(m *memory) {
			var mu sync.Mutex
			seen := map[string]bool{}
			m.fault = func(_ http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				again := seen[r.URL.Path]
				seen[r.URL.Path] = true
				mu.Unlock()
				if r.Method != http.MethodPut || again {
					return false
				}
				m.fault = nil
				m.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, host := serveMemory(t)
			fault(m)
			if err := store.Tag(img.ID, host+"/fruits"); err != nil {
				t.Fatal(err)
			}
			c := client()
			p, err := c.Push(t.Context(), store, host+"/fruits", registry.PushOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if name == "cut off" && m.restarts == 0 {
				t.Errorf("of %d patches, none went on where another broke off", m.patches)
			}
			m.most, m.fault = 0, nil
			to := &imagetest.Layers{}
			got, err := c.Pull(t.Context(), imagetest.Open(t), to, host+"/fruits@"+p.Digest, registry.PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			same(t, got.Image, to, img, layers)
		})
	}
}

// TestPush_Refused has registries that do not take it.
func TestPush_Refused(t *testing.T) {
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	img := fruits(t, store, layers)
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"no uploads": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodPost
		},
		"no place": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusAccepted)
			}
			return r.Method == http.MethodPost
		},
		"an odd place": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				w.Header().Set("Location", "file:///tmp/x")
				w.WriteHeader(http.StatusAccepted)
			}
			return r.Method == http.MethodPost
		},
		"breaks always": func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch {
				panic(http.ErrAbortHandler)
			}
			return false
		},
		"no manifests": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				http.Error(w, `{"errors":[{"code":"MANIFEST_INVALID"}]}`, http.StatusBadRequest)
				return true
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, host := serveMemory(t)
			m.fault = fault
			if err := store.Tag(img.ID, host+"/fruits"); err != nil {
				t.Fatal(err)
			}
			p, err := client().Push(t.Context(), store, host+"/fruits", registry.PushOptions{})
			if err == nil {
				t.Fatalf("got %v", p)
			}
			t.Log(err)
			if got, err := store.Lookup(img.ID); err != nil || len(got.RepoDigests) != 0 {
				t.Errorf("the image is %v, %v", got, err)
			}
		})
	}
}
