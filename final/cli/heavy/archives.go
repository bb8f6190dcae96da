//go:build linux

package heavy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	mdcli "minidocker/final/cli"
	"minidocker/final/engine/transfer"
	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/changes"
)

func loadCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "load", Usage: "Load images from an archive, docker's or OCI's, or an OCI folder",
		Description: "load -i images.tar",
		Flags: []cli.Flag{
			mdcli.Text("input i", "Read from a file or folder instead of STDIN"),
			mdcli.Text("platform", "Platform of the image (linux/arm64)"),
			mdcli.Toggle("quiet q", "Don't show progress"),
		},
		Action: func(ctx *cli.Context) error {
			if err := mdcli.Exactly(ctx, 0); err != nil {
				return err
			}
			in, err := input(c, ctx.String("input"), "requested load from stdin, but stdin is empty")
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }()
			return load(c, ctx, in)
		},
	}
}

func load(c *mdcli.CLI, ctx *cli.Context, in io.Reader) error {
	e, err := open(c)
	if err != nil {
		return err
	}
	o := archive.LoadOptions{Platform: ctx.String("platform")}
	var shown *layers
	if !ctx.Bool("quiet") && mdcli.IsTerminal(c.Err) {
		shown = newLayers(c.Err)
		o.Progress = shown.pulled
	}
	if f, ok := in.(file); ok {
		in = f.File // a folder is known by it
	}
	loaded, err := transfer.Load(ctx.Context, e, in, o)
	shown.end()
	for _, l := range loaded {
		for _, name := range l.Names {
			fmt.Fprintln(c.Out, "Loaded image:", name)
		}
		if len(l.Names) == 0 {
			fmt.Fprintln(c.Out, "Loaded image ID:", l.Image.ID)
		}
	}
	return err
}

// file is an open file, or the standard input, which is not closed.
type file struct {
	*os.File
	keep bool
}

func (f file) Close() error {
	if f.keep {
		return nil
	}
	return f.File.Close()
}

// input opens a file, or the standard input: "" or "-". A terminal has nothing to read.
func input(c *mdcli.CLI, name, empty string) (io.ReadCloser, error) {
	if name != "" && name != "-" {
		f, err := os.Open(name)
		return file{f, false}, err
	}
	if mdcli.IsTerminal(c.In) {
		return nil, errors.New(empty)
	}
	if f, ok := c.In.(*os.File); ok {
		return file{f, true}, nil
	}
	return io.NopCloser(c.In), nil
}

func saveCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "save", Usage: "Save images to an archive", ArgsUsage: "IMAGE [IMAGE...]",
		Description: "save -o images.tar busybox redis:7",
		Flags: []cli.Flag{
			mdcli.Text("format", "docker or oci (default docker)"),
			mdcli.Text("output o", "Write to a file instead of STDOUT"),
		},
		Action: func(ctx *cli.Context) error {
			if err := mdcli.AtLeast(ctx, 1); err != nil {
				return err
			}
			format := archive.FormatDocker
			switch f := ctx.String("format"); f {
			case "", "docker", "docker-archive":
			case "oci", "oci-archive":
				format = archive.FormatOCI
			default:
				return fmt.Errorf("--format %q: want docker or oci", f)
			}
			e, err := open(c)
			if err != nil {
				return err
			}
			return c.Output(ctx.String("output"), func(w io.Writer) error {
				return transfer.Save(ctx.Context, e, w, ctx.Args().Slice(), format)
			})
		},
	}
}

func importCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "Create an image from an archive of a root file system",
		ArgsUsage:   "FILE|URL|- [REPOSITORY[:TAG]]",
		Description: "import -c 'CMD [\"sh\"]' rootfs.tar.gz mine:1",
		Flags: []cli.Flag{
			mdcli.List("change c", "Line of a Dockerfile that changes the image (CMD, ENV …)"),
			mdcli.Text("message m", "Message for the image's history"),
			mdcli.Text("platform", "Platform of the files (linux/arm64)"),
		},
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() == 0 || ctx.NArg() > 2 {
				return mdcli.Exactly(ctx, 2)
			}
			in, err := source(c, ctx)
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }()
			e, err := open(c)
			if err != nil {
				return err
			}
			o := archive.ImportOptions{
				Name: ctx.Args().Get(1), Message: ctx.String("message"),
				Change: func(config *image.Config) error {
					return changes.Apply(config, ctx.StringSlice("change"))
				},
			}
			o.OS, o.Architecture, o.Variant = platform(ctx.String("platform"))
			img, err := transfer.Import(ctx.Context, e, in, o)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, img.ID)
			return nil
		},
	}
}

// platform cuts OS/ARCH/VARIANT; an architecture alone is Linux's.
func platform(s string) (system, architecture, variant string) {
	if s == "" {
		return "", "", ""
	}
	parts := append(strings.Split(s, "/"), "", "")
	if parts[1] == "" {
		return "linux", parts[0], ""
	}
	return parts[0], parts[1], parts[2]
}

// source is where import reads: a file, an address, or the standard input.
func source(c *mdcli.CLI, ctx *cli.Context) (io.ReadCloser, error) {
	name := ctx.Args().First()
	if !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://") {
		return input(c, name, "want an archive on stdin, and not a terminal")
	}
	request, err := http.NewRequestWithContext(ctx.Context, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(c.Err, "Downloading from", name)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close() // the status says it
		return nil, fmt.Errorf("get %q: %s", name, response.Status)
	}
	return response.Body, nil
}

func commitCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "commit", Usage: "Create a new image from a container's changes",
		ArgsUsage:   "CONTAINER [REPOSITORY[:TAG]]",
		Description: "commit -c 'CMD [\"httpd\", \"-f\"]' web mine:2",
		Flags: []cli.Flag{
			mdcli.Text("author a", "Author (Jane <jane@example.com>)"),
			mdcli.List("change c", "Line of a Dockerfile that changes the image (CMD, ENV …)"),
			mdcli.Text("message m", "Message for the image's history"),
			mdcli.Toggle("no-pause", "Let the container go on meanwhile"),
			mdcli.Toggle("pause p", "Pause the container meanwhile (default true)"),
		},
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() == 0 || ctx.NArg() > 2 {
				return mdcli.Exactly(ctx, 2)
			}
			e, err := open(c)
			if err != nil {
				return err
			}
			img, err := transfer.Commit(ctx.Context, e, ctx.Args().First(), transfer.CommitOptions{
				Name: ctx.Args().Get(1), Author: ctx.String("author"), Message: ctx.String("message"),
				Changes: ctx.StringSlice("change"),
				Pause:   !ctx.Bool("no-pause") && (!ctx.IsSet("pause") || ctx.Bool("pause")),
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, img.ID)
			return nil
		},
	}
}
