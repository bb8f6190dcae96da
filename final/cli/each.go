//go:build linux

package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// AtLeast is an error if there are fewer arguments.
func AtLeast(ctx *cli.Context, n int) error {
	if ctx.NArg() >= n {
		return nil
	}
	return fmt.Errorf("'%s %s' requires at least %s", ctx.App.Name, ctx.Command.Name, counted(n))
}

// Exactly is an error if there are fewer arguments, or more.
func Exactly(ctx *cli.Context, n int) error {
	if ctx.NArg() == n {
		return nil
	}
	if n == 0 {
		return fmt.Errorf("'%s %s' accepts no arguments", ctx.App.Name, ctx.Command.Name)
	}
	return fmt.Errorf("'%s %s' requires %s", ctx.App.Name, ctx.Command.Name, counted(n))
}

func counted(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// each does something to every argument and prints those with which it went well. All are tried;
// what went wrong is told, and makes the exit status 1.
func (c *CLI) each(ctx *cli.Context, do func(e Engine, ref string) error) error {
	return c.eachQuietly(ctx, func(e Engine, ref string) error {
		if err := do(e, ref); err != nil {
			return err
		}
		fmt.Fprintln(c.Out, ref)
		return nil
	})
}

// eachQuietly is each, but prints nothing where it goes well.
func (c *CLI) eachQuietly(ctx *cli.Context, do func(e Engine, ref string) error) error {
	if err := AtLeast(ctx, 1); err != nil {
		return err
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	failed := false
	for _, ref := range ctx.Args().Slice() {
		if err := do(e, ref); err != nil {
			fmt.Fprintf(c.Err, "%s: %v\n", c.Name, err)
			failed = true
		}
	}
	if failed {
		return &Status{Code: statusFailed}
	}
	return nil
}
