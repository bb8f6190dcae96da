//go:build linux

package heavy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	mdcli "minidocker/final/cli"
	"minidocker/final/engine"
	"minidocker/final/engine/transfer"
	"minidocker/final/image"
	"minidocker/final/image/registry"
)

func pullCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "pull", Usage: "Download an image from a registry",
		ArgsUsage: "NAME[:TAG|@DIGEST]", Description: "pull redis:7",
		Flags: []cli.Flag{
			mdcli.Toggle("all-tags a", "All images of the repository"),
			mdcli.Toggle("disable-content-trust", "For Docker's sake; without effect"),
			mdcli.Text("platform", "Platform of the image (linux/arm64)"),
			mdcli.Toggle("quiet q", "Don't show progress"),
			mdcli.Toggle("insecure", "Allow HTTP, and certificates that nobody vouches for"),
		},
		Action: func(ctx *cli.Context) error {
			if err := mdcli.Exactly(ctx, 1); err != nil {
				return err
			}
			e, err := open(c)
			if err != nil {
				return err
			}
			return pullAll(c, ctx, e, ctx.Args().First())
		},
	}
}

func pullAll(c *mdcli.CLI, ctx *cli.Context, e *engine.Engine, name string) error {
	o := transfer.PullOptions{
		Platform: ctx.String("platform"), Config: c.Globals.Config, Insecure: ctx.Bool("insecure"),
	}
	reference, err := image.ParseReference(name)
	if err != nil {
		return err
	}
	if !ctx.Bool("all-tags") {
		if reference.Tag == "" && reference.Digest == "" && !ctx.Bool("quiet") {
			fmt.Fprintln(c.Out, "Using default tag: latest")
		}
		return pull(c, ctx, e, reference.WithTag(), o)
	}
	if reference.Tag != "" || reference.Digest != "" {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	tags, err := transfer.Tags(ctx.Context, name, o)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		reference.Tag = tag
		if err := pull(c, ctx, e, reference, o); err != nil {
			return err
		}
	}
	return nil
}

// pull pulls one image, and says what Docker says.
func pull(
	c *mdcli.CLI, ctx *cli.Context, e *engine.Engine, r image.Reference, o transfer.PullOptions,
) error {
	name, quiet := r.Familiar(), ctx.Bool("quiet")
	var shown *layers
	if !quiet {
		what := r.Tag
		if what == "" {
			what = r.Digest
		}
		fmt.Fprintf(c.Out, "%s: Pulling from %s\n", what, strings.TrimPrefix(r.Name(), "docker.io/"))
		shown = newLayers(c.Out)
		o.Progress = shown.pulled
	}
	pulled, err := transfer.Pull(ctx.Context, e, name, o)
	shown.end()
	if err != nil {
		return refused(err, r)
	}
	if pulled.Default {
		fmt.Fprintf(c.Err, "No registry can be asked: %s is the image that comes with %s\n",
			name, c.Name)
	}
	if quiet {
		fmt.Fprintln(c.Out, r.String())
		return nil
	}
	if pulled.Digest != "" {
		fmt.Fprintln(c.Out, "Digest:", pulled.Digest)
	}
	status := "Image is up to date for "
	if pulled.Newer || pulled.Default {
		status = "Downloaded newer image for "
	}
	fmt.Fprintf(c.Out, "Status: %s%s\n%s\n", status, name, r.String())
	return nil
}

// refused says what to do where a registry did not give an image.
func refused(err error, r image.Reference) error {
	if errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrDenied) {
		return fmt.Errorf("pull access denied for %s, repository does not exist or may require "+
			"'minidocker login': %w", r.FamiliarName(), err)
	}
	return err
}

func pushCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "push", Usage: "Upload an image to a registry", ArgsUsage: "NAME[:TAG]",
		Description: "push registry.example/mine:1",
		Flags: []cli.Flag{
			mdcli.Toggle("all-tags a", "All tags of the repository"),
			mdcli.Toggle("disable-content-trust", "For Docker's sake; without effect"),
			mdcli.Toggle("quiet q", "Don't show progress"),
			mdcli.Toggle("insecure", "Allow HTTP, and certificates that nobody vouches for"),
		},
		Action: func(ctx *cli.Context) error {
			if err := mdcli.Exactly(ctx, 1); err != nil {
				return err
			}
			e, err := open(c)
			if err != nil {
				return err
			}
			return pushAll(c, ctx, e, ctx.Args().First())
		},
	}
}

func pushAll(c *mdcli.CLI, ctx *cli.Context, e *engine.Engine, name string) error {
	reference, err := image.ParseReference(name)
	if err != nil {
		return err
	}
	if !ctx.Bool("all-tags") {
		if reference.Tag == "" && !ctx.Bool("quiet") {
			fmt.Fprintln(c.Out, "Using default tag: latest")
		}
		return push(c, ctx, e, reference.WithTag())
	}
	if reference.Tag != "" {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	names, err := transfer.TagsHere(e, name)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("an image does not exist locally with the tag: %s", name)
	}
	for _, name := range names {
		r, err := image.ParseReference(name)
		if err != nil {
			return err
		}
		if err := push(c, ctx, e, r); err != nil {
			return err
		}
	}
	return nil
}

func push(c *mdcli.CLI, ctx *cli.Context, e *engine.Engine, r image.Reference) error {
	o := transfer.PushOptions{Config: c.Globals.Config, Insecure: ctx.Bool("insecure")}
	quiet := ctx.Bool("quiet")
	var shown *layers
	if !quiet {
		fmt.Fprintf(c.Out, "The push refers to repository [%s]\n", r.Name())
		shown = newLayers(c.Out)
		o.Progress = shown.pushed
	}
	pushed, err := transfer.Push(ctx.Context, e, r.Familiar(), o)
	shown.end()
	if errors.Is(err, image.ErrNotExist) {
		return fmt.Errorf("an image does not exist locally with the tag: %s", r.FamiliarName())
	}
	if err != nil {
		return err
	}
	if quiet {
		fmt.Fprintln(c.Out, r.String())
		return nil
	}
	fmt.Fprintf(c.Out, "%s: digest: %s size: %d\n", r.Tag, pushed.Digest, pushed.Size)
	return nil
}
