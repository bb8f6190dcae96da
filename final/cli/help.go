//go:build linux

package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// helpAll lists all commands.
func (c *CLI) helpAll() error {
	fmt.Fprintf(c.Out, "Usage:  %s [OPTIONS] COMMAND\n\nBuild, share and run containers\n\n"+
		"Example:\n  %s run --rm -it busybox sh\n", c.Name, c.Name)
	c.commandsOf("Commands", func(e *entry) string { return e.short })
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nGroups of commands:")
	for _, g := range groups {
		fmt.Fprintf(w, "  %s\t%s\n", g[0], g[1])
	}
	fmt.Fprintln(w, "  completion\tPrint what bash, zsh or fish need to complete commands")
	_ = w.Flush()
	fmt.Fprint(c.Out, `
Options:
      --config DIR           Folder of the registries' credentials (default ~/.docker)
  -D, --debug                Say more
      --root DIR             Folder of the persistent state (default /var/lib/minidocker)
      --run DIR              Folder of the state until the next boot (default /run/minidocker)
  -s, --storage-driver NAME  Storage driver (default: the best that this machine has)
  -v, --version              Print the version
`)
	fmt.Fprintf(c.Out, "\nRun '%s COMMAND --help' for more information on a command.\n", c.Name)
	return nil
}

// helpGroup lists the commands of a group.
func (c *CLI) helpGroup(group string) error {
	fmt.Fprintf(c.Out, "Usage:  %s %s COMMAND\n", c.Name, group)
	c.commandsOf("Commands", func(e *entry) string {
		name, _ := strings.CutPrefix(e.path, group+" ")
		if name == e.path {
			return ""
		}
		return name
	})
	fmt.Fprintf(c.Out, "\nRun '%s %s COMMAND --help' for more information on a command.\n",
		c.Name, group)
	return nil
}

// commandsOf lists the commands that have a name there.
func (c *CLI) commandsOf(title string, name func(*entry) string) {
	fmt.Fprintf(c.Out, "\n%s:\n", title)
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	defer func() { _ = w.Flush() }()
	for _, e := range entries() {
		n := name(e)
		if n == "" {
			continue
		}
		usage := e.usage
		if command := c.command(e); command != nil {
			usage = command.Usage
		}
		fmt.Fprintf(w, "  %s\t%s\n", n, usage)
	}
}

// helpCommand prints a command's usage, what it does, an example and its flags.
func (c *CLI) helpCommand(e *entry, command *cli.Command) {
	options := " [OPTIONS]"
	if len(command.Flags) == 0 {
		options = ""
	}
	fmt.Fprintf(c.Out, "Usage:  %s %s%s %s\n\n%s\n", c.Name, e.called(), options, command.ArgsUsage,
		command.Usage)
	if e.short != "" && e.short != e.path {
		fmt.Fprintf(c.Out, "\nAliases:\n  %s %s, %s %s\n", c.Name, e.path, c.Name, e.short)
	}
	if command.Description != "" {
		fmt.Fprintf(c.Out, "\nExample:\n  %s %s\n", c.Name,
			strings.ReplaceAll(command.Description, "\n", "\n  "+c.Name+" "))
	}
	if len(command.Flags) == 0 {
		return
	}
	fmt.Fprintln(c.Out, "\nOptions:")
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	defer func() { _ = w.Flush() }()
	for _, f := range command.Flags {
		if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
			fmt.Fprintf(w, "  %s\t%s\n", flagNames(f), usageOf(f))
		}
	}
}

// flagNames are a flag's names and what its value is: "-p, --publish list".
func flagNames(f cli.Flag) string {
	names := f.Names()
	s := "    --" + names[0]
	if len(names) > 1 {
		s = "-" + names[1] + ", --" + names[0]
	}
	switch f.(type) {
	case *cli.StringFlag:
		return s + " string"
	case *cli.StringSliceFlag:
		return s + " list"
	case *cli.IntFlag, *cli.Int64Flag:
		return s + " int"
	case *cli.DurationFlag:
		return s + " duration"
	}
	return s
}

func usageOf(f cli.Flag) string {
	if d, ok := f.(cli.DocGenerationFlag); ok {
		return d.GetUsage()
	}
	return ""
}
