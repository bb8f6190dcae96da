//go:build linux

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// getter gives what is known of an object.
type getter func(ctx context.Context, e Engine, ref string) (any, error)

func inspectFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		Text("format f", `"json" or a Go template ("{{.State.Pid}}")`),
	}, more...)
}

func inspectContainerCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "Show all that is known of containers",
		ArgsUsage:   "CONTAINER [CONTAINER...]",
		Description: "container inspect -f '{{.State.Status}}' web",
		Flags:       inspectFlags(Toggle("size s", "Show the total size of its files")),
		Action: func(ctx *cli.Context) error {
			return c.inspect(ctx, func(cctx context.Context, e Engine, ref string) (any, error) {
				return pointer(e.Inspect(cctx, ref, ctx.Bool("size")))
			})
		},
	}
}

func inspectImageCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "Show all that is known of images", ArgsUsage: "IMAGE [IMAGE...]",
		Description: "image inspect -f '{{.Config.Cmd}}' busybox", Flags: inspectFlags(),
		Action: func(ctx *cli.Context) error { return c.inspect(ctx, getImage) },
	}
}

func inspectNetworkCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "Show all that is known of networks",
		ArgsUsage:   "NETWORK [NETWORK...]",
		Description: "network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' bridge",
		Flags:       inspectFlags(Toggle("verbose v", "Say more")),
		Action:      func(ctx *cli.Context) error { return c.inspect(ctx, getNetwork) },
	}
}

func inspectVolumeCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "Show all that is known of volumes", ArgsUsage: "VOLUME [VOLUME...]",
		Description: "volume inspect -f '{{.Mountpoint}}' data", Flags: inspectFlags(),
		Action: func(ctx *cli.Context) error { return c.inspect(ctx, getVolume) },
	}
}

func getImage(ctx context.Context, e Engine, ref string) (any, error) {
	return pointer(e.InspectImage(ctx, ref))
}

func getNetwork(ctx context.Context, e Engine, ref string) (any, error) {
	return pointer(e.InspectNetwork(ctx, ref))
}

func getVolume(ctx context.Context, e Engine, ref string) (any, error) {
	return pointer(e.InspectVolume(ctx, ref))
}

// pointer makes an any of a pointer, without the nil that is not one.
func pointer[T any](p *T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func inspectCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "Show all that is known of containers, images, networks, volumes",
		ArgsUsage: "NAME|ID [NAME|ID...]", Description: "inspect -f '{{.State.Pid}}' web",
		Flags: inspectFlags(Toggle("size s", "Show the total size of a container's files"),
			Text("type", "Only this: container, image, network or volume")),
		Action: func(ctx *cli.Context) error {
			return c.inspect(ctx, func(cctx context.Context, e Engine, ref string) (any, error) {
				return anything(cctx, e, ref, ctx.String("type"), ctx.Bool("size"))
			})
		},
	}
}

// anything looks for an object of any type, or of one.
func anything(ctx context.Context, e Engine, ref, of string, size bool) (any, error) {
	known := false
	for _, t := range []struct {
		name string
		get  getter
	}{
		{"container", func(ctx context.Context, e Engine, ref string) (any, error) {
			return pointer(e.Inspect(ctx, ref, size))
		}},
		{"image", getImage}, {"network", getNetwork}, {"volume", getVolume},
	} {
		if of != "" && of != t.name {
			continue
		}
		known = true
		v, err := t.get(ctx, e, ref)
		if err == nil || !notFound(err) || of != "" {
			return v, err
		}
	}
	if !known {
		return nil, fmt.Errorf(`unknown type: %q: must be one of "container", "image", `+
			`"network", "volume"`, of)
	}
	return nil, fmt.Errorf("no such object: %s", ref)
}

// inspect prints an array of what is found, or a line each by a template. What is not found is
// told at the end.
func (c *CLI) inspect(ctx *cli.Context, get getter) error {
	format := ctx.String("format")
	if format != "" && format != "json" {
		t, err := parseTemplate(format)
		if err != nil {
			return err
		}
		return c.eachQuietly(ctx, func(e Engine, ref string) error {
			v, err := get(ctx.Context, e, ref)
			if err != nil {
				return err
			}
			return c.byTemplate(t, v)
		})
	}
	found := []any{}
	err := c.eachQuietly(ctx, func(e Engine, ref string) error {
		v, err := get(ctx.Context, e, ref)
		if err == nil {
			found = append(found, v)
		}
		return err
	})
	if ctx.NArg() == 0 {
		return err
	}
	encoder := json.NewEncoder(c.Out)
	encoder.SetEscapeHTML(false)
	if format == "" {
		encoder.SetIndent("", "    ")
	}
	return errors.Join(encoder.Encode(found), err)
}

// byTemplate executes a template on the value, and where that fails on its JSON, in which fields
// may be called otherwise: {{.Id}}.
func (c *CLI) byTemplate(t executor, v any) error {
	var b strings.Builder
	first := t.Execute(&b, v)
	if first != nil {
		var raw any
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if err := decoder.Decode(&raw); err != nil {
			return err
		}
		b.Reset()
		if err := t.Execute(&b, raw); err != nil || strings.Contains(b.String(), "<no value>") {
			return fmt.Errorf("template: %w", first)
		}
	}
	// An address that is not there was "" before Docker's types had netip.Addr.
	fmt.Fprintln(c.Out, strings.ReplaceAll(b.String(), "invalid IP", ""))
	return nil
}

// executor is a template.
type executor interface {
	Execute(w io.Writer, data any) error
}
