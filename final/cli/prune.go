//go:build linux

package cli

import (
	"fmt"
	"strconv"

	"github.com/moby/moby/api/types/volume"
	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

// pruneFlags are those of all commands that remove what is not used.
func pruneFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		List("filter", `Only these, as in "until=24h" or "label=app"`), force("Do not ask"),
	}, more...)
}

// prune asks, removes, and prints what was removed and what that gave.
func (c *CLI) prune(
	ctx *cli.Context, warning, title string,
	remove func(e Engine, f engine.Filters) (removed []string, reclaimed uint64, err error),
) error {
	if err := Exactly(ctx, 0); err != nil {
		return err
	}
	filters, err := parseFilters(ctx)
	if err != nil {
		return err
	}
	if !ctx.Bool("force") {
		fmt.Fprintf(c.Out, "WARNING! %s\n", warning)
		if !c.confirm("Are you sure you want to continue?") {
			return &Status{Code: statusFailed}
		}
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	removed, reclaimed, err := remove(e, filters)
	c.printRemoved(title, removed)
	if err == nil && title != networksTitle {
		fmt.Fprintln(c.Out, "Total reclaimed space:", size(int64(reclaimed)))
	}
	return err
}

const networksTitle = "Deleted Networks"

func (c *CLI) printRemoved(title string, removed []string) {
	if len(removed) == 0 {
		return
	}
	fmt.Fprintln(c.Out, title+":")
	for _, r := range removed {
		fmt.Fprintln(c.Out, r)
	}
	fmt.Fprintln(c.Out)
}

func pruneContainersCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "Remove all stopped containers",
		Description: "container prune --filter until=24h", Flags: pruneFlags(),
		Action: func(ctx *cli.Context) error {
			return c.prune(ctx, "This will remove all stopped containers.", "Deleted Containers",
				func(e Engine, f engine.Filters) ([]string, uint64, error) {
					r, err := e.PruneContainers(ctx.Context, f)
					return r.ContainersDeleted, r.SpaceReclaimed, err
				})
		},
	}
}

func pruneNetworksCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "Remove all networks that no container uses",
		Description: "network prune --filter until=24h", Flags: pruneFlags(),
		Action: func(ctx *cli.Context) error {
			return c.prune(ctx,
				"This will remove all custom networks not used by at least one container.",
				networksTitle, func(e Engine, f engine.Filters) ([]string, uint64, error) {
					r, err := e.PruneNetworks(ctx.Context, f)
					return r.NetworksDeleted, 0, err
				})
		},
	}
}

func pruneVolumesCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "Remove volumes without names that no container uses",
		Description: "volume prune --all",
		Flags:       pruneFlags(Toggle("all a", "Volumes with names as well")),
		Action: func(ctx *cli.Context) error {
			warning := "This will remove anonymous local volumes not used by at least one container."
			if ctx.Bool("all") {
				warning = "This will remove all local volumes not used by at least one container."
			}
			return c.prune(ctx, warning, "Deleted Volumes",
				func(e Engine, f engine.Filters) ([]string, uint64, error) {
					if ctx.Bool("all") {
						f["all"] = []string{"true"}
					}
					r, err := e.PruneVolumes(ctx.Context, f)
					if r == nil {
						r = &volume.PruneReport{}
					}
					return r.VolumesDeleted, r.SpaceReclaimed, err
				})
		},
	}
}

func pruneImagesCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "Remove images without names", Description: "image prune --all",
		Flags: pruneFlags(Toggle("all a", "All images that no container uses")),
		Action: func(ctx *cli.Context) error {
			warning := "This will remove all dangling images."
			if ctx.Bool("all") {
				warning = "This will remove all images without at least one container associated " +
					"to them."
			}
			return c.prune(ctx, warning, "Deleted Images",
				func(e Engine, f engine.Filters) ([]string, uint64, error) {
					return pruneImages(ctx, e, f, ctx.Bool("all"))
				})
		},
	}
}

func pruneImages(ctx *cli.Context, e Engine, f engine.Filters, all bool) ([]string, uint64, error) {
	if f["dangling"] == nil {
		f["dangling"] = []string{strconv.FormatBool(!all)}
	}
	r, err := e.PruneImages(ctx.Context, f)
	if r == nil {
		return nil, 0, err
	}
	var removed []string
	for _, d := range r.ImagesDeleted {
		if d.Untagged != "" {
			removed = append(removed, "untagged: "+d.Untagged)
		}
		if d.Deleted != "" {
			removed = append(removed, "deleted: "+d.Deleted)
		}
	}
	return removed, r.SpaceReclaimed, err
}

func pruneSystemCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "Remove what is not used", Description: "system prune --all --volumes",
		Flags: pruneFlags(Toggle("all a", "All images that no container uses"),
			Toggle("volumes", "Anonymous volumes as well")),
		Action: c.pruneSystem,
	}
}

func (c *CLI) pruneSystem(ctx *cli.Context) error {
	images, volumes := "all dangling images", ""
	if ctx.Bool("all") {
		images = "all images without at least one container associated to them"
	}
	if ctx.Bool("volumes") {
		volumes = "  - all anonymous volumes not used by at least one container\n"
	}
	warning := "This will remove:\n  - all stopped containers\n" +
		"  - all networks not used by at least one container\n" + volumes + "  - " + images + "\n"
	total := uint64(0)
	remove := func(e Engine, f engine.Filters) ([]string, uint64, error) {
		containers, err := e.PruneContainers(ctx.Context, f)
		c.printRemoved("Deleted Containers", containers.ContainersDeleted)
		if err != nil {
			return nil, 0, err
		}
		networks, err := e.PruneNetworks(ctx.Context, f)
		c.printRemoved(networksTitle, networks.NetworksDeleted)
		if err != nil {
			return nil, 0, err
		}
		if ctx.Bool("volumes") {
			volumes, err := e.PruneVolumes(ctx.Context, f)
			if err != nil {
				return nil, 0, err
			}
			c.printRemoved("Deleted Volumes", volumes.VolumesDeleted)
			total += volumes.SpaceReclaimed
		}
		removed, reclaimed, err := pruneImages(ctx, e, f, ctx.Bool("all"))
		return removed, total + containers.SpaceReclaimed + reclaimed, err
	}
	return c.prune(ctx, warning, "Deleted Images", remove)
}
