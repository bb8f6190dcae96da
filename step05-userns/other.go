//go:build !linux

// Command minidocker needs Linux; elsewhere it says where to find one.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "minidocker needs Linux: see docs/vm.md")
	os.Exit(1)
}
