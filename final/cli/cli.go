//go:build linux

// Package cli is the command line: Docker's commands, flags, words and exit statuses. A command
// reads its flags, makes a request, calls the engine and prints; it does nothing else.
//
// It is linked into two programs. minidocker starts a container in milliseconds and so has no
// commands that need HTTP, TLS or archives; it gives those up to minidockerd, which lies beside it
// and has all (package heavy).
//
// Results go to the standard output, all else to standard error. The exit status is the
// container's; or 125 if the engine failed, 126 if its command cannot be executed, 127 if there is
// none.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// CLI is a command line. Its fields are set before Main.
type CLI struct {
	Name     string // of the program
	Version  string
	In       io.Reader
	Out, Err io.Writer
	// Open gives the engine, at the first command that needs it.
	Open func(Globals) (Engine, error)
	// Heavy are the commands that this program has beside the lean ones, by their paths ("image
	// pull"). A command that is in neither is minidockerd's.
	Heavy map[string]func(*CLI) *cli.Command
	// Exec becomes minidockerd with a command line; it is for tests to change.
	Exec func(args []string) error
	// Pull gets an image that create misses; nil: minidockerd pull does.
	Pull func(ctx context.Context, ref, platform string, quiet bool) error

	Globals Globals
	engine  Engine
}

// Globals are the options before the command.
type Globals struct {
	Root, Run string // folders; "" is the engine's default
	Driver    string // of the storage; "" is chosen by the engine
	Config    string // folder of config.json with credentials for registries
	Debug     bool
}

// Status is an exit status. Without Err nothing is printed.
type Status struct {
	Code int
	Err  error
}

func (s *Status) Error() string {
	if s.Err == nil {
		return fmt.Sprintf("exit status %d", s.Code)
	}
	return s.Err.Error()
}

// Unwrap gives the reason.
func (s *Status) Unwrap() error { return s.Err }

// Statuses of the command line itself.
const (
	statusFailed = 1
	statusUsage  = 125 // flags that make no sense, and what the engine could not start
)

// Main runs a command line (without the program's name) and gives the exit status.
func (c *CLI) Main(ctx context.Context, args []string) int {
	err := errors.Join(c.run(ctx, args), c.close())
	if err == nil {
		return 0
	}
	var s *Status
	if !errors.As(err, &s) {
		s = &Status{Code: statusFailed, Err: err}
	}
	if s.Err != nil {
		fmt.Fprintf(c.Err, "%s: %v\n", c.Name, s.Err)
	}
	return s.Code
}

func (c *CLI) run(ctx context.Context, args []string) error {
	rest, help, err := c.globals(args)
	var done *Status
	if errors.As(err, &done) {
		return done
	}
	if err != nil {
		return &Status{Code: statusUsage, Err: err}
	}
	if len(rest) == 0 {
		return c.helpAll()
	}
	if rest[0] == "help" || help {
		rest = append(rest[1:], "--help")
		if len(rest) == 1 {
			return c.helpAll()
		}
	}
	switch rest[0] {
	case "__complete":
		return c.complete(ctx, rest[1:])
	case "completion":
		return c.completion(rest[1:])
	case "shim-ended", "shim-restart", "shim-collect":
		return c.fromShim(rest)
	}
	e, rest, err := find(rest)
	if err != nil {
		return err
	}
	if e == nil {
		return c.helpGroup(rest[0])
	}
	command := c.command(e)
	if command == nil {
		return c.exec(args)
	}
	return c.runCommand(ctx, e, command, rest)
}

// command makes a command; it is nil if it is another program's.
func (c *CLI) command(e *entry) *cli.Command {
	if e.make != nil {
		return e.make(c)
	}
	if build := c.Heavy[e.path]; build != nil {
		return build(c)
	}
	return nil
}

func (c *CLI) runCommand(
	ctx context.Context, e *entry, command *cli.Command, words []string,
) error {
	a, err := sortOut(command.Flags, words, e.first)
	if err != nil {
		return c.usage(e, err)
	}
	if a.help {
		c.helpCommand(e, command)
		return nil
	}
	command.Flags = a.flags
	command.HideHelp = true
	command.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
		return c.usage(e, errors.New(strings.Replace(err.Error(), "flag -", "flag --", 1)))
	}
	app := &cli.App{
		Name: c.Name, Writer: c.Out, ErrWriter: c.Err, HideHelp: true, HideVersion: true,
		Commands: []*cli.Command{command}, DisableSliceFlagSeparator: true,
		ExitErrHandler: func(*cli.Context, error) {},
	}
	return app.RunContext(ctx, append([]string{c.Name, command.Name}, a.words...))
}

// usage is an error in a command's words.
func (c *CLI) usage(e *entry, err error) error {
	return &Status{Code: statusUsage, Err: fmt.Errorf("%w\n\nRun '%s %s --help' for more information",
		err, c.Name, e.called())}
}

// globals takes the options before the command off.
func (c *CLI) globals(args []string) (rest []string, help bool, err error) {
	flags := []cli.Flag{
		Text("root", "Folder of the persistent state (default /var/lib/minidocker)"),
		Text("run", "Folder of the state until the next boot (default /run/minidocker)"),
		Text("storage-driver s", "Storage driver (default: the best that this machine has)"),
		Text("config", "Folder of the registries' credentials (default ~/.docker)"),
		Toggle("debug D", "Say more"), Toggle("version v", "Print the version"),
	}
	if len(args) > 0 && !isFlag(args[0]) { // mostly
		return args, false, nil
	}
	a, err := sortOut(flags, args, true)
	if err != nil || a.help {
		return nil, true, err
	}
	for i, word := range a.words {
		if word == "--" {
			return a.words[i+1:], false, nil
		}
		name, value, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		switch name {
		case "root":
			c.Globals.Root = value
		case "run":
			c.Globals.Run = value
		case "storage-driver":
			c.Globals.Driver = value
		case "config":
			c.Globals.Config = value
		case "debug":
			c.Globals.Debug = value == "true"
		case "version":
			fmt.Fprintf(c.Out, "%s version %s\n", c.Name, c.Version)
			return nil, false, &Status{}
		}
	}
	return nil, false, nil
}

// Engine opens the engine, once.
func (c *CLI) Engine() (Engine, error) {
	if c.engine == nil {
		e, err := c.Open(c.Globals)
		if err != nil {
			return nil, err
		}
		c.engine = e
	}
	return c.engine, nil
}

// close lets go of the engine, if there is one.
func (c *CLI) close() error {
	if closer, ok := c.engine.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// exec becomes minidockerd, or says that this program lacks the command.
func (c *CLI) exec(args []string) error {
	if c.Heavy != nil {
		return fmt.Errorf("unknown command: %s %s", c.Name, strings.Join(args, " "))
	}
	if c.Exec != nil {
		return c.Exec(args)
	}
	program, err := Minidockerd()
	if err != nil {
		return err
	}
	err = syscall.Exec(program, append([]string{c.Name}, args...), os.Environ())
	return fmt.Errorf("execute %q, which has this command: %w", program, err)
}

// Minidockerd is the program with the heavy commands: it lies in this one's folder.
func Minidockerd() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's file: %w", err)
	}
	return filepath.Join(filepath.Dir(self), "minidockerd"), nil
}

// NeedsEngine says whether a command line is for the engine, and not only about the program.
func NeedsEngine(args []string) bool {
	for i, word := range args {
		switch {
		case word == "--help" || word == "-h" || word == "--version" || word == "-v" || word == "help":
			return false
		case i == 0 && (word == "completion" || word == "search" || word == "login" || word == "logout"):
			return false
		case !strings.HasPrefix(word, "-"):
			return true
		}
	}
	return false
}
