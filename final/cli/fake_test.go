//go:build linux

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"minidocker/final/engine"
)

// fake is an engine that writes down what it is asked. What it lacks is the nil Engine's.
type fake struct {
	Engine
	created    *engine.CreateOptions
	images     []string // that it has; create misses all others
	calls      []string
	containers []container.Summary
	list       engine.ListOptions
	execed     *container.ExecCreateRequest
	network    network.CreateRequest
	connect    network.ConnectRequest
	update     container.UpdateConfig
	inspected  *container.InspectResponse
	output     string // of the container
	ending     engine.Ending
	startErr   error
	files      map[string]container.PathStat
	copied     bytes.Buffer
	archive    []byte
}

func (f *fake) call(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fake) Create(_ context.Context, o engine.CreateOptions) (container.CreateResponse, error) {
	f.created = &o
	for _, name := range f.images {
		if name == o.Config.Image {
			f.call("create %s", name)
			return container.CreateResponse{ID: strings.Repeat("ab", 32), Warnings: []string{"beware"}}, nil
		}
	}
	return container.CreateResponse{}, missing("No such image: %s", o.Config.Image)
}

func missing(format string, args ...any) error {
	return &engine.Error{Kind: engine.NotFound, Err: fmt.Errorf(format, args...)}
}

// running is the fake's attachment.
type running struct {
	f *fake
	s *engine.Streams
}

func (r running) Wait() (engine.Ending, error) {
	if r.s.In != nil {
		_, _ = io.Copy(r.s.Out, r.s.In)
	}
	fmt.Fprint(r.s.Out, r.f.output)
	if r.s.Err != nil {
		fmt.Fprint(r.s.Err, "err")
	}
	return r.f.ending, nil
}

func (r running) Signal(s unix.Signal) error { r.f.call("signal %v", s); return nil }

func (f *fake) Start(_ context.Context, ref string, s *engine.Streams) (Attachment, error) {
	f.call("start %.4s %t", ref, s != nil)
	return running{f, s}, f.startErr
}

func (f *fake) Attach(_ context.Context, ref string, s *engine.Streams) (Attachment, error) {
	f.call("attach %s", ref)
	return running{f, s}, nil
}

func (f *fake) Exec(_ context.Context, ref string, r *container.ExecCreateRequest, s *engine.Streams) (Attachment, error) {
	f.execed = r
	f.call("exec %s %t", ref, s != nil)
	return running{f, s}, f.startErr
}

func (f *fake) Stop(_ context.Context, ref, signal string, seconds *int) error {
	if ref == "nix" {
		return missing("No such container: nix")
	}
	f.call("stop %s %q %s", ref, signal, orNil(seconds))
	return nil
}

func orNil(n *int) string {
	if n == nil {
		return "nil"
	}
	return fmt.Sprint(*n)
}

func (f *fake) Kill(_ context.Context, ref, signal string) error {
	f.call("kill %s %s", ref, signal)
	return nil
}

func (f *fake) Remove(_ context.Context, ref string, o engine.RemoveOptions) error {
	if ref == "nix" {
		return missing("No such container: nix")
	}
	f.call("remove %s %v", ref, o)
	return nil
}

func (f *fake) Wait(context.Context, string, container.WaitCondition) (container.WaitResponse, error) {
	return container.WaitResponse{StatusCode: 7}, nil
}

func (f *fake) Containers(_ context.Context, o engine.ListOptions) ([]container.Summary, error) {
	f.list = o
	return f.containers, nil
}

func (f *fake) Images(context.Context, engine.ImageListOptions) ([]image.Summary, error) {
	return []image.Summary{
		{ID: "sha256:" + strings.Repeat("c", 64), RepoTags: []string{"a/b:1", "b:2"}, Size: 4_321_000,
			RepoDigests: []string{"a/b@sha256:" + strings.Repeat("d", 64)}},
		{ID: "sha256:" + strings.Repeat("e", 64)},
	}, nil
}

func (f *fake) Inspect(_ context.Context, ref string, _ bool) (*container.InspectResponse, error) {
	if f.inspected == nil {
		return nil, missing("No such container: %s", ref)
	}
	return f.inspected, nil
}

func (f *fake) InspectImage(_ context.Context, ref string) (*image.InspectResponse, error) {
	return nil, missing("No such image: %s", ref)
}

func (f *fake) CreateNetwork(_ context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	f.network = r
	return network.CreateResponse{ID: "netid"}, nil
}

func (f *fake) Connect(_ context.Context, ref string, r network.ConnectRequest) error {
	f.connect = r
	f.call("connect %s", ref)
	return nil
}

func (f *fake) Update(_ context.Context, _ string, u container.UpdateConfig) (container.UpdateResponse, error) {
	f.update = u
	return container.UpdateResponse{}, nil
}

func (f *fake) PruneContainers(_ context.Context, fs engine.Filters) (container.PruneReport, error) {
	f.call("prune %v", fs)
	return container.PruneReport{ContainersDeleted: []string{"one"}, SpaceReclaimed: 2_500}, nil
}

func (f *fake) StatPath(_ context.Context, _, path string) (container.PathStat, error) {
	if s, ok := f.files[path]; ok {
		return s, nil
	}
	return container.PathStat{}, missing("no %s", path)
}

func (f *fake) CopyTo(_ context.Context, ref, path string, tar io.Reader, _ engine.CopyOptions) error {
	f.call("copy to %s:%s", ref, path)
	_, err := f.copied.ReadFrom(tar)
	return err
}

func (f *fake) CopyFrom(_ context.Context, _, path string) (io.ReadCloser, container.PathStat, error) {
	s, ok := f.files[path]
	if !ok {
		return nil, s, missing("no %s", path)
	}
	return io.NopCloser(bytes.NewReader(f.archive)), s, nil
}

// session is a command line on a fake.
type session struct {
	fake     *fake
	in       string
	out, err bytes.Buffer
	status   int
	pulled   []string
	execed   []string
}

func newSession() *session { return &session{fake: &fake{images: []string{"busybox"}}} }

func (s *session) run(args ...string) *session {
	s.out.Reset()
	s.err.Reset()
	s.fake.calls = nil
	c := &CLI{
		Name: "minidocker", Version: "1", In: strings.NewReader(s.in), Out: &s.out, Err: &s.err,
		Open: func(Globals) (Engine, error) { return s.fake, nil },
		Pull: func(_ context.Context, ref, platform string, quiet bool) error {
			if ref == "denied" {
				return errors.New("pull access denied")
			}
			s.pulled = append(s.pulled, fmt.Sprintf("%s %q %t", ref, platform, quiet))
			s.fake.images = append(s.fake.images, ref)
			return nil
		},
		Exec: func(args []string) error { s.execed = args; return nil },
	}
	s.status = c.Main(context.Background(), args)
	return s
}

// want compares the exit status, the output, and a part of what is on the standard error.
func (s *session) want(t *testing.T, status int, out, part string) {
	t.Helper()
	if s.status != status || s.out.String() != out || !strings.Contains(s.err.String(), part) {
		t.Errorf("got status %d, output %q, error %q; want %d, %q, …%s…", s.status, s.out.String(),
			s.err.String(), status, out, part)
	}
}
