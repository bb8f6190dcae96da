//go:build linux

package cli

import (
	"fmt"

	"github.com/moby/moby/api/types/volume"
	"github.com/urfave/cli/v2"

	"minidocker/final/cli/request"
)

func volumesCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "List volumes", Description: "volume ls --filter dangling=true",
		Flags: []cli.Flag{filter(), format(), Toggle("quiet q", "Only display names")},
		Action: func(ctx *cli.Context) error {
			filters, err := parseFilters(ctx)
			if err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			list, err := e.Volumes(ctx.Context, filters)
			if err != nil {
				return err
			}
			return c.printVolumes(ctx, list)
		},
	}
}

// volumeRow is a line of volume ls.
type volumeRow struct {
	Driver, Labels, Links, Mountpoint, Name, Scope, Size string
	labels
}

var volumeHeader = volumeRow{
	Driver: "DRIVER", Labels: "LABELS", Links: "LINKS", Mountpoint: "MOUNTPOINT",
	Name: "VOLUME NAME", Scope: "SCOPE", Size: "SIZE",
}

func newVolumeRow(v *volume.Volume) volumeRow {
	row := volumeRow{
		Driver: v.Driver, Labels: joined(v.Labels), Links: "N/A", Mountpoint: v.Mountpoint,
		Name: v.Name, Scope: v.Scope, Size: "N/A", labels: orEmpty(v.Labels),
	}
	if v.UsageData != nil {
		row.Size, row.Links = size(v.UsageData.Size), fmt.Sprint(v.UsageData.RefCount)
	}
	return row
}

func (c *CLI) printVolumes(ctx *cli.Context, list []*volume.Volume) error {
	var rows []volumeRow
	names := ctx.Bool("quiet") && !ctx.IsSet("format")
	for _, v := range list {
		if names {
			fmt.Fprintln(c.Out, v.Name)
			continue
		}
		rows = append(rows, newVolumeRow(v))
	}
	if names {
		return nil
	}
	p := printer[volumeRow]{
		out: c.Out, format: ctx.String("format"), table: "{{.Driver}}\t{{.Name}}",
		header: volumeHeader,
	}
	return p.print(rows)
}

func createVolumeCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "Create a volume", ArgsUsage: "[VOLUME]",
		Description: "volume create --label app=web data",
		Flags: []cli.Flag{
			Text("driver d", "Volume driver (default local)"),
			List("label", "Set a label (name=value)"),
			Text("name", "The volume's name, instead of an argument"),
			List("opt o", "Option of the driver (type=tmpfs, device=tmpfs, o=size=64m)"),
		},
		Action: c.createVolume,
	}
}

func (c *CLI) createVolume(ctx *cli.Context) error {
	name := ctx.String("name")
	switch {
	case ctx.NArg() > 1:
		return Exactly(ctx, 1)
	case ctx.NArg() == 1 && name != "":
		return fmt.Errorf("conflicting options: cannot specify a volume-name through both --name " +
			"and as a positional arg")
	case ctx.NArg() == 1:
		name = ctx.Args().First()
	}
	labels, err := request.Labels(nil, ctx.StringSlice("label"))
	if err != nil {
		return err
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	v, err := e.CreateVolume(ctx.Context, volume.CreateRequest{
		Name: name, Driver: ctx.String("driver"), Labels: labels,
		DriverOpts: request.Pairs(ctx.StringSlice("opt")),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Out, v.Name)
	return nil
}

func rmVolumeCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "Remove one or more volumes", ArgsUsage: "VOLUME [VOLUME...]",
		Description: "volume rm data",
		Flags:       []cli.Flag{force("No error if there is none")},
		Action: func(ctx *cli.Context) error {
			return c.each(ctx, func(e Engine, name string) error {
				return e.RemoveVolume(ctx.Context, name, ctx.Bool("force"))
			})
		},
	}
}
