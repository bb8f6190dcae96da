//go:build linux

// Command minidockerd is minidocker with all commands: also those that need registries, archives
// and HTTP. It is seldom called by its name, since minidocker becomes it where it must.
package main

import (
	"context"
	"fmt"
	"os"

	"minidocker/final/cli"
	"minidocker/final/cli/heavy"
	"minidocker/final/engine"
	"minidocker/final/rootless"
	"minidocker/final/storage/union"
)

func main() {
	// The storage driver fuse starts this for each mount.
	if len(os.Args) == 2 && os.Args[1] == "union-serve" {
		if err := union.Main(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == rootless.HolderArg {
		os.Exit(rootless.Holder())
	}
	if rootless.Wanted() && cli.NeedsEngine(os.Args[1:]) {
		fmt.Fprintln(os.Stderr, "minidocker:", rootless.Enter()) // it returns only if it fails
		os.Exit(125)
	}
	c := &cli.CLI{
		Name: "minidocker", Version: engine.Version, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Open: cli.Open, Heavy: heavy.Commands(),
	}
	os.Exit(c.Main(context.Background(), os.Args[1:]))
}
