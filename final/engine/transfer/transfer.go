//go:build linux

// Package transfer is the part of the engine that speaks to registries and reads and writes
// archives: what pull, push, login, load, save, import and commit do. It stands apart since
// net/http and TLS cost every program that they are linked into some milliseconds at its start.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"

	"minidocker/final/engine"
	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/ingest"
	"minidocker/final/image/registry"
)

// PullOptions is how Pull pulls.
type PullOptions struct {
	Platform string // OS/ARCH[/VARIANT], "" for this machine's
	Config   string // folder of config.json with credentials, "" for the usual
	// Auth, if set, is taken in the place of those in the configuration.
	Auth *registry.Credentials
	// Credentials, if set, is asked for a registry's in the place of both.
	Credentials func(domain string) (registry.Credentials, error)
	Insecure    bool
	Progress    func(ingest.Event) // from several goroutines; may be nil
}

// Pulled is what Pull has got.
type Pulled struct {
	*registry.Pulled
	Default bool // no registry could be asked: it is the image that comes with the program
}

// Pull gets an image from a registry. Where none can be asked, and the name is that of the image
// that comes with the program, that one is imported.
func Pull(ctx context.Context, e *engine.Engine, name string, o PullOptions) (*Pulled, error) {
	store, err := e.ImageStore()
	if err != nil {
		return nil, err
	}
	own, err := archive.Default(name)
	if err != nil {
		return nil, err
	}
	if own != "" && archive.Offline() {
		return fromShare(ctx, e, store, own)
	}
	c := client(o.Config, o.Auth, o.Insecure)
	if o.Credentials != nil {
		c.Credentials = o.Credentials
	}
	pulled, err := c.Pull(ctx, store, e.Layers(), name,
		registry.PullOptions{Platform: o.Platform, Progress: o.Progress})
	if err == nil {
		e.ImageHappened("pull", familiar(name), familiarName(name))
		return &Pulled{Pulled: pulled}, nil
	}
	if own != "" && ctx.Err() == nil && !errors.Is(err, registry.ErrNotFound) &&
		!errors.Is(err, registry.ErrDenied) {
		if p, own := fromShare(ctx, e, store, own); own == nil {
			return p, nil
		}
	}
	return nil, coded(err)
}

func fromShare(
	ctx context.Context, e *engine.Engine, store *image.Store, path string,
) (*Pulled, error) {
	img, err := archive.ImportDefault(ctx, store, e.Layers(), path)
	if err != nil {
		return nil, err
	}
	return &Pulled{Pulled: &registry.Pulled{Image: img}, Default: true}, nil
}

// familiar is a reference as events have it.
func familiar(name string) string {
	r, err := image.ParseReference(name)
	if err != nil {
		return name
	}
	return r.WithTag().Familiar()
}

func familiarName(name string) string {
	r, err := image.ParseReference(name)
	if err != nil {
		return name
	}
	return r.FamiliarName()
}

// Tags are the tags of a repository in its registry, for pull --all-tags.
func Tags(ctx context.Context, name string, o PullOptions) ([]string, error) {
	tags, err := client(o.Config, o.Auth, o.Insecure).Tags(ctx, name)
	return tags, coded(err)
}

// PushOptions is how Push pushes.
type PushOptions struct {
	Config   string // as in PullOptions
	Auth     *registry.Credentials
	Insecure bool
	Progress func(registry.PushEvent) // from several goroutines; may be nil
}

// Push puts an image into the registry that its name says.
func Push(
	ctx context.Context, e *engine.Engine, name string, o PushOptions,
) (*registry.PushedImage, error) {
	store, err := e.ImageStore()
	if err != nil {
		return nil, err
	}
	pushed, err := client(o.Config, o.Auth, o.Insecure).Push(ctx, store, name,
		registry.PushOptions{Progress: o.Progress})
	if err == nil {
		e.ImageHappened("push", familiar(name), familiarName(name))
	}
	return pushed, coded(err)
}

// TagsHere are the names with tags that a name means in the store, for push --all-tags.
func TagsHere(e *engine.Engine, name string) ([]string, error) {
	store, err := e.ImageStore()
	if err != nil {
		return nil, err
	}
	references, err := store.TagsOf(name)
	if err != nil {
		return nil, coded(err)
	}
	names := make([]string, len(references))
	for i, r := range references {
		names[i] = r.Familiar()
	}
	return names, nil
}

// Login sees that a registry takes the credentials and keeps them; "" is Docker Hub.
func Login(ctx context.Context, config, domain string, auth registry.Credentials) error {
	return coded((&registry.Client{}).Login(ctx, config, domain, auth))
}

// Check sees that a registry takes the credentials; "" is Docker Hub.
func Check(
	ctx context.Context, server string, auth registry.Credentials, insecure bool,
) error {
	c := &registry.Client{Insecure: insecure}
	return coded(c.Check(ctx, cmp.Or(Domain(server), "docker.io"), auth))
}

// Domain is a registry's name without what browsers put before and behind it; "" is Docker Hub.
func Domain(server string) string {
	server = strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	server, _, _ = strings.Cut(server, "/")
	switch server {
	case "index.docker.io", "registry-1.docker.io", "docker.io":
		return ""
	}
	return server
}

// Known are the credentials that are kept for a registry; empty if there are none.
func Known(config, domain string) (registry.Credentials, error) {
	if domain == "" {
		domain = "docker.io"
	}
	return registry.DockerConfig(config)(domain)
}

// Logout forgets a registry's credentials; "" is Docker Hub.
func Logout(config, domain string) error { return registry.Logout(config, domain) }

// Search looks for repositories.
func Search(
	ctx context.Context, term string, limit int, o PullOptions,
) ([]registry.Found, error) {
	found, err := client(o.Config, o.Auth, o.Insecure).Search(ctx, term, limit)
	return found, coded(err)
}

func client(config string, auth *registry.Credentials, insecure bool) *registry.Client {
	c := &registry.Client{Credentials: registry.DockerConfig(config), Insecure: insecure,
		UserAgent: "minidocker/" + engine.Version}
	if auth != nil {
		c.Credentials = func(string) (registry.Credentials, error) { return *auth, nil }
	}
	return c
}

// Load takes in the images of an archive; see archive.Load.
func Load(
	ctx context.Context, e *engine.Engine, in io.Reader, o archive.LoadOptions,
) ([]archive.Loaded, error) {
	store, err := e.ImageStore()
	if err != nil {
		return nil, err
	}
	loaded, err := archive.Load(ctx, store, e.Layers(), in, o)
	for _, l := range loaded {
		e.ImageHappened("load", l.Image.ID, cmp.Or(append(l.Names, l.Image.ID)...))
	}
	return loaded, coded(err)
}

// Save writes images to an archive; see archive.Save.
func Save(
	ctx context.Context, e *engine.Engine, w io.Writer, names []string, format archive.Format,
) error {
	store, err := e.ImageStore()
	if err != nil {
		return err
	}
	if err := archive.Save(ctx, store, w, names, format); err != nil {
		return coded(err)
	}
	for _, name := range names {
		if img, err := store.Lookup(name); err == nil {
			e.ImageHappened("save", img.ID, name)
		}
	}
	return nil
}

// Import makes an image of an archive of a root file system; see archive.Import.
func Import(
	ctx context.Context, e *engine.Engine, r io.Reader, o archive.ImportOptions,
) (*image.Image, error) {
	store, err := e.ImageStore()
	if err != nil {
		return nil, err
	}
	if o.Created, err = archive.Now(); err != nil {
		return nil, err
	}
	img, err := archive.Import(ctx, store, e.Layers(), r, o)
	if err == nil {
		e.ImageHappened("import", img.ID, cmp.Or(o.Name, img.ID))
	}
	return img, coded(err)
}

// coded gives the errors of the image packages the engine's codes.
func coded(err error) error {
	for _, c := range []struct {
		is   error
		kind engine.Kind
	}{
		{image.ErrNotExist, engine.NotFound}, {registry.ErrNotFound, engine.NotFound},
		{image.ErrReference, engine.Invalid}, {image.ErrAmbiguous, engine.Invalid},
		{image.ErrPlatform, engine.Invalid},
		{image.ErrConflict, engine.Conflict}, {registry.ErrDenied, engine.Conflict},
	} {
		if errors.Is(err, c.is) {
			return &engine.Error{Kind: c.kind, Err: err}
		}
	}
	return err
}
