//go:build linux

package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

func startCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "Start one or more stopped containers",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "start -a web",
		Flags: []cli.Flag{
			Toggle("attach a", "Attach STDOUT and STDERR, and pass signals on"),
			Text("detach-keys", "Keys that detach from the container (default ctrl-p,ctrl-q)"),
			Toggle("interactive i", "Attach STDIN as well"),
		},
		Action: func(ctx *cli.Context) error {
			if !ctx.Bool("attach") && !ctx.Bool("interactive") {
				return c.each(ctx, func(e Engine, ref string) error {
					_, err := e.Start(ctx.Context, ref, nil)
					return err
				})
			}
			if ctx.NArg() != 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			return c.startAttached(ctx)
		},
	}
}

func (c *CLI) startAttached(ctx *cli.Context) error {
	e, err := c.Engine()
	if err != nil {
		return err
	}
	ref := ctx.Args().First()
	info, err := e.Inspect(ctx.Context, ref, false)
	if err != nil {
		return err
	}
	a := attaching{
		tty: info.Config.Tty, in: ctx.Bool("interactive") && info.Config.OpenStdin,
		out: true, err: true, proxy: true, keys: ctx.String("detach-keys"),
	}
	if err := c.prepare(&a); err != nil {
		return err
	}
	err = c.session(&a, func(s *engine.Streams) (Attachment, error) {
		if info.State.Running {
			return e.Attach(ctx.Context, ref, s)
		}
		return e.Start(ctx.Context, ref, s)
	})
	var s *engine.StartError
	if errors.As(err, &s) {
		return &Status{Code: s.Status, Err: err}
	}
	return err
}

func attachCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "attach", Usage: "Attach the streams here to a running container",
		ArgsUsage: "CONTAINER", Description: "attach --detach-keys ctrl-x web",
		Flags: []cli.Flag{
			Text("detach-keys", "Keys that detach from the container (default ctrl-p,ctrl-q)"),
			Toggle("no-stdin", "Do not attach STDIN"),
			Toggle("sig-proxy", "Pass signals on to the process (default true)"),
		},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 1); err != nil {
				return err
			}
			return c.attach(ctx)
		},
	}
}

func (c *CLI) attach(ctx *cli.Context) error {
	e, err := c.Engine()
	if err != nil {
		return err
	}
	ref := ctx.Args().First()
	info, err := e.Inspect(ctx.Context, ref, false)
	if err != nil {
		return err
	}
	for _, not := range []struct {
		is    bool
		state string
		then  string
	}{
		{!info.State.Running, "stopped", "start it first"},
		{info.State.Paused, "paused", "unpause it first"},
		{info.State.Restarting, "restarting", "wait until it is running"},
	} {
		if not.is {
			return fmt.Errorf("cannot attach to a %s container, %s", not.state, not.then)
		}
	}
	a := attaching{
		tty: info.Config.Tty, in: info.Config.OpenStdin && !ctx.Bool("no-stdin"),
		out: true, err: true, keys: ctx.String("detach-keys"),
		proxy: !ctx.IsSet("sig-proxy") || ctx.Bool("sig-proxy"),
	}
	if err := c.prepare(&a); err != nil {
		return err
	}
	return c.session(&a, func(s *engine.Streams) (Attachment, error) {
		return e.Attach(ctx.Context, ref, s)
	})
}
