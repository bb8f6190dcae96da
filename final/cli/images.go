//go:build linux

package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

func imagesCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "images", Usage: "List images", ArgsUsage: "[REPOSITORY[:TAG]]",
		Description: "images --filter dangling=true",
		Flags: []cli.Flag{
			Toggle("all a", "Show intermediate images as well"),
			Toggle("digests", "Show digests"), filter(), format(), noTrunc(), quiet(),
		},
		Action: c.images,
	}
}

func (c *CLI) images(ctx *cli.Context) error {
	filters, err := parseFilters(ctx)
	if err != nil {
		return err
	}
	if ctx.NArg() > 1 {
		return Exactly(ctx, 1)
	}
	if ctx.NArg() == 1 {
		filters["reference"] = append(filters["reference"], ctx.Args().First())
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	digests := ctx.Bool("digests") || strings.Contains(ctx.String("format"), ".Digest")
	list, err := e.Images(ctx.Context, engine.ImageListOptions{
		All: ctx.Bool("all"), Filters: filters,
	})
	if err != nil {
		return err
	}
	long := ctx.Bool("no-trunc")
	if ctx.Bool("quiet") && !ctx.IsSet("format") {
		for _, s := range list {
			fmt.Fprintln(c.Out, short(s.ID, long))
		}
		return nil
	}
	var rows []imageRow
	for i := range list {
		rows = append(rows, imageRows(&list[i], digests, long)...)
	}
	p := printer[imageRow]{
		out: c.Out, format: ctx.String("format"), header: imageHeader,
		table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
	}
	if digests {
		p.table = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	}
	return p.print(rows)
}

// imageRow is a line of images: an image has one for each of its names.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag,
	UniqueSize, VirtualSize string
}

var imageHeader = imageRow{
	Containers: "CONTAINERS", CreatedAt: "CREATED AT", CreatedSince: "CREATED", Digest: "DIGEST",
	ID: "IMAGE ID", Repository: "REPOSITORY", SharedSize: "SHARED SIZE", Size: "SIZE", Tag: "TAG",
	UniqueSize: "UNIQUE SIZE", VirtualSize: "SIZE",
}

const none = "<none>"

func imageRows(s *image.Summary, digests, long bool) []imageRow {
	created := time.Unix(s.Created, 0)
	row := imageRow{
		Containers: "N/A", CreatedAt: created.String(), CreatedSince: ago(created), Digest: none,
		ID: short(s.ID, long), Repository: none, SharedSize: "N/A", Size: size(s.Size), Tag: none,
		UniqueSize: "N/A", VirtualSize: size(s.Size),
	}
	if s.Containers >= 0 {
		row.Containers = fmt.Sprint(s.Containers)
	}
	var rows []imageRow
	named := map[string]bool{}
	for _, name := range s.RepoTags {
		row.Repository, row.Tag = cutTag(name)
		row.Digest = digestOf(s, row.Repository)
		named[row.Repository] = true
		rows = append(rows, row)
	}
	row.Tag = none
	for _, name := range s.RepoDigests {
		repository, digest, _ := strings.Cut(name, "@")
		if !named[repository] && (digests || len(s.RepoTags) == 0) {
			row.Repository, row.Digest = repository, digest
			rows = append(rows, row)
		}
	}
	if rows == nil {
		rows = append(rows, row)
	}
	return rows
}

func cutTag(name string) (repository, tag string) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.Contains(name[i:], "/") {
		return name, none
	}
	return name[:i], name[i+1:]
}

func digestOf(s *image.Summary, repository string) string {
	for _, name := range s.RepoDigests {
		if of, digest, _ := strings.Cut(name, "@"); of == repository {
			return digest
		}
	}
	return none
}

func historyCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "Show how an image came about", ArgsUsage: "IMAGE",
		Description: "history --no-trunc busybox",
		Flags: []cli.Flag{
			format(), Toggle("human H", "Print sizes and dates for people (default true)"),
			noTrunc(), quiet(),
		},
		Action: c.history,
	}
}

// historyRow is a line of history.
type historyRow struct {
	Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string
}

func (c *CLI) history(ctx *cli.Context) error {
	if err := Exactly(ctx, 1); err != nil {
		return err
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	items, err := e.History(ctx.Context, ctx.Args().First())
	if err != nil {
		return err
	}
	long, human := ctx.Bool("no-trunc"), !ctx.IsSet("human") || ctx.Bool("human")
	var rows []historyRow
	for _, item := range items {
		created := time.Unix(item.Created, 0)
		row := historyRow{
			Comment: item.Comment, CreatedAt: created.Format(time.RFC3339),
			CreatedSince: ago(created), ID: short(item.ID, long), Size: size(item.Size),
			CreatedBy: ellipsis(strings.ReplaceAll(item.CreatedBy, "\t", " "), 45, long),
		}
		if !human {
			row.CreatedSince, row.Size = row.CreatedAt, fmt.Sprint(item.Size)
		}
		if ctx.Bool("quiet") {
			fmt.Fprintln(c.Out, row.ID)
		}
		rows = append(rows, row)
	}
	if ctx.Bool("quiet") {
		return nil
	}
	p := printer[historyRow]{
		out: c.Out, format: ctx.String("format"),
		table:  "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
		header: historyRow{"COMMENT", "CREATED AT", "CREATED BY", "CREATED", "IMAGE", "SIZE"},
	}
	return p.print(rows)
}

func tagCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "tag", Usage: "Give an image another name",
		ArgsUsage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Description: "tag busybox mine:1",
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 2); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			return e.Tag(ctx.Context, ctx.Args().Get(0), ctx.Args().Get(1))
		},
	}
}

func rmiCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "rmi", Usage: "Remove one or more images", ArgsUsage: "IMAGE [IMAGE...]",
		Description: "rmi mine:1",
		Flags: []cli.Flag{
			force("Remove it although stopped containers use it, or it has several names"),
			hidden(Toggle("no-prune", "")),
		},
		Action: func(ctx *cli.Context) error {
			return c.eachQuietly(ctx, func(e Engine, ref string) error {
				deleted, err := e.RemoveImage(ctx.Context, ref, ctx.Bool("force"))
				c.printDeleted(deleted)
				if err != nil && notFound(err) && ctx.Bool("force") {
					fmt.Fprintf(c.Err, "%s: %v\n", c.Name, err)
					return nil
				}
				return err
			})
		},
	}
}

func (c *CLI) printDeleted(deleted []image.DeleteResponse) {
	for _, d := range deleted {
		if d.Untagged != "" {
			fmt.Fprintln(c.Out, "Untagged:", d.Untagged)
		}
		if d.Deleted != "" {
			fmt.Fprintln(c.Out, "Deleted:", d.Deleted)
		}
	}
}
