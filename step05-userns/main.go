//go:build linux

// Command minidocker runs a command in a container. Every step of the tutorial
// adds one kernel feature to it; this one starts a child process with clone(2)
// in namespaces of its own, on a root file system of its own, as a root of its own.
//
//	minidocker run [--hostname NAME] [--rootfs DIR [-v SRC:DST[:ro]]] CMD [ARG...]
//
// It starts itself twice: "minidocker run" is the parent, which stays outside;
// "minidocker init" is the child, which becomes CMD.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

// exitEngine is the exit status when minidocker itself fails; docker's too.
const exitEngine = 125

// init keeps main on the process's first thread. To the kernel, the signal that ends
// the child when its parent dies (Pdeathsig in run.go) is a matter between threads:
// the one that starts the child must live on, and the one that becomes the command
// must be the one that was started, or the signal is lost.
func init() { runtime.LockOSThread() }

func main() {
	logrus.SetFormatter(plainFormatter{})
	app := &cli.App{
		Name:  "minidocker",
		Usage: "build your own Docker, one kernel feature at a time",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "debug", Usage: "say on standard error what is done"},
		},
		Before: func(c *cli.Context) error {
			if c.Bool("debug") {
				logrus.SetLevel(logrus.DebugLevel)
			}
			return nil
		},
		Commands: []*cli.Command{
			runCommand(),
			initCommand(),
		},
		Action:          unknownCommand,
		OnUsageError:    usageError,
		HideHelpCommand: true,
		// A comma in an argument is the user's own, as in -e LIST=a,b.
		DisableSliceFlagSeparator: true,
		// The exit status is main's to decide, not the library's.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	os.Exit(exitStatus(app.Run(os.Args)))
}

// exitStatus prints an error, if there is one to print, and gives the status to exit with.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	if err.Error() != "" {
		logrus.Error(err)
	}
	var coder cli.ExitCoder
	if errors.As(err, &coder) {
		return coder.ExitCode()
	}
	return exitEngine
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name:         "run",
		Usage:        "run a command in a new container",
		ArgsUsage:    "CMD [ARG...]",
		OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "hostname", Usage: "the container's host name (default: its ID)"},
			&cli.StringFlag{Name: "rootfs", Usage: "`DIR`: the root (default: the host's)"},
			&cli.BoolFlag{Name: "chroot", Usage: "chroot in place of pivot_root, to see why not"},
			&cli.StringSliceFlag{
				Name: "volume", Aliases: []string{"v"},
				Usage: "`SRC:DST[:ro]`: show the host's SRC as DST",
			},
			&cli.BoolFlag{Name: "userns", Usage: "a user namespace (always, for an ordinary user)"},
			&cli.StringSliceFlag{Name: "uidmap", Usage: "`INSIDE:OUTSIDE:COUNT`: map user IDs"},
			&cli.StringSliceFlag{Name: "gidmap", Usage: "`INSIDE:OUTSIDE:COUNT`: map group IDs"},
		},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return errors.New("no command given: minidocker run CMD [ARG...]")
			}
			cfg := config{Debug: c.Bool("debug"), Args: c.Args().Slice(), Env: os.Environ()}
			cfg.ID = newID()
			cfg.Hostname = c.String("hostname")
			if cfg.Hostname == "" {
				cfg.Hostname = cfg.ID
			}
			if err := rootfsOptions(c, &cfg); err != nil {
				return err
			}
			if err := usernsOptions(c, &cfg); err != nil {
				return err
			}
			status, err := run(cfg)
			if cfg.UIDMap != nil && (err != nil || status == exitEngine) && usernsHint() != "" {
				logrus.Warn(usernsHint())
			}
			if err != nil {
				return err
			}
			return cli.Exit("", status)
		},
	}
}

func initCommand() *cli.Command {
	return &cli.Command{
		Name:   "init",
		Usage:  "the container's side of run; run starts it",
		Hidden: true,
		Action: func(*cli.Context) error { return containerInit() },
	}
}

func unknownCommand(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowAppHelp(c)
	}
	return fmt.Errorf("unknown command %q: see minidocker --help", c.Args().First())
}

func usageError(c *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w: see %s --help", err, c.Command.HelpName)
}

// plainFormatter prints "minidocker: LEVEL: message", the same on a terminal and in a file.
type plainFormatter struct{}

func (plainFormatter) Format(e *logrus.Entry) ([]byte, error) {
	return fmt.Appendf(nil, "minidocker: %s: %s\n", e.Level, e.Message), nil
}
