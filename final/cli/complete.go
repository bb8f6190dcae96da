//go:build linux

package cli

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

//go:embed completions
var completions embed.FS

// completion prints a shell's script. It calls __complete, so that it never needs to change.
func (c *CLI) completion(args []string) error {
	if len(args) == 1 {
		script, err := completions.ReadFile("completions/minidocker." + args[0])
		if err == nil {
			_, err = c.Out.Write(script)
			return err
		}
	}
	return fmt.Errorf("want a shell: %s completion bash, zsh or fish", c.Name)
}

// complete prints what the last of the words may become, a line each.
func (c *CLI) complete(ctx context.Context, words []string) error {
	if len(words) == 0 {
		return nil
	}
	rest, _, err := c.globals(words)
	if err != nil || len(rest) == 0 {
		rest = words[len(words)-1:]
	}
	last := rest[len(rest)-1]
	for _, s := range c.candidates(ctx, rest, words) {
		if strings.HasPrefix(s, last) {
			fmt.Fprintln(c.Out, s)
		}
	}
	return nil
}

func (c *CLI) candidates(ctx context.Context, words, all []string) []string {
	var names []string
	if len(words) == 1 {
		for _, g := range groups {
			names = append(names, g[0])
		}
		for _, e := range entries() {
			if e.short != "" {
				names = append(names, e.short)
			}
		}
		return append(names, "completion", "help")
	}
	if len(words) == 2 && isGroup(words[0]) {
		for _, e := range entries() {
			if name, ok := strings.CutPrefix(e.path, words[0]+" "); ok {
				names = append(names, name)
			}
		}
		return names
	}
	e, rest, err := find(words)
	if err != nil || e == nil {
		return nil
	}
	command := c.command(e)
	if command == nil {
		if c.Heavy == nil {
			_ = c.exec(append([]string{"__complete"}, all...)) // it does not come back
		}
		return nil
	}
	return c.ofCommand(ctx, e, command, rest)
}

// ofCommand are the flags, a flag's values, or what the command's usage says comes there.
func (c *CLI) ofCommand(
	ctx context.Context, e *entry, command *cli.Command, rest []string,
) []string {
	last := rest[len(rest)-1]
	before := rest[:len(rest)-1]
	if strings.HasPrefix(last, "-") {
		names := []string{"--help"}
		for _, f := range command.Flags {
			if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
				names = append(names, "--"+f.Names()[0])
			}
		}
		return names
	}
	a, err := sortOut(command.Flags, before, e.first)
	if err != nil { // the flag before wants a value
		return c.values(ctx, strings.TrimLeft(before[len(before)-1], "-"))
	}
	i := slices.Index(a.words, "--")
	if a.help || i < 0 {
		return nil
	}
	place := len(a.words) - i - 1
	usage := strings.Fields(command.ArgsUsage)
	if place >= len(usage) {
		if len(usage) == 0 || !strings.HasSuffix(usage[len(usage)-1], "...]") {
			return nil
		}
		place = len(usage) - 1
	}
	return c.objects(ctx, strings.Trim(usage[place], "[].…"))
}

// values are those that a flag may have.
func (c *CLI) values(ctx context.Context, flag string) []string {
	switch flag {
	case "network", "net":
		return append(c.objects(ctx, "NETWORK"), "host", "none")
	case "volumes-from":
		return c.objects(ctx, "CONTAINER")
	case "volume", "v":
		return c.objects(ctx, "VOLUME")
	case "restart":
		return []string{"no", "always", "on-failure", "unless-stopped"}
	case "pull":
		return []string{"always", "missing", "never"}
	case "type":
		return []string{"container", "image", "network", "volume"}
	case "signal", "s", "stop-signal":
		return []string{"SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"}
	}
	return nil
}

// objects are the names of all objects of a kind, by the word of the usage.
func (c *CLI) objects(ctx context.Context, kind string) (names []string) {
	e, err := c.Engine()
	if err != nil {
		return nil
	}
	kind, _, _ = strings.Cut(kind, "[")
	all := kind == "NAME|ID"
	if kind == "CONTAINER" || all {
		list, _ := e.Containers(ctx, engine.ListOptions{All: true})
		for i := range list {
			for _, name := range list[i].Names {
				names = append(names, trimSlash(name))
			}
		}
	}
	if kind == "IMAGE" || kind == "SOURCE_IMAGE" || all {
		list, _ := e.Images(ctx, engine.ImageListOptions{})
		for i := range list {
			names = append(names, list[i].RepoTags...)
		}
	}
	if kind == "NETWORK" || all {
		list, _ := e.Networks(ctx, nil)
		for i := range list {
			names = append(names, list[i].Name)
		}
	}
	if kind == "VOLUME" || all {
		list, _ := e.Volumes(ctx, nil)
		for _, v := range list {
			names = append(names, v.Name)
		}
	}
	return names
}
