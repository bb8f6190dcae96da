//go:build linux

package cli

import (
	"fmt"
	"os"

	"minidocker/final/engine"
)

// fromShim does what a container's shim asks for when the container has ended: the engine's part,
// or to start it again; then the lock of its run folder is descriptor 3. shim-collect does what is
// left of that for all, later. Nobody else calls it.
func (c *CLI) fromShim(words []string) error {
	if len(words) != 2 {
		return fmt.Errorf("%s ID is for a container's shim", words[0])
	}
	e, err := engine.Open(engine.Options{
		Root: c.Globals.Root, Run: c.Globals.Run, Driver: c.Globals.Driver})
	if err != nil {
		return err
	}
	switch words[0] {
	case "shim-ended":
		return e.Ended(words[1])
	case "shim-restart":
		return e.Restarted(words[1], os.NewFile(3, "lock"))
	}
	return e.Collect()
}
