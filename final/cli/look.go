//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// The commands that look into one container.

func topCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "Show a container's processes", ArgsUsage: "CONTAINER [ps OPTIONS]",
		Description: "top web\ntop web -o pid,args",
		Action: func(ctx *cli.Context) error {
			if err := AtLeast(ctx, 1); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			top, err := e.Top(ctx.Context, ctx.Args().First(), strings.Join(ctx.Args().Tail(), " "))
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.Out, 20, 1, 3, ' ', 0)
			for _, row := range append([][]string{top.Titles}, top.Processes...) {
				fmt.Fprintln(w, strings.Join(row, "\t"))
			}
			return w.Flush()
		},
	}
}

func diffCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "Show which files a container has added (A), changed (C), deleted (D)",
		ArgsUsage: "CONTAINER", Description: "diff web",
		Flags: []cli.Flag{format()},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 1); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			changes, err := e.Changes(ctx.Context, ctx.Args().First())
			if err != nil {
				return err
			}
			rows := make([]changeRow, len(changes))
			for i, change := range changes {
				rows[i] = changeRow{Type: change.Kind.String(), Path: change.Path}
			}
			p := printer[changeRow]{
				out: c.Out, format: ctx.String("format"), table: "{{.Type}}\t{{.Path}}",
				header: changeRow{Type: "CHANGE TYPE", Path: "PATH"},
			}
			if p.format == "" {
				p.format = "{{.Type}} {{.Path}}"
			}
			return p.print(rows)
		},
	}
}

// changeRow is a line of diff.
type changeRow struct{ Path, Type string }

func exportCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "Write a container's files as a tar archive", ArgsUsage: "CONTAINER",
		Description: "export -o web.tar web",
		Flags:       []cli.Flag{Text("output o", "Write to a file instead of STDOUT")},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 1); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			return c.Output(ctx.String("output"), func(w io.Writer) error {
				return e.Export(ctx.Context, ctx.Args().First(), w)
			})
		},
	}
}

// Output has an archive written to a file, whole or not at all, or to the standard output ("").
func (c *CLI) Output(name string, write func(io.Writer) error) error {
	if name == "" {
		if terminal(c.Out) >= 0 {
			return errors.New("cowardly refusing to save to a terminal: " +
				"use the -o flag or redirect")
		}
		return write(c.Out)
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return writeTo(name, os.O_WRONLY, write) // a pipe or a device
	} else if err == nil && info.IsDir() {
		return fmt.Errorf("write %q: it is a folder", name)
	}
	partial := name + ".partial"
	if err := writeTo(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, write); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, name)
}

func writeTo(name string, flags int, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
