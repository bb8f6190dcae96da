//go:build linux

package cli

import (
	"errors"

	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"

	"minidocker/final/cli/request"
	"minidocker/final/engine"
)

func execCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "Execute a command in a running container",
		ArgsUsage:   "CONTAINER COMMAND [ARG...]",
		Description: "exec -it web sh\nexec -u www-data -e DEBUG=1 web env",
		Flags: []cli.Flag{
			Toggle("detach d", "Run in the background"),
			Text("detach-keys", "Keys that detach from the command (default ctrl-p,ctrl-q)"),
			List("env e", "Set an environment variable"),
			List("env-file", "Read environment variables from a file"),
			Toggle("interactive i", "Keep STDIN open even if not attached"),
			Toggle("privileged", "Give all privileges of the host's root"),
			Toggle("tty t", "Allocate a pseudo-terminal"),
			Text("user u", "User, and group (name|uid[:group|gid])"),
			Text("workdir w", "Working directory"),
		},
		Action: func(ctx *cli.Context) error {
			err := c.execIn(ctx)
			var s *engine.StartError
			if errors.As(err, &s) {
				return &Status{Code: s.Status, Err: err}
			}
			return err
		},
	}
}

func (c *CLI) execIn(ctx *cli.Context) error {
	if err := AtLeast(ctx, 2); err != nil {
		return err
	}
	detach := ctx.Bool("detach")
	r := &container.ExecCreateRequest{
		User: ctx.String("user"), Privileged: ctx.Bool("privileged"), Tty: ctx.Bool("tty"),
		WorkingDir: ctx.String("workdir"), Cmd: ctx.Args().Tail(),
		AttachStdin:  ctx.Bool("interactive") && !detach,
		AttachStdout: !detach, AttachStderr: !detach, DetachKeys: ctx.String("detach-keys"),
	}
	var err error
	if r.Env, err = request.Env(ctx.StringSlice("env-file"), ctx.StringSlice("env")); err != nil {
		return err
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	if detach {
		_, err := e.Exec(ctx.Context, ctx.Args().First(), r, nil)
		return err
	}
	a := attaching{
		tty: r.Tty, in: r.AttachStdin, out: true, err: true, proxy: true, keys: r.DetachKeys,
	}
	if err := c.prepare(&a); err != nil {
		return err
	}
	if rows, columns := c.size(); r.Tty && rows > 0 {
		r.ConsoleSize = &[2]uint{uint(rows), uint(columns)}
	}
	return c.session(&a, func(s *engine.Streams) (Attachment, error) {
		return e.Exec(ctx.Context, ctx.Args().First(), r, s)
	})
}
