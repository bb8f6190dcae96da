//go:build linux

package heavy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/tonistiigi/go-csvvalue"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"minidocker/final/build"
	mdcli "minidocker/final/cli"
	"minidocker/final/engine"
	"minidocker/final/engine/transfer"
)

func buildCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "Build an image from a Dockerfile", ArgsUsage: "PATH|URL|-",
		Description: "build -t mine:1 .",
		Flags: []cli.Flag{
			mdcli.List("add-host", "Line of /etc/hosts for RUN (host:ip)"),
			mdcli.List("build-arg", "Value of an ARG (NAME=VALUE, or NAME of the environment)"),
			mdcli.List("build-context", "Another context (NAME=PATH, NAME=docker-image://IMAGE)"),
			mdcli.Text("file f", "Dockerfile (default PATH/Dockerfile; - is STDIN)"),
			mdcli.Toggle("force-rm", "For Docker's sake: RUN's containers are always removed"),
			mdcli.Text("iidfile", "Write the image's ID to a file"),
			mdcli.Toggle("insecure", "Allow HTTP, and certificates that nobody vouches for"),
			mdcli.List("label", "Label of the image (NAME=VALUE)"),
			mdcli.Toggle("load", "For Docker's sake: as --output=type=docker"),
			mdcli.Text("network", "Network of RUN: default, none, host"),
			mdcli.Toggle("no-cache", "Do all anew"),
			mdcli.Text("output o", "What comes of it: a folder, or type=docker|oci|tar|local,dest=…"),
			mdcli.Text("platform", "Platform of the image (linux/arm64)"),
			mdcli.Text("progress", "auto, plain or quiet (default auto)"),
			mdcli.Toggle("pull", "Look for newer base images"),
			mdcli.Toggle("quiet q", "Print the image's ID only"),
			mdcli.Toggle("rm", "For Docker's sake: RUN's containers are always removed"),
			mdcli.List("secret", "Secret for RUN (id=NAME,src=FILE or id=NAME,env=VARIABLE)"),
			mdcli.List("tag t", "Name of the image (NAME[:TAG])"),
			mdcli.Text("target", "Stage to build"),
		},
		Action: func(ctx *cli.Context) error { return buildImage(c, ctx) },
	}
}

func buildImage(c *mdcli.CLI, ctx *cli.Context) error {
	if err := mdcli.Exactly(ctx, 1); err != nil {
		return err
	}
	output, err := build.ParseOutput(ctx.String("output"))
	if err != nil && ctx.String("output") != "" {
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
	if err := buildSource(c, ctx, e, o); err != nil {
		return err
	}
	defer o.Context.Close()
	if !output.IsImage() {
		o.Export = func(ctx context.Context, r *build.Result) error {
			return export(ctx, c, output, r)
		}
	}
	// Ctrl-C ends what RUN has started as well.
	until, stop := signal.NotifyContext(ctx.Context, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	img, err := build.Build(until, e, *o)
	if err != nil {
		return explain(c, err)
	}
	if img == nil {
		return nil
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

// buildSource opens the context, and reads the Dockerfile: of the context, of the standard input,
// or of anywhere.
func buildSource(c *mdcli.CLI, ctx *cli.Context, e *engine.Engine, o *build.Options) error {
	name, file := ctx.Args().First(), ctx.String("file")
	if name == "-" && file == "-" {
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	}
	in := c.In
	if (name == "-" || file == "-") && mdcli.IsTerminal(in) {
		return errors.New("want a Dockerfile or an archive on stdin, and not a terminal")
	}
	var err error
	if o.Context, o.Dockerfile, err = build.Open(ctx.Context, e, name, in); err != nil {
		return err
	}
	if err = readDockerfile(name, file, in, o); err != nil {
		o.Context.Close()
	}
	return err
}

func readDockerfile(name, file string, in io.Reader, o *build.Options) (err error) {
	if file == "-" {
		o.Name = "Dockerfile"
		o.Dockerfile, err = io.ReadAll(io.LimitReader(in, 8<<20))
		return errors.Join(err, o.Context.ReadIgnore(""))
	}
	// A folder's Dockerfile may lie elsewhere: -f is as seen from where the command is.
	if info, failed := os.Stat(name); failed == nil && info.IsDir() && file != "" {
		if o.Dockerfile, err = os.ReadFile(file); err == nil {
			own, failed := os.ReadFile(file + ".dockerignore")
			if failed == nil {
				return o.Context.SetIgnoreText(own)
			}
			return o.Context.ReadIgnore("")
		}
		if filepath.IsAbs(file) {
			return fmt.Errorf("failed to read dockerfile: %w", err)
		}
	}
	if o.Dockerfile == nil {
		if o.Dockerfile, err = o.Context.Dockerfile(file); err != nil {
			return err
		}
	}
	if file == "" {
		file = "Dockerfile"
	}
	return o.Context.ReadIgnore(file)
}

// buildOptions reads the flags.
func buildOptions(c *mdcli.CLI, ctx *cli.Context) (*build.Options, error) {
	o := &build.Options{
		Name: ctx.String("file"), Tags: ctx.StringSlice("tag"), Target: ctx.String("target"),
		Platform: ctx.String("platform"), NoCache: ctx.Bool("no-cache"), Pull: ctx.Bool("pull"),
		PullOptions: transfer.PullOptions{Config: c.Globals.Config, Insecure: ctx.Bool("insecure")},
		Host:        container.HostConfig{ExtraHosts: ctx.StringSlice("add-host")},
		BuildArgs:   map[string]string{}, Labels: pairs(ctx.StringSlice("label")),
		Contexts: pairs(ctx.StringSlice("build-context")),
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
	var err error
	if o.Secrets, err = secrets(ctx.StringSlice("secret")); err != nil {
		return nil, err
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

// pairs reads NAME=VALUE.
func pairs(words []string) map[string]string {
	all := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		all[name] = value
	}
	return all
}

// secrets reads --secret: id=NAME and src=FILE or env=VARIABLE; without, the variable of that name
// or else the file.
func secrets(words []string) (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, word := range words {
		fields, err := csvvalue.Fields(word, nil)
		if err != nil {
			return nil, fmt.Errorf("--secret %q: %w", word, err)
		}
		var id, file, variable string
		for _, field := range fields {
			name, value, _ := strings.Cut(field, "=")
			switch strings.ToLower(name) {
			case "id":
				id = value
			case "src", "source":
				file = value
			case "env":
				variable = value
			case "type":
				if value == "env" && variable == "" {
					variable = id
				}
			default:
				return nil, fmt.Errorf("--secret %q: %q is unknown: want id, src, env", word, name)
			}
		}
		if all[id], err = secret(id, file, variable); err != nil || id == "" {
			return nil, errors.Join(err, fmt.Errorf("--secret %q: want id=NAME and src=FILE or "+
				"env=VARIABLE", word))
		}
	}
	return all, nil
}

func secret(id, file, variable string) ([]byte, error) {
	if file == "" {
		if variable == "" {
			variable = id
		}
		if value, ok := os.LookupEnv(variable); ok {
			return []byte(value), nil
		}
		file = id
	}
	return os.ReadFile(file)
}

// export writes what is no image of the store.
func export(ctx context.Context, c *mdcli.CLI, o build.Output, r *build.Result) error {
	if !o.IsFile() {
		return r.WriteFolder(ctx, o.Dest)
	}
	dest := o.Dest
	if dest == "-" {
		dest = ""
	}
	return c.Output(dest, func(w io.Writer) error { return r.Write(ctx, o, w) })
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

// pruneBuildsCommand forgets what builds have kept.
func pruneBuildsCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "Remove what builds keep for the next: layers, caches of RUN",
		Description: "builder prune -f",
		Flags: []cli.Flag{
			mdcli.Toggle("all a", "For Docker's sake: it is always all"),
			mdcli.Toggle("force f", "For Docker's sake: nobody is asked"),
		},
		Action: func(ctx *cli.Context) error {
			if err := mdcli.Exactly(ctx, 0); err != nil {
				return err
			}
			e, err := open(c)
			if err != nil {
				return err
			}
			freed, err := build.Prune(ctx.Context, e)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, "Total:", units.BytesSize(float64(freed)))
			return nil
		},
	}
}
