//go:build linux

// Command minidocker runs containers, with Docker's command line and without a daemon. What needs
// registries, archives or the API is minidockerd's, which lies beside it: see package cli.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"minidocker/final/cli"
	"minidocker/final/engine"
	"minidocker/final/rootless"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == rootless.HolderArg {
		os.Exit(rootless.Holder())
	}
	if rootless.Wanted() && cli.NeedsEngine(os.Args[1:]) {
		fmt.Fprintln(os.Stderr, "minidocker:", rootless.Enter()) // it returns only if it fails
		os.Exit(125)
	}
	// Most commands end before there is anything to collect; those that stay do so in little.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(32 << 20)
	c := &cli.CLI{
		Name: "minidocker", Version: engine.Version, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Open: cli.Open,
	}
	os.Exit(c.Main(context.Background(), os.Args[1:]))
}
