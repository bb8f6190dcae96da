//go:build linux

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"

	"minidocker/final/cli/request"
	"minidocker/final/engine"
)

// The commands that do one thing to each container that is named.

func stopCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "Stop one or more running containers",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "stop -t 5 web",
		Flags: stopFlags(),
		Action: func(ctx *cli.Context) error {
			return c.each(ctx, func(e Engine, ref string) error {
				return e.Stop(ctx.Context, ref, ctx.String("signal"), seconds(ctx))
			})
		},
	}
}

func restartCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "restart", Usage: "Restart one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "restart -t 5 web",
		Flags: stopFlags(),
		Action: func(ctx *cli.Context) error {
			return c.each(ctx, func(e Engine, ref string) error {
				return e.Restart(ctx.Context, ref, ctx.String("signal"), seconds(ctx))
			})
		},
	}
}

func stopFlags() []cli.Flag {
	return []cli.Flag{
		Text("signal s", "Signal to send first (default: the container's stop signal)"),
		count("timeout t", "Seconds to wait before killing it (-1: for ever)"),
		&cli.IntFlag{Name: "time", Hidden: true},
	}
}

// seconds are how long to wait; nil is as long as the container says.
func seconds(ctx *cli.Context) *int {
	for _, name := range []string{"timeout", "time"} {
		if ctx.IsSet(name) {
			n := ctx.Int(name)
			return &n
		}
	}
	return nil
}

func killCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "kill", Usage: "Kill one or more running containers",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "kill -s HUP web",
		Flags: []cli.Flag{Text("signal s", "Signal to send (default KILL)")},
		Action: func(ctx *cli.Context) error {
			signal := ctx.String("signal")
			if signal == "" {
				signal = "SIGKILL"
			}
			return c.each(ctx, func(e Engine, ref string) error {
				return e.Kill(ctx.Context, ref, signal)
			})
		},
	}
}

func pauseCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "pause", Usage: "Pause all processes in one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "pause web",
		Action: func(ctx *cli.Context) error {
			return c.each(ctx, func(e Engine, ref string) error { return e.Pause(ctx.Context, ref) })
		},
	}
}

func unpauseCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "unpause", Usage: "Let paused containers go on",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "unpause web",
		Action: func(ctx *cli.Context) error {
			return c.each(ctx, func(e Engine, ref string) error { return e.Unpause(ctx.Context, ref) })
		},
	}
}

func waitCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "wait", Usage: "Wait until containers stop, and print their exit statuses",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "wait web",
		Action: func(ctx *cli.Context) error {
			return c.eachQuietly(ctx, func(e Engine, ref string) error {
				w, err := e.Wait(ctx.Context, ref, container.WaitConditionNotRunning)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.Out, w.StatusCode)
				if w.Error != nil {
					return errors.New(w.Error.Message)
				}
				return nil
			})
		},
	}
}

func rmCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "Remove one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "rm -fv web",
		Flags: []cli.Flag{
			force("Kill it if it is running"),
			Toggle("volumes v", "Remove its anonymous volumes"),
		},
		Action: func(ctx *cli.Context) error {
			o := engine.RemoveOptions{Force: ctx.Bool("force"), Volumes: ctx.Bool("volumes")}
			return c.eachQuietly(ctx, func(e Engine, ref string) error {
				ref = strings.TrimPrefix(ref, "/")
				err := e.Remove(ctx.Context, ref, o)
				if err == nil {
					fmt.Fprintln(c.Out, ref)
				} else if o.Force && notFound(err) { // as rm(1) -f: it is gone
					fmt.Fprintf(c.Err, "%s: %v\n", c.Name, err)
					return nil
				}
				return err
			})
		},
	}
}

func renameCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "rename", Usage: "Rename a container", ArgsUsage: "CONTAINER NEW_NAME",
		Description: "rename web old-web",
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 2); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			return e.Rename(ctx.Context, ctx.Args().Get(0), ctx.Args().Get(1))
		},
	}
}

func updateCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "Change the limits of one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]", Description: "update -m 512m --cpus 1.5 web",
		Flags: []cli.Flag{
			count("blkio-weight", "Block I/O weight, 10 to 1000, or 0 to disable"),
			integer("cpu-period", "Period of the CPU quota in microseconds"),
			integer("cpu-quota", "CPU time in a period in microseconds"),
			integer("cpu-rt-period", "Period of real-time CPU in microseconds"),
			integer("cpu-rt-runtime", "Real-time CPU in a period in microseconds"),
			integer("cpu-shares c", "CPU weight, relative to other containers"),
			Text("cpus", "Number of CPUs (1.5)"),
			Text("cpuset-cpus", "CPUs to run on (0-3, 0,1)"),
			Text("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
			Text("memory m", "Memory limit (512m)"),
			Text("memory-reservation", "Memory to keep when memory is scarce"),
			Text("memory-swap", "Limit of memory and swap together, -1 for no limit"),
			integer("pids-limit", "Limit of processes, -1 for none"),
			Text("restart", "Restart policy: no, on-failure[:max], always, unless-stopped"),
		},
		Action: func(ctx *cli.Context) error {
			if ctx.NumFlags() == 0 {
				return errors.New("you must provide one or more flags when using this command")
			}
			u, err := request.Update(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, func(e Engine, ref string) error {
				r, err := e.Update(ctx.Context, ref, u)
				for _, w := range r.Warnings {
					fmt.Fprintln(c.Err, "WARNING:", w)
				}
				return err
			})
		},
	}
}
