//go:build linux

package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"minidocker/final/engine"
	"minidocker/final/engine/transfer"
	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/changes"
	"minidocker/final/image/ingest"
	"minidocker/final/image/registry"
)

// progress tells a client what happens to layers, as dockerd does: docker draws its bars by it.
type progress struct {
	m    *messages
	mu   sync.Mutex
	last map[string]told
}

// told is what was said last of a layer.
type told struct {
	status string
	at     time.Time
}

// often is how often a layer's bytes are told.
const often = 100 * time.Millisecond

// status is one message of a stream.
type status struct {
	Status string  `json:"status"`
	Detail *detail `json:"progressDetail,omitempty"`
	ID     string  `json:"id,omitempty"`
}

type detail struct {
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

// say tells of a layer; of bytes of a total if both are not 0.
func (p *progress) say(d image.Descriptor, text string, bytes, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := d.Digest.Encoded()
	id = id[:min(12, len(id))]
	last := p.last[id]
	if last.status == text && time.Since(last.at) < often {
		return
	}
	p.last[id] = told{text, time.Now()}
	_ = p.m.send(status{text, &detail{bytes, total}, id}) // a client that is gone ends the request
}

func newProgress(m *messages) *progress { return &progress{m: m, last: map[string]told{}} }

func (p *progress) pulled(e ingest.Event) {
	switch e.Status {
	case ingest.Waiting:
		p.say(e.Layer, "Pulling fs layer", 0, 0)
	case ingest.Fetching:
		p.say(e.Layer, "Downloading", e.Bytes, e.Layer.Size)
	case ingest.Unpacking:
		p.say(e.Layer, "Extracting", e.Bytes, e.Layer.Size)
	case ingest.Exists:
		p.say(e.Layer, "Already exists", 0, 0)
	default:
		p.say(e.Layer, "Pull complete", 0, 0)
	}
}

func (p *progress) pushed(e registry.PushEvent) {
	switch e.Status {
	case registry.PushWaiting:
		p.say(e.Layer, "Preparing", 0, 0)
	case registry.Pushing:
		p.say(e.Layer, "Pushing", e.Bytes, e.Layer.Size)
	case registry.PushExists:
		p.say(e.Layer, "Layer already exists", 0, 0)
	case registry.Mounted:
		p.say(e.Layer, "Mounted from "+e.From, 0, 0)
	default:
		p.say(e.Layer, "Pushed", 0, 0)
	}
}

// createImage pulls or imports.
func (s *Server) createImage(w http.ResponseWriter, r *http.Request) error {
	switch {
	case r.FormValue("fromImage") != "":
		return s.pull(w, r)
	case r.FormValue("fromSrc") != "":
		return s.importImage(w, r)
	}
	return invalid("fromImage or fromSrc: which image?")
}

func (s *Server) pull(w http.ResponseWriter, r *http.Request) error {
	name, tag := r.FormValue("fromImage"), r.FormValue("tag")
	reference, err := image.ParseReference(name)
	if err != nil {
		return invalid("%w", err)
	}
	if strings.Contains(tag, ":") {
		reference = reference.WithDigest(tag)
	} else if tag != "" {
		reference.Tag = tag
	}
	if p := r.FormValue("platform"); p != "" {
		if err := image.CheckPlatform(p); err != nil {
			return invalid("%w", err)
		}
	}
	auth, err := authHeader(r)
	if err != nil {
		return err
	}
	o := transfer.PullOptions{Platform: r.FormValue("platform"), Auth: auth, Insecure: s.o.Insecure}
	m := newMessages(w)
	if reference.Tag != "" || reference.Digest != "" {
		if err := s.pullOne(r, m, reference, o); err != nil {
			return m.fail(err)
		}
		return m.end(nil)
	}
	tags, err := transfer.Tags(r.Context(), name, o)
	for _, tag := range tags {
		if err != nil {
			break
		}
		reference.Tag = tag
		err = s.pullOne(r, m, reference, o)
	}
	if err != nil {
		return m.fail(err)
	}
	return m.end(nil)
}

// pullOne pulls one image, and says what dockerd says.
func (s *Server) pullOne(
	r *http.Request, m *messages, reference image.Reference, o transfer.PullOptions,
) error {
	what := reference.Tag
	if what == "" {
		what = reference.Digest
	}
	name := reference.Familiar()
	var once sync.Once
	hello := func() {
		once.Do(func() {
			_ = m.send(status{Status: "Pulling from " + strings.TrimPrefix(reference.Name(), "docker.io/"),
				ID: what})
		})
	}
	p := newProgress(m)
	o.Progress = func(e ingest.Event) { hello(); p.pulled(e) }
	pulled, err := transfer.Pull(r.Context(), s.e, name, o)
	if err != nil {
		return refused(err, reference)
	}
	hello()
	if pulled.Digest != "" {
		_ = m.send(status{Status: "Digest: " + pulled.Digest})
	}
	text := "Status: Image is up to date for "
	if pulled.Newer || pulled.Default {
		text = "Status: Downloaded newer image for "
	}
	return m.send(status{Status: text + name})
}

// refused says what to do where a registry did not give an image.
func refused(err error, r image.Reference) error {
	if errors.Is(err, registry.ErrDenied) || errors.Is(err, registry.ErrNotFound) {
		return notFound("pull access denied for %s, repository does not exist or may require "+
			"'docker login': %w", r.FamiliarName(), err)
	}
	return err
}

func (s *Server) push(w http.ResponseWriter, r *http.Request, name string) error {
	auth, err := authHeader(r)
	if err != nil {
		return err
	}
	reference, err := image.ParseReference(name)
	if err != nil {
		return invalid("%w", err)
	}
	names := []string{reference.Familiar()}
	if tag := r.FormValue("tag"); tag != "" {
		reference.Tag = tag
		names[0] = reference.Familiar()
	} else if reference.Tag == "" {
		if names, err = transfer.TagsHere(s.e, name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return notFound("An image does not exist locally with the tag: %s", reference.FamiliarName())
	}
	if _, err := s.e.InspectImage(r.Context(), names[0]); err != nil {
		if engine.Code(err) == engine.NotFound {
			return notFound("An image does not exist locally with the tag: %s",
				reference.FamiliarName())
		}
		return err
	}
	m := newMessages(w)
	_ = m.send(status{Status: fmt.Sprintf("The push refers to repository [%s]", reference.Name())})
	for _, name := range names {
		if err := s.pushOne(r, m, name, auth); err != nil {
			return m.fail(err)
		}
	}
	return m.end(nil)
}

func (s *Server) pushOne(
	r *http.Request, m *messages, name string, auth *registry.Credentials,
) error {
	reference, err := image.ParseReference(name)
	if err != nil {
		return err
	}
	p := newProgress(m)
	pushed, err := transfer.Push(r.Context(), s.e, name,
		transfer.PushOptions{Auth: auth, Insecure: s.o.Insecure, Progress: p.pushed})
	if err != nil {
		return err
	}
	tag := reference.WithTag().Tag
	if err := m.send(status{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, pushed.Digest,
		pushed.Size)}); err != nil {
		return err
	}
	return m.send(map[string]any{"progressDetail": map[string]any{}, "aux": map[string]any{
		"Tag": tag, "Digest": pushed.Digest, "Size": pushed.Size}})
}

// importImage makes an image of the body, or of what is at an address.
func (s *Server) importImage(w http.ResponseWriter, r *http.Request) error {
	name := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" && name != "" {
		name += ":" + tag
	}
	lines := changesOf(r)
	o := archive.ImportOptions{Name: name, Message: r.FormValue("message"),
		Change: func(c *image.Config) error { return changes.Apply(c, lines) }}
	if p := strings.ToLower(r.FormValue("platform")); p != "" {
		if err := image.CheckPlatform(p); err != nil {
			return invalid("%w", err)
		}
		if o.OS, o.Architecture, o.Variant = platform(p); o.OS != "linux" {
			return invalid("operating system is not supported: %s", o.OS)
		}
	}
	var in io.Reader = r.Body
	m := newMessages(w)
	if from := r.FormValue("fromSrc"); from != "-" {
		request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, from, nil)
		if err != nil || !strings.HasPrefix(from, "http") {
			return m.end(invalid("fromSrc=%q is not an address", from))
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return m.end(err)
		}
		defer func() { _ = response.Body.Close() }() // read to its end, or not wanted
		if response.StatusCode != http.StatusOK {
			return m.end(invalid("get %q: %s", from, response.Status))
		}
		_ = m.send(status{Status: "Downloading from " + from})
		in = response.Body
	}
	img, err := transfer.Import(r.Context(), s.e, in, o)
	if err != nil {
		return m.fail(err)
	}
	if err := m.send(status{Status: img.ID}); err != nil {
		return nil //nolint:nilerr // it is there, whether somebody reads that or not
	}
	return m.end(nil)
}

// platform cuts OS/ARCH/VARIANT.
func platform(s string) (system, architecture, variant string) {
	parts := append(strings.Split(s, "/"), "", "")
	return parts[0], parts[1], parts[2]
}
