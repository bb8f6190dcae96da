//go:build linux

package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/imagetest"
	"minidocker/final/image/ingest"
	"minidocker/final/image/registry"
)

// server is a registry in this process, with somebody in between who can do anything.
type server struct {
	*httptest.Server
	host  string
	inner http.Handler

	mu       sync.Mutex
	requests []string // METHOD PATH
	// between is given each request, and says whether it has answered it.
	between func(w http.ResponseWriter, r *http.Request) bool
}

func serve(t testing.TB, between func(w http.ResponseWriter, r *http.Request) bool) *server {
	t.Helper()
	s := &server{between: between}
	s.Server = httptest.NewServer(s.handler())
	s.host = strings.TrimPrefix(s.URL, "http://")
	t.Cleanup(s.Close)
	return s
}

func (s *server) handler() http.Handler {
	s.inner = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		between := s.between
		s.mu.Unlock()
		if between == nil || !between(w, r) {
			s.inner.ServeHTTP(w, r)
		}
	})
}

// put sets who is in between, and forgets the requests until now.
func (s *server) put(between func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.between, s.requests = between, nil
}

// count is how many requests there were that begin so and have that in them.
func (s *server) count(method, part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// client is one that knows no credentials and does not wait for long.
func client() *registry.Client {
	return &registry.Client{
		Credentials: func(string) (registry.Credentials, error) { return registry.Credentials{}, nil },
		Backoff:     time.Millisecond,
	}
}

// fruits is an image of four layers: plain, gzip, zstd and one that is there twice.
func fruits(t testing.TB, s *image.Store, layers image.Layers, names ...string) *image.Image {
	t.Helper()
	apple := imagetest.Tar(t, "apple", strings.Repeat("apple ", 100000))
	text := imagetest.Tar(t, "oci-layout", "")
	img, err := archive.Import(t.Context(), s, layers, bytes.NewReader(apple),
		archive.ImportOptions{Created: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range [][]byte{
		imagetest.Gzip(t, imagetest.Random(t, "pear", 300<<10)),
		imagetest.Zstd(t, imagetest.Random(t, "plum", 200<<10)), apple, text,
	} {
		if img, err = archive.Commit(t.Context(), s, layers, img, bytes.NewReader(layer),
			archive.CommitOptions{Created: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		if err := s.Tag(img.ID, name); err != nil {
			t.Fatal(err)
		}
	}
	if img, err = s.Lookup(img.ID); err != nil {
		t.Fatal(err)
	}
	return img
}

// pushed is a registry with an image in it, host/fruits:1.
func pushed(t testing.TB) (*server, *image.Image, *imagetest.Layers, string) {
	t.Helper()
	s := serve(t, nil)
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	name := s.host + "/fruits:1"
	img := fruits(t, store, layers, name)
	p, err := client().Push(t.Context(), store, name, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.put(nil)
	return s, img, layers, p.Digest
}

func TestPushPull(t *testing.T) {
	s, img, layers, digest := pushed(t)
	for name, pull := range map[string]string{
		"by tag":            s.host + "/fruits:1",
		"by digest":         s.host + "/fruits@" + digest,
		"by tag and digest": s.host + "/fruits:nonsense@" + digest,
	} {
		t.Run(name, func(t *testing.T) {
			store, to := imagetest.Open(t), &imagetest.Layers{Ordered: name == "by digest"}
			var mu sync.Mutex
			events := map[ingest.Status]int{}
			p, err := client().Pull(t.Context(), store, to, pull, registry.PullOptions{
				Progress: func(e ingest.Event) {
					mu.Lock()
					defer mu.Unlock()
					events[e.Status]++
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if p.Image.ID != img.ID || p.Digest != digest || !p.Newer {
				t.Errorf("got %v", p)
			}
			same(t, p.Image, to, img, layers)
			if want := []string{s.host + "/fruits@" + digest}; !slices.Equal(p.Image.RepoDigests, want) {
				t.Errorf("got digests %q, want %q", p.Image.RepoDigests, want)
			}
			if got, err := store.Lookup(pull); err != nil || got.ID != img.ID {
				t.Errorf("the name that was pulled is %v, %v", got, err)
			}
			if events[ingest.Done] != 5 || events[ingest.Waiting] != 5 || events[ingest.Fetching] < 8 {
				t.Errorf("got events %v", events)
			}
			s.put(nil)
			if p, err = client().Pull(t.Context(), store, to, pull, registry.PullOptions{}); err != nil || p.Newer {
				t.Errorf("pull again: %v, %v", p, err)
			}
			if n := s.count("GET", "/blobs/"); n != 1 {
				t.Errorf("pulled again, there were %d requests for blobs, want the configuration's", n)
			}
		})
	}
}

func same(t testing.TB, got *image.Image, to *imagetest.Layers, want *image.Image, from *imagetest.Layers) {
	t.Helper()
	if !slices.Equal(got.ChainIDs, want.ChainIDs) {
		t.Errorf("got layers %q, want %q", got.ChainIDs, want.ChainIDs)
	}
	for _, id := range want.ChainIDs {
		if !bytes.Equal(to.Archive(id), from.Archive(id)) {
			t.Errorf("layer %s is another", id)
		}
	}
}

// TestPush_Same sees that an image goes out with the digest that it came in with.
func TestPush_Same(t *testing.T) {
	s, _, _, digest := pushed(t)
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	if _, err := client().Pull(t.Context(), store, layers, s.host+"/fruits:1", registry.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	other := serve(t, nil)
	name := other.host + "/basket/f"
	if err := store.Tag(s.host+"/fruits:1", name); err != nil {
		t.Fatal(err)
	}
	p, err := client().Push(t.Context(), store, name, registry.PushOptions{})
	if err != nil || p.Digest != digest {
		t.Fatalf("got %v, %v, want digest %s", p, err, digest)
	}
	got, err := store.Lookup(other.host + "/basket/f@" + digest)
	if err != nil || len(got.RepoDigests) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestPush_There sees that what the registry has is not sent.
func TestPush_There(t *testing.T) {
	s := serve(t, nil)
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	fruits(t, store, layers, s.host+"/fruits:1", s.host+"/fruits:2", s.host+"/other/f")
	first, err := client().Push(t.Context(), store, s.host+"/fruits:1", registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.count("PATCH", "/uploads/"); n != 5 {
		t.Errorf("%d blobs were sent, want 4 layers and the configuration", n)
	}
	s.put(nil)
	var mu sync.Mutex
	events := map[registry.PushStatus]int{}
	progress := func(e registry.PushEvent) {
		mu.Lock()
		defer mu.Unlock()
		events[e.Status]++
	}
	again, err := client().Push(t.Context(), store, s.host+"/fruits:2", registry.PushOptions{Progress: progress})
	if err != nil || again.Digest != first.Digest {
		t.Errorf("got %v, %v, want digest %s", again, err, first.Digest)
	}
	if n := s.count("PATCH", "") + s.count("POST", ""); n != 0 || events[registry.PushExists] != 4 {
		t.Errorf("there were %d uploads, and events %v", n, events)
	}
	// ggcr's registry has blobs in all repositories: this one does not say so.
	s.put(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		if q := r.URL.Query(); q.Get("mount") != "" && q.Get("from") == "fruits" {
			w.WriteHeader(http.StatusCreated)
			return true
		}
		return false
	})
	clear(events)
	if _, err := client().Push(t.Context(), store, s.host+"/other/f", registry.PushOptions{Progress: progress}); err != nil {
		t.Fatal(err)
	}
	if n := s.count("PATCH", ""); n != 1 || events[registry.Mounted] != 4 {
		t.Errorf("there were %d uploads, want the configuration's; events %v", n, events)
	}
}

// TestPull_Faults has a bad connection, on which it goes well nevertheless.
func TestPull_Faults(t *testing.T) {
	s, img, layers, _ := pushed(t)
	isBlob := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	for name, between := range map[string]func(t *testing.T, seen int) func(http.ResponseWriter, *http.Request) bool{
		"cut off": func(*testing.T, int) func(http.ResponseWriter, *http.Request) bool {
			return cut(s, true, 50<<10)
		},
		"cut off at once": func(*testing.T, int) func(http.ResponseWriter, *http.Request) bool {
			n := 0
			inner := cut(s, true, 90<<10)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if n++; isBlob(r) && n%2 == 0 {
					panic(http.ErrAbortHandler)
				}
				return inner(w, r)
			}
		},
		"no ranges": func(*testing.T, int) func(http.ResponseWriter, *http.Request) bool {
			return cut(s, false, 150<<10)
		},
		"busy": func(*testing.T, int) func(http.ResponseWriter, *http.Request) bool {
			var mu sync.Mutex
			tried := map[string]int{}
			return func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if tried[r.URL.Path]++; tried[r.URL.Path] <= 2 {
					w.WriteHeader([]int{503, 429, 502, 500, 504}[len(tried)%5])
					return true
				}
				return false
			}
		},
		"stalls": func(*testing.T, int) func(http.ResponseWriter, *http.Request) bool {
			return stall(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.put(nil)
			s.put(between(t, 0))
			store, to := imagetest.Open(t), &imagetest.Layers{}
			c := client()
			c.Stall = 300 * time.Millisecond
			p, err := c.Pull(t.Context(), store, to, s.host+"/fruits:1", registry.PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			same(t, p.Image, to, img, layers)
			t.Logf("%d requests for blobs", s.count("GET", "/blobs/"))
		})
	}
}

// content gets a blob or a manifest from the registry itself.
func (s *server) content(r *http.Request) []byte {
	w := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	s.inner.ServeHTTP(w, r)
	return w.Body.Bytes()
}

// cut gives n bytes of a blob, and then breaks the connection.
func cut(s *server, ranges bool, n int) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	given := n
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		content, at := s.content(r), 0
		whole := len(content)
		if ranges && r.Header.Get("Range") != "" {
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, whole-1, whole))
		}
		w.Header().Set("Content-Length", fmt.Sprint(whole-at))
		if at > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		if !ranges {
			given += n // else it never comes further
		}
		_, _ = w.Write(content[at:min(whole, at+given)])
		if at+given < whole {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		return true
	}
}

// stall gives a part of each layer, and then nothing, the first time.
func stall(s *server) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		again := seen[r.URL.Path]
		seen[r.URL.Path] = true
		mu.Unlock()
		if again || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		mu.Lock()
		content := s.content(r)
		mu.Unlock()
		if len(content) < 4096 { // the configuration
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
}

// TestPull_Hostile has registries that lie. Each is an error, and leaves nothing.
func TestPull_Hostile(t *testing.T) {
	s, img, _, digest := pushed(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("credentials have gone to another host: %q", r.Header)
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer elsewhere.Close()
	blob := func(answer func(w http.ResponseWriter, r *http.Request, content []byte)) func(http.ResponseWriter, *http.Request) bool {
		var mu sync.Mutex
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") ||
				strings.HasSuffix(r.URL.Path, img.ID) {
				return false
			}
			mu.Lock()
			defer mu.Unlock()
			answer(w, r, s.content(r))
			return true
		}
	}
	manifest := func(text, mediaType string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", mediaType)
			_, _ = io.WriteString(w, text)
			return true
		}
	}
	redirect := func(to func(r *http.Request) string) func(http.ResponseWriter, *http.Request) bool {
		return blob(func(w http.ResponseWriter, r *http.Request, _ []byte) {
			http.Redirect(w, r, to(r), http.StatusTemporaryRedirect)
		})
	}
	for name, test := range map[string]struct {
		between func(http.ResponseWriter, *http.Request) bool
		want    error
	}{
		"a byte is wrong": {between: blob(func(w http.ResponseWriter, _ *http.Request, content []byte) {
			content[len(content)/2]++
			_, _ = w.Write(content)
		})},
		"a byte is missing": {between: blob(func(w http.ResponseWriter, _ *http.Request, content []byte) {
			_, _ = w.Write(content[1:])
		})},
		"a byte too many, chunked": {between: blob(func(w http.ResponseWriter, _ *http.Request, content []byte) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(append(content, 0))
		})},
		"bytes without end": {between: blob(func(w http.ResponseWriter, r *http.Request, content []byte) {
			for r.Context().Err() == nil {
				if _, err := w.Write(content); err != nil {
					return
				}
			}
		})},
		"it breaks at the same place": {between: blob(func(w http.ResponseWriter, _ *http.Request, content []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			panic(http.ErrAbortHandler)
		})},
		"another range": {between: blob(func(w http.ResponseWriter, r *http.Request, content []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", len(content)-1, len(content)))
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(content[:len(content)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})},
		"a ring of redirects": {between: redirect(func(r *http.Request) string { return r.URL.Path })},
		"elsewhere":           {between: redirect(func(r *http.Request) string { return elsewhere.URL + r.URL.Path })},
		"to a file":           {between: redirect(func(*http.Request) string { return "file:///etc/passwd" })},
		"to a plain host":     {between: redirect(func(*http.Request) string { return "http://192.0.2.1/" })},
		"always busy": {between: func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}},
		"not allowed": {between: func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			return r.URL.Path != ""
		}, want: registry.ErrDenied},
		"no such tag": {between: func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
				return true
			}
			return false
		}, want: registry.ErrNotFound},
		"no JSON":         {between: manifest("<html>", "text/html")},
		"nothing":         {between: manifest("", imagespec.MediaTypeImageManifest)},
		"a huge manifest": {between: manifest(strings.Repeat(" ", image.MaxJSON+1), imagespec.MediaTypeImageManifest)},
		"deep nesting":    {between: manifest(strings.Repeat(`{"config":`, 50000), imagespec.MediaTypeImageManifest)},
		"schema 1":        {between: manifest(`{"schemaVersion":1,"fsLayers":[]}`, "application/vnd.docker.distribution.manifest.v1+json")},
		"another digest": {between: func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Docker-Content-Digest", img.ID)
				_, _ = w.Write(s.content(r))
				return true
			}
			return false
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s.put(test.between)
			hostile(t, s.host+"/fruits:1", test.want)
		})
	}
	t.Run("another manifest than was asked for", func(t *testing.T) {
		s.put(manifest(`{"schemaVersion":2,"config":{},"layers":[]}`, imagespec.MediaTypeImageManifest))
		hostile(t, s.host+"/fruits@"+digest, nil)
	})
	t.Run("nobody answers", func(t *testing.T) { hostile(t, "127.0.0.1:1/fruits", nil) })
}

func hostile(t *testing.T, name string, want error) {
	t.Helper()
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	p, err := client().Pull(t.Context(), store, layers, name, registry.PullOptions{})
	if err == nil {
		t.Fatalf("got %v", p)
	}
	t.Log(err)
	if want != nil && !errors.Is(err, want) {
		t.Errorf("the error is not: %v", want)
	}
	if err := store.Collect(image.RemoveOptions{Layers: layers}); err != nil {
		t.Fatal(err)
	}
	if left, err := layers.List(); err != nil || len(left) != 0 {
		t.Errorf("layers: %v, %v", left, err)
	}
	for _, dir := range []string{"blobs/sha256", "leases"} {
		if left, err := os.ReadDir(filepath.Join(store.Dir(), dir)); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v", dir, left, err)
		}
	}
}

// TestPull_Cancelled ends a pull in its midst.
func TestPull_Cancelled(t *testing.T) {
	s, _, _, _ := pushed(t)
	s.put(stall(s))
	ctx, cancel := context.WithCancel(t.Context())
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	_, err := client().Pull(ctx, store, layers, s.host+"/fruits:1", registry.PullOptions{
		Progress: func(e ingest.Event) {
			if e.Bytes > 0 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if all, err := store.List(); err != nil || len(all) != 0 {
		t.Errorf("images: %v, %v", all, err)
	}
}
