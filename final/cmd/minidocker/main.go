//go:build linux

// Command minidocker runs containers, with Docker's command line and without a daemon. What needs
// registries, archives or the API is minidockerd's, which lies beside it: see package cli.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"minidocker/final/cli"
	"minidocker/final/engine"
)

func main() {
	// Most commands end before there is anything to collect; those that stay do so in little.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(32 << 20)
	c := &cli.CLI{
		Name: "minidocker", Version: engine.Version, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Open: cli.Open,
	}
	os.Exit(c.Main(context.Background(), os.Args[1:]))
}
