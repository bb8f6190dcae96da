//go:build linux

package build

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/engine/transfer"
	"minidocker/final/image"
	"minidocker/final/image/changes"
	"minidocker/final/image/ingest"
)

// stage is a stage of a Dockerfile.
type stage struct {
	*instructions.Stage
	b        *builder
	index    int
	base     string // an image, a stage, or scratch
	from     int    // the stage that it is, -1 for none
	platform string

	once sync.Once
	end  *state
	err  error

	count, at int // of the steps that may make a layer
}

// state is what an image is after some instructions.
type state struct {
	config  image.Config
	layers  []layer
	env     []string // what variables stand for: ENV's and ARG's, NAME=VALUE
	args    []string // of ARG, those that RUN's history names
	cmd     bool     // CMD was given in this stage, so ENTRYPOINT leaves it
	created time.Time
}

// layer is a layer of the image that is being made.
type layer struct {
	Blob  image.Descriptor
	Layer image.Layer
	Size  int64 // of its files
}

// top is the storage layer with all files, "" if there are none.
func (s *state) top() string {
	if len(s.layers) == 0 {
		return ""
	}
	return s.layers[len(s.layers)-1].Layer.ChainID
}

// chain are all layers by their names in the storage, the oldest first.
func (s *state) chain() []string {
	var all []string
	for _, l := range s.layers {
		all = append(all, l.Layer.ChainID)
	}
	return all
}

// clone is a copy that can be changed: what is in it is replaced and never changed in place.
func (s *state) clone() *state {
	c := *s
	c.config.RootFS.DiffIDs = slices.Clone(s.config.RootFS.DiffIDs)
	c.config.History = slices.Clone(s.config.History)
	c.config.Config.Labels = maps.Clone(s.config.Config.Labels)
	c.layers, c.env, c.args = slices.Clone(s.layers), slices.Clone(s.env), slices.Clone(s.args)
	return &c
}

// called is what a stage is called in messages.
func (s *stage) called() string {
	if s.Name != "" {
		return s.Name
	}
	return fmt.Sprintf("stage-%d", s.index)
}

// label is a step's name as it is shown: [builder 2/3] RUN make.
func (s *stage) label(source string) string {
	s.at++
	if len(s.b.stages) == 1 {
		return fmt.Sprintf("[%d/%d] %s", s.at, s.count, source)
	}
	return fmt.Sprintf("[%s %d/%d] %s", s.called(), s.at, s.count, source)
}

// result builds the stage, once.
func (s *stage) result() (*state, error) {
	s.once.Do(func() { s.end, s.err = s.build() })
	return s.end, s.err
}

func (s *stage) build() (*state, error) {
	s.count = 1 + countLayers(s.Commands)
	at, err := s.start()
	if err != nil {
		return nil, s.b.file.wrong(err, s.Location)
	}
	triggers := at.config.Config.OnBuild
	at.config.Config.OnBuild = nil
	for _, text := range triggers { // also those of a stage of the same file
		if err := s.trigger(at, text); err != nil {
			return nil, s.b.file.wrong(fmt.Errorf("ONBUILD %s: %w", text, err), s.Location)
		}
	}
	for _, c := range s.Commands {
		if err := s.do(at, c); err != nil {
			return nil, s.b.file.wrong(err, c.Location())
		}
	}
	return at, nil
}

func countLayers(commands []instructions.Command) int {
	n := 0
	for _, c := range commands {
		switch c.(type) {
		case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand,
			*instructions.WorkdirCommand:
			n++
		}
	}
	return n
}

// trigger does an instruction that the base image has kept for whoever builds on it.
func (s *stage) trigger(at *state, text string) error {
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return err
	}
	for _, node := range parsed.AST.Children {
		c, err := instructions.ParseCommand(node)
		if err != nil {
			return err
		}
		s.count += countLayers([]instructions.Command{c})
		if err := s.do(at, c); err != nil {
			return err
		}
	}
	return nil
}

// start is the state that FROM gives.
func (s *stage) start() (*state, error) {
	source := "FROM " + s.base
	if s.from >= 0 {
		before, err := s.b.stages[s.from].result()
		if err != nil {
			return nil, err
		}
		s.at++
		s.b.meta(source)
		at := before.clone()
		at.cmd = false
		return at, nil
	}
	if s.base == "scratch" {
		s.at++
		s.b.meta(source)
		os, arch, variant := cutPlatform(s.platform)
		at := &state{created: s.b.now(), env: []string{defaultPath}}
		at.config.OS, at.config.Architecture, at.config.Variant = os, arch, variant
		at.config.Config.Env = []string{defaultPath}
		return at, nil
	}
	v := s.b.beginStep(s.label(source), source, 0)
	img, err := s.b.image(s.base, s.platform, s.Platform != "" || s.b.Platform != "", v)
	if err != nil {
		return nil, v.failed(err)
	}
	v.done()
	return stateOf(img), nil
}

// defaultPath is what BuildKit gives an image that begins from nothing.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func cutPlatform(p string) (system, architecture, variant string) {
	parts := append(strings.Split(p, "/"), "", "")
	return parts[0], parts[1], parts[2]
}

// stateOf begins with what an image has.
func stateOf(img *image.Image) *state {
	at := &state{config: img.Config}
	at = at.clone()
	at.env = slices.Clone(img.Config.Config.Env)
	for i, l := range image.LayersOf(&img.Config) {
		blob := img.Layers[i]
		blob.MediaType = ingest.OCILayerType(blob.MediaType)
		at.layers = append(at.layers, layer{Blob: blob, Layer: l})
	}
	if n := len(at.layers); n > 0 {
		at.layers[n-1].Size = img.Size // of all together
	}
	if img.Config.Created != nil {
		at.created = *img.Config.Created
	}
	return at
}

// image finds a base image, or pulls it; once for all who want it.
func (b *builder) image(name, platform string, exact bool, v *step) (*image.Image, error) {
	if path, ok := b.Contexts[name]; ok {
		if name, ok = strings.CutPrefix(path, "docker-image://"); !ok {
			return nil, fmt.Errorf("build context %s is no image, and FROM wants one", path)
		}
	}
	var img *image.Image
	err := b.once(b.images, name+" "+platform, func() error {
		var err error
		img, err = b.find(name, platform, exact, v)
		return err
	})
	if err != nil || img != nil {
		return img, err
	}
	return b.find(name, platform, exact, v) // another has pulled it
}

func (b *builder) find(name, platform string, exact bool, v *step) (*image.Image, error) {
	img, err := b.store.Lookup(name)
	if err == nil && exact && !fits(img, platform) {
		err = fmt.Errorf("%w: %s for %s", image.ErrNotExist, name, platform)
	}
	if err != nil && !errors.Is(err, image.ErrNotExist) {
		return nil, err
	}
	if err != nil || b.Pull {
		o := b.PullOptions
		if exact {
			o.Platform = platform
		}
		v.print("pulling %s\n", name)
		pulled, err := transfer.Pull(b.ctx, b.e, name, o)
		if err != nil {
			return nil, fmt.Errorf("%s: failed to resolve source metadata: %w", name, err)
		}
		img = pulled.Image
	}
	return b.lease.Find(img.ID)
}

func fits(img *image.Image, platform string) bool {
	system, architecture, variant := cutPlatform(platform)
	c := &img.Config
	same := func(is, wanted string) bool { return is == "" || wanted == "" || is == wanted }
	return same(c.OS, system) && same(c.Architecture, architecture) && same(c.Variant, variant)
}

// do does an instruction.
func (s *stage) do(at *state, c instructions.Command) error {
	if err := s.b.ctx.Err(); err != nil {
		return err
	}
	switch c := c.(type) {
	case *instructions.RunCommand:
		return s.run(at, c)
	case *instructions.CopyCommand:
		return s.copy(at, &copying{SourcesAndDest: &c.SourcesAndDest, command: c, from: c.From,
			chown: c.Chown, chmod: c.Chmod, link: c.Link, parents: c.Parents, exclude: c.ExcludePatterns})
	case *instructions.AddCommand:
		return s.copy(at, &copying{SourcesAndDest: &c.SourcesAndDest, command: c, add: c,
			chown: c.Chown, chmod: c.Chmod, link: c.Link, exclude: c.ExcludePatterns})
	case *instructions.WorkdirCommand:
		return s.workdir(at, c)
	case *instructions.ArgCommand:
		return s.arg(at, c)
	}
	return s.configure(at, c)
}

// configure does an instruction that changes the configuration only.
func (s *stage) configure(at *state, c instructions.Command) error {
	if err := changes.Instruct(&at.config, c, s.b.file.escape, at.env, at.cmd); err != nil {
		return err
	}
	switch c := c.(type) {
	case *instructions.CmdCommand:
		at.cmd = true
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			at.env = setEnv(at.env, kv.Key, kv.Value)
		}
	}
	s.b.meta(sourceOf(c))
	at.note(imagespec.History{CreatedBy: sourceOf(c), EmptyLayer: true})
	return nil
}

// meta tells of an instruction that needs no work.
func (b *builder) meta(source string) {
	b.steps.mu.Lock()
	defer b.steps.mu.Unlock()
	b.Progress(Event{Kind: Meta, Name: source, Source: source, Of: b.total})
}

// note adds to the image's history.
func (s *state) note(h imagespec.History) {
	created := s.created
	h.Created, h.Comment = &created, comment
	s.config.History = append(s.config.History, h)
}

// comment says in an image's history where it comes from, as BuildKit does.
const comment = "buildkit.dockerfile.v0"

// sourceOf is an instruction as it was written, its name in capitals.
func sourceOf(c instructions.Command) string {
	text := fmt.Sprint(c)
	word, rest, ok := strings.Cut(text, " ")
	if !ok {
		return strings.ToUpper(word)
	}
	return strings.ToUpper(word) + " " + strings.TrimSpace(rest)
}

// proxies are arguments that need no ARG, and do not count for the cache.
var proxies = []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
	"ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"}

// arg does ARG: a variable while the image is built.
func (s *stage) arg(at *state, c *instructions.ArgCommand) error {
	if err := c.Expand(s.b.file.expander(at.env)); err != nil {
		return err
	}
	for _, a := range c.Args {
		value, ok := s.b.BuildArgs[a.Key]
		switch {
		case ok:
		case a.Value != nil:
			value, ok = *a.Value, true
		default:
			value, ok = lookEnv(s.b.global, a.Key)
		}
		if ok {
			at.env = setEnv(at.env, a.Key, value)
			at.args = setEnv(at.args, a.Key, value)
		}
	}
	s.b.meta(sourceOf(c))
	at.note(imagespec.History{CreatedBy: sourceOf(c), EmptyLayer: true})
	return nil
}

// workdir does WORKDIR: the folder is made if it is not there.
func (s *stage) workdir(at *state, c *instructions.WorkdirCommand) error {
	source := sourceOf(c)
	err := changes.Instruct(&at.config, c, s.b.file.escape, at.env, at.cmd)
	if err != nil {
		return err
	}
	dir := path.Clean(at.config.Config.WorkingDir)
	return s.layer(at, making{
		source: source, by: source,
		keys: []func() (string, error){known(key("WORKDIR", at.top(), dir))},
		make: func(_ *step) (*layer, error) { return s.b.makeFolder(at, dir) },
	})
}

// setEnv changes a variable in a copy of a list, or adds it.
func setEnv(env []string, name, value string) []string {
	env = slices.Clone(env)
	for i, old := range env {
		if n, _, _ := strings.Cut(old, "="); n == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

func lookEnv(env []string, name string) (string, bool) {
	for _, kv := range env {
		if n, value, _ := strings.Cut(kv, "="); n == name {
			return value, true
		}
	}
	return "", false
}
