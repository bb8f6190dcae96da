//go:build linux

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"minidocker/final/engine"
	"minidocker/final/image"
	"minidocker/final/image/changes"
	"minidocker/final/storage"
)

// running is a RUN that is to be done.
type running struct {
	s      *stage
	at     *state // before it
	args   []string
	inline *instructions.ShellInlineFile // a here-document that is a program of its own
	env    []string
	mode   container.NetworkMode
	mounts []*instructions.Mount
	ready  mountsReady
	bound  map[*instructions.Mount]string // layers of bind mounts
}

// run does RUN.
func (s *stage) run(at *state, c *instructions.RunCommand) error {
	if err := c.Expand(s.b.file.expander(at.env)); err != nil {
		return err
	}
	r := &running{s: s, at: at, env: at.env, mounts: instructions.GetMounts(c)}
	if err := r.command(c); err != nil {
		return err
	}
	if instructions.GetSecurity(c) != instructions.SecuritySandbox {
		return errors.New("RUN --security=insecure is not allowed")
	}
	r.mode = s.b.Host.NetworkMode
	if mode := instructions.GetNetwork(c); mode != instructions.NetworkDefault {
		r.mode = container.NetworkMode(mode)
	}
	by := "RUN " + strings.Join(r.args, " ")
	if len(at.args) > 0 {
		by = fmt.Sprintf("RUN |%d %s %s", len(at.args), strings.Join(at.args, " "),
			strings.Join(r.args, " "))
	}
	return s.layer(at, making{
		source: sourceOf(c), by: by,
		keys: []func() (string, error){r.key},
		make: func(v *step) (*layer, error) {
			l, err := r.do(v)
			if failed := (*exitError)(nil); errors.As(err, &failed) {
				err = &Error{Excerpt: s.b.file.excerpt(c.Location()), Output: v.tail.lines(), Err: err}
			}
			return l, err
		},
	})
}

// command finds what is to be executed. A here-document that is all of it is the shell's text, or
// a program if it begins with #!; others are the shell's own matter.
func (r *running) command(c *instructions.RunCommand) error {
	r.args = c.CmdLine
	if len(c.Files) > 0 {
		if len(r.args) != 1 || !c.PrependShell {
			return fmt.Errorf("a here-document belongs to a shell's command line: %q", r.args)
		}
		here, err := parser.ParseHeredoc(r.args[0])
		switch {
		case err != nil:
			return err
		case here == nil:
			text := r.args[0]
			for _, f := range c.Files {
				text += "\n" + f.Data + f.Name
			}
			r.args = []string{text}
		default:
			f := c.Files[0]
			if f.Chomp {
				f.Data = parser.ChompHeredocContent(f.Data)
			}
			r.args = []string{f.Data}
			if strings.HasPrefix(f.Data, "#!") {
				r.inline, r.args = &f, []string{path.Join(inlineFolder, f.Name)}
				return nil
			}
		}
	}
	if c.PrependShell {
		r.args = append(changes.Shell(&r.at.config), strings.Join(r.args, " "))
	}
	return nil
}

// inlineFolder is where a here-document is that is a program.
const inlineFolder = "/dev/pipes"

// key is of all that the command can see: the files below it, its words, environment, user, folder,
// network, and what is mounted; but not what secrets and caches have in them.
func (r *running) key() (string, error) {
	c := &r.at.config.Config
	words := []string{"RUN", r.at.top(), c.User, c.WorkingDir, string(r.mode), r.s.platform}
	words = append(words, fmt.Sprint(len(r.args)))
	words = append(append(words, r.args...), r.env...)
	if r.inline != nil {
		words = append(words, r.inline.Data)
	}
	words = append(words, r.s.b.Host.ExtraHosts...)
	for _, m := range r.mounts {
		k, err := r.mountKey(m)
		if err != nil {
			return "", err
		}
		words = append(words, k)
	}
	return key(words...), nil
}

// exitError says that the command has ended with a status that is not 0.
type exitError struct {
	args   []string
	status int
	text   string
}

func (e *exitError) Error() string {
	text := fmt.Sprintf("process %q did not complete successfully: exit code: %d",
		strings.Join(e.args, " "), e.status)
	if e.text != "" {
		text += ": " + e.text
	}
	return text
}

// do runs the command in a container, and makes a layer of what it has changed.
func (r *running) do(v *step) (*layer, error) {
	b := r.s.b
	select {
	case b.places <- struct{}{}:
		defer func() { <-b.places }()
	case <-b.ctx.Done():
		return nil, b.ctx.Err()
	}
	if r.at.top() == "" {
		return nil, &exitError{r.args, 127, "there are no files: the stage begins from scratch"}
	}
	defer r.ready.close()
	if err := r.prepare(); err != nil {
		return nil, err
	}
	stubs, err := b.stubs(r.at.top(), r.targets())
	if err != nil {
		return nil, err
	}
	created, err := b.e.Create(b.ctx, r.options())
	if err != nil {
		return nil, err
	}
	remove := func() {
		ctx := context.WithoutCancel(b.ctx)
		_ = b.e.Remove(ctx, created.ID, engine.RemoveOptions{Force: true}) // mostly it has gone
	}
	defer remove()
	attachment, err := b.e.StartWith(b.ctx, created.ID, &engine.Streams{Out: v, Err: v},
		r.ready.take()...)
	if err != nil {
		if failed := (*engine.StartError)(nil); errors.As(err, &failed) && failed.Status > 125 {
			err = &exitError{r.args, failed.Status, err.Error()}
		}
		return nil, err
	}
	stop := context.AfterFunc(b.ctx, func() { _ = attachment.Signal(unix.SIGKILL) })
	defer stop()
	var l *layer
	_, err = attachment.WaitThen(func(end engine.Ending) error {
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		if end.Status != 0 {
			return &exitError{r.args, end.Status, end.Error}
		}
		l, err = b.diff(created.ID, r.at.top(), stubs)
		return err
	})
	return l, err
}

// options are the container's.
func (r *running) options() engine.CreateOptions {
	b, c := r.s.b, &r.at.config.Config
	host := b.Host
	host.AutoRemove, host.NetworkMode = true, r.mode
	host.LogConfig = container.LogConfig{Type: "none"}
	host.Tmpfs = r.ready.tmpfs
	host.Mounts = slices.Concat(host.Mounts, r.ready.mounts)
	env := slices.Concat(r.env, r.ready.env)
	for _, name := range proxies {
		if value, ok := b.BuildArgs[name]; ok {
			if _, ok := lookEnv(env, name); !ok {
				env = append(env, name+"="+value)
			}
		}
	}
	return engine.CreateOptions{Start: true,
		Base: &image.Image{ChainIDs: r.at.chain(),
			Config: image.Config{}},
		Config: &container.Config{
			Image: "build", Hostname: "buildkitsandbox", Cmd: r.args, Env: env, User: c.User,
			WorkingDir: c.WorkingDir, AttachStdout: true, AttachStderr: true,
			Labels: map[string]string{"minidocker.build": "step"},
		},
		HostConfig: &host,
	}
}

// diff makes a layer of what a container has changed.
func (b *builder) diff(id, parent string, stubs map[string]bool) (l *layer, err error) {
	driver, err := b.e.Storage()
	if err != nil {
		return nil, err
	}
	diff, err := driver.Diff(id)
	if err != nil {
		return nil, fmt.Errorf("read what the command has changed: %w", err)
	}
	defer func() { err = errors.Join(err, diff.Close()) }()
	var r io.Reader = diff
	if len(stubs) > 0 || !b.epoch.IsZero() {
		filtered := b.filter(diff, stubs)
		defer filtered.Close()
		r = filtered
	}
	return b.take(b.ctx, parent, r)
}

// targets are the paths that the runtime makes if they are not there, to mount on.
func (r *running) targets() []string {
	all := []string{"/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}
	for _, m := range r.ready.mounts {
		all = append(all, m.Target)
	}
	for _, t := range r.ready.trees {
		all = append(all, t.Path)
	}
	for p := range r.ready.tmpfs {
		all = append(all, p)
	}
	return all
}

// stubs are those of the paths, and of the folders above them, that are not in a layer: they are
// made to be mounted on and shall not be in the next one.
func (b *builder) stubs(layer string, paths []string) (map[string]bool, error) {
	missing := map[string]bool{}
	err := b.withRoot(layer, func(root *os.File) error {
		for _, p := range paths {
			for at := path.Clean(p); at != "/" && at != "."; at = path.Dir(at) {
				f, err := openIn(root, at, unix.O_PATH|unix.O_NOFOLLOW)
				if err == nil {
					f.Close()
					break
				}
				missing[strings.TrimPrefix(at, "/")] = true
			}
		}
		return nil
	})
	return missing, err
}

// withRoot calls f with the root folder of a layer and those below it; "" is an empty one.
func (b *builder) withRoot(id string, f func(root *os.File) error) error {
	if id == "" {
		dir, err := b.tempDir()
		if err != nil {
			return err
		}
		root, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		return f(root)
	}
	driver, err := b.e.Storage()
	if err != nil {
		return err
	}
	mounts, err := driver.Mounts(id, storage.MountOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	return storage.With(mounts, f)
}
