//go:build linux

package heavy

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"

	"minidocker/final/build"
	mdcli "minidocker/final/cli"
	"minidocker/final/engine/transfer"
)

func buildCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "Build an image from a Dockerfile", ArgsUsage: "PATH|URL|-",
		Description: "build -t mine:1 .",
		Flags: []cli.Flag{
			mdcli.List("add-host", "Line of /etc/hosts for RUN (host:ip)"),
			mdcli.List("build-arg", "Value of an ARG (NAME=VALUE, or NAME of the environment)"),
			mdcli.Text("file f", "Dockerfile (default PATH/Dockerfile; - is STDIN)"),
			mdcli.Text("iidfile", "Write the image's ID to a file"),
			mdcli.List("label", "Label of the image (NAME=VALUE)"),
			mdcli.Text("network", "Network of RUN: default, none, host"),
			mdcli.Toggle("no-cache", "Do all anew"),
			mdcli.Text("platform", "Platform of the image (linux/arm64)"),
			mdcli.Text("progress", "auto, plain or quiet (default auto)"),
			mdcli.Toggle("pull", "Look for newer base images"),
			mdcli.Toggle("quiet q", "Print the image's ID only"),
			mdcli.List("tag t", "Name of the image (NAME[:TAG])"),
			mdcli.Text("target", "Stage to build"),
			mdcli.Toggle("insecure", "Allow HTTP, and certificates that nobody vouches for"),
		},
		Action: func(ctx *cli.Context) error { return buildImage(c, ctx) },
	}
}

func buildImage(c *mdcli.CLI, ctx *cli.Context) error {
	if err := mdcli.Exactly(ctx, 1); err != nil {
		return err
	}
	e, err := open(c)
	if err != nil {
		return err
	}
	o, err := buildOptions(c, ctx)
	if err != nil {
		return err
	}
	context, err := build.OpenContext(ctx.Args().First())
	if err != nil {
		return err
	}
	defer context.Close()
	if o.Dockerfile, err = context.Dockerfile(ctx.String("file")); err != nil {
		return err
	}
	if err := context.ReadIgnore(ctx.String("file")); err != nil {
		return err
	}
	o.Context = context
	img, err := build.Build(ctx.Context, e, *o)
	if err != nil {
		return explain(c, err)
	}
	if file := ctx.String("iidfile"); file != "" {
		if err := os.WriteFile(file, []byte(img.ID), 0o644); err != nil {
			return err
		}
	}
	if o.Progress == nil {
		fmt.Fprintln(c.Out, img.ID)
	}
	return nil
}

// buildOptions reads the flags.
func buildOptions(c *mdcli.CLI, ctx *cli.Context) (*build.Options, error) {
	o := &build.Options{
		Name: ctx.String("file"), Tags: ctx.StringSlice("tag"), Target: ctx.String("target"),
		BuildArgs: map[string]string{}, Labels: map[string]string{},
		Platform: ctx.String("platform"), NoCache: ctx.Bool("no-cache"), Pull: ctx.Bool("pull"),
		PullOptions: transfer.PullOptions{Config: c.Globals.Config, Insecure: ctx.Bool("insecure")},
		Host:        container.HostConfig{ExtraHosts: ctx.StringSlice("add-host")},
	}
	if network := ctx.String("network"); network != "" && network != "default" {
		o.Host.NetworkMode = container.NetworkMode(network)
	}
	for _, arg := range ctx.StringSlice("build-arg") {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		o.BuildArgs[name] = value
	}
	for _, label := range ctx.StringSlice("label") {
		name, value, _ := strings.Cut(label, "=")
		o.Labels[name] = value
	}
	switch progress := ctx.String("progress"); {
	case ctx.Bool("quiet") || progress == "quiet":
	case progress == "" || progress == "auto" || progress == "plain" || progress == "tty":
		o.Progress = build.Plain(c.Err)
	default:
		return nil, fmt.Errorf("--progress %q: want auto, plain or quiet", progress)
	}
	return o, nil
}

// explain prints the lines of the Dockerfile that an error is about.
func explain(c *mdcli.CLI, err error) error {
	if wrong := (*build.Error)(nil); errors.As(err, &wrong) {
		if wrong.Output != "" {
			fmt.Fprintf(c.Err, "------\n%s\n------\n", strings.TrimSuffix(wrong.Output, "\n"))
		}
		fmt.Fprint(c.Err, wrong.Excerpt)
	}
	return fmt.Errorf("failed to build: %w", err)
}
