//go:build linux

// Package build makes images from Dockerfiles. It reads the language with BuildKit's own parser
// and does what the instructions say:
//
//	Dockerfile ─ parse ─> stages ─ graph ─> those that the target needs, side by side
//	                                          │ each instruction
//	      changes the configuration only <────┼────> changes files
//	      (package image/changes)             │        │ key: layers below + what is done + content
//	                                          │        ├─ kept: the layer is there, CACHED
//	                                          │        └─ RUN: a container of the engine's, its Diff
//	                                          │           COPY, ADD, WORKDIR: an archive
//	                                          └─> image: layers, configuration, names
//
// A layer's name is the digest of its content (see image.Layer), and so the key of an instruction
// is about what it really finds, and not about how that came to be.
//
// See https://docs.docker.com/reference/dockerfile/.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"minidocker/final/engine"
	"minidocker/final/engine/transfer"
	"minidocker/final/image"
)

// Options say what to build.
type Options struct {
	Dockerfile []byte
	Name       string   // the Dockerfile's, in messages; "" is Dockerfile
	Context    *Context // what COPY and ADD take; nil: nothing is there

	Tags      []string          // names for the image
	Target    string            // stage, "" for the last
	BuildArgs map[string]string // --build-arg
	Labels    map[string]string // --label
	Platform  string            // OS/ARCH[/VARIANT], "" for this machine's
	Secrets   map[string][]byte // by their ids
	// Contexts are other folders, and images, that FROM and --from can name.
	Contexts map[string]string

	NoCache bool // do all anew
	Pull    bool // look for newer base images
	// PullOptions is how images are pulled.
	PullOptions transfer.PullOptions
	// Host is what RUN's containers get: NetworkMode, ExtraHosts, ShmSize, limits.
	Host container.HostConfig

	// Progress is told what happens, one event at a time; nil: nobody is.
	Progress func(Event)
	// Export is called with the result in the place of storing it as an image.
	Export func(context.Context, *Result) error
}

// builder is one build.
type builder struct {
	Options
	ctx    context.Context
	e      *engine.Engine
	store  *image.Store
	layers image.Layers
	lease  *image.Lease
	epoch  time.Time // SOURCE_DATE_EPOCH, zero if it is not set
	file   *dockerfile
	global []string // variables of FROM: NAME=VALUE
	steps  stepNumbers
	total  int    // instructions to be done
	folder string // see folder
	places chan struct{}

	mu      sync.Mutex
	stages  []*stage
	flights map[string]*flight // by key: what is being made
	images  map[string]*flight // by name and platform: what is being pulled
	undo    []func()           // at the end
}

// Build builds an image. It returns nil for the image if it was exported in another way.
func Build(ctx context.Context, e *engine.Engine, o Options) (img *image.Image, err error) {
	store, err := e.ImageStore()
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = "Dockerfile"
	}
	b := &builder{
		Options: o, e: e, store: store, layers: e.Layers(), places: make(chan struct{}, parallel()),
		flights: map[string]*flight{}, images: map[string]*flight{},
	}
	if b.Progress == nil {
		b.Progress = func(Event) {}
	}
	names, err := references(o.Tags)
	if err != nil {
		return nil, err
	}
	if b.epoch, err = epochOf(o.BuildArgs); err != nil {
		return nil, err
	}
	if _, err := store.Forget(time.Now().Add(-keepFor)); err != nil {
		return nil, err
	}
	if b.folder, err = folder(e); err != nil {
		return nil, err
	}
	if b.Context != nil && b.Context.stays {
		b.Context.sums = openSums(b.folder, b.Context.root)
		defer b.Context.sums.save()
	}
	if b.lease, err = store.Lease(); err != nil {
		return nil, err
	}
	defer func() {
		for i := len(b.undo) - 1; i >= 0; i-- {
			b.undo[i]()
		}
		err = b.lease.End(err)
	}()
	return b.build(ctx, names)
}

// keepFor is how long a layer is kept that no build needs.
const keepFor = 14 * 24 * time.Hour

func (b *builder) build(ctx context.Context, names []image.Reference) (*image.Image, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b.ctx = ctx
	var err error
	if b.file, err = parse(b.Dockerfile, b.Name); err != nil {
		return nil, err
	}
	if err := b.setGlobals(); err != nil {
		return nil, err
	}
	target, needed, err := b.graph()
	if err != nil {
		return nil, err
	}
	for _, i := range needed {
		b.total += 1 + len(b.file.stages[i].Commands)
	}
	var group sync.WaitGroup
	for _, i := range needed {
		group.Go(func() {
			if _, err := b.stages[i].result(); err != nil {
				cancel(err) // the first one is what is told
			}
		})
	}
	group.Wait()
	s, err := b.stages[target].result()
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	return b.export(s, names)
}

// export gives the result to whom it is for.
func (b *builder) export(s *state, names []image.Reference) (*image.Image, error) {
	for name, value := range b.Labels {
		if s.config.Config.Labels == nil {
			s.config.Config.Labels = map[string]string{}
		}
		s.config.Config.Labels[name] = value
	}
	r := &Result{b: b, state: s, names: names}
	if b.Export != nil {
		return nil, b.Export(b.ctx, r)
	}
	v := b.begin("exporting to image", 0)
	img, err := r.Store()
	if err != nil {
		return nil, v.failed(err)
	}
	v.print("writing image %s\n", img.ID)
	b.e.ImageHappened("create", img.ID, img.ID)
	for _, n := range names {
		v.print("naming to %s\n", n.String())
	}
	v.done()
	return img, nil
}

// references reads names for an image.
func references(tags []string) ([]image.Reference, error) {
	var names []image.Reference
	for _, tag := range tags {
		r, err := image.ParseReference(tag)
		if err == nil && r.Digest != "" {
			err = errors.New("a digest cannot be given, it follows from the image")
		}
		if err != nil {
			return nil, &engine.Error{Kind: engine.Invalid,
				Err: fmt.Errorf("invalid tag %q: %w", tag, err)}
		}
		names = append(names, r.WithTag())
	}
	return names, nil
}

// epochOf is SOURCE_DATE_EPOCH, of the build arguments or the environment; zero if neither has it.
// See https://reproducible-builds.org/specs/source-date-epoch/.
func epochOf(args map[string]string) (time.Time, error) {
	text, ok := args[epochName]
	if !ok {
		text = os.Getenv(epochName)
	}
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s=%q: want seconds since 1970", epochName, text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

const epochName = "SOURCE_DATE_EPOCH"

// now is the time for what is made.
func (b *builder) now() time.Time {
	if !b.epoch.IsZero() {
		return b.epoch
	}
	return time.Now().UTC()
}

// atEnd has f called when the build is over.
func (b *builder) atEnd(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.undo = append(b.undo, f)
}
