//go:build linux

package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"minidocker/final/cli/request"
	"minidocker/final/engine"
)

func runCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "Create and run a new container", ArgsUsage: "IMAGE [COMMAND] [ARG...]",
		Description: "run -it --rm busybox sh\nrun -d --name web -p 8080:80 busybox httpd -f -h /www",
		Flags: append(containerFlags(),
			Toggle("detach d", "Run in the background and print the container's ID"),
			Text("detach-keys", "Keys that detach from the container (default ctrl-p,ctrl-q)"),
			Toggle("sig-proxy", "Pass signals on to the process (default true)")),
		Action: func(ctx *cli.Context) error {
			err := c.runContainer(ctx)
			var s *Status
			if err != nil && !errors.As(err, &s) {
				return &Status{Code: startStatus(err), Err: err}
			}
			return err
		},
	}
}

func (c *CLI) runContainer(ctx *cli.Context) error {
	r, err := c.parseContainer(ctx)
	if err != nil {
		return err
	}
	if ctx.Bool("detach") {
		return c.runDetached(ctx, r)
	}
	a := attaching{
		tty: r.Config.Tty, in: r.Config.AttachStdin, out: r.Config.AttachStdout,
		err: r.Config.AttachStderr, proxy: !ctx.IsSet("sig-proxy") || ctx.Bool("sig-proxy"),
		keys: ctx.String("detach-keys"),
	}
	if err := c.prepare(&a); err != nil {
		return err
	}
	id, err := c.create(ctx, r)
	if err != nil {
		return err
	}
	return c.session(&a, func(s *engine.Streams) (Attachment, error) {
		return c.engine.Start(ctx.Context, id, s)
	})
}

func (c *CLI) runDetached(ctx *cli.Context, r *request.Container) error {
	if ctx.IsSet("attach") {
		return errors.New("conflicting options: cannot specify both --attach and --detach")
	}
	r.Config.AttachStdin, r.Config.AttachStdout, r.Config.AttachStderr = false, false, false
	r.Config.StdinOnce = false
	id, err := c.create(ctx, r)
	if err != nil {
		return err
	}
	if _, err := c.engine.Start(ctx.Context, id, nil); err != nil {
		return err
	}
	fmt.Fprintln(c.Out, id)
	return nil
}

// startStatus is the exit status for what could not be started: 126 and 127 as a shell has it, 125
// for the engine's own failures.
func startStatus(err error) int {
	var e *engine.StartError
	if errors.As(err, &e) {
		return e.Status
	}
	return statusUsage
}
