//go:build linux

// Command minidockerd is minidocker with all commands: also those that need registries, archives
// and HTTP. It is seldom called by its name, since minidocker becomes it where it must.
package main

import (
	"context"
	"os"

	"minidocker/final/cli"
	"minidocker/final/cli/heavy"
	"minidocker/final/engine"
)

func main() {
	c := &cli.CLI{
		Name: "minidocker", Version: engine.Version, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Open: cli.Open, Heavy: heavy.Commands(),
	}
	os.Exit(c.Main(context.Background(), os.Args[1:]))
}
