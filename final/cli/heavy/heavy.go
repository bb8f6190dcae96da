//go:build linux

// Package heavy has the commands that need registries, archives or a union: those of minidockerd.
package heavy

import (
	"errors"

	"github.com/urfave/cli/v2"

	mdcli "minidocker/final/cli"
	"minidocker/final/engine"
)

// Commands are the commands by their paths, see mdcli.CLI.
func Commands() map[string]func(*mdcli.CLI) *cli.Command {
	return map[string]func(*mdcli.CLI) *cli.Command{
		"builder build":    buildCommand,
		"builder prune":    pruneBuildsCommand,
		"container commit": commitCommand,
		"daemon":           daemonCommand,
		"image build":      buildCommand,
		"image import":     importCommand,
		"image load":       loadCommand,
		"image pull":       pullCommand,
		"image push":       pushCommand,
		"image save":       saveCommand,
		"login":            loginCommand,
		"logout":           logoutCommand,
		"search":           searchCommand,
		"union":            unionCommand,
	}
}

// open gives the engine in this process.
func open(c *mdcli.CLI) (*engine.Engine, error) {
	e, err := c.Engine()
	if err != nil {
		return nil, err
	}
	local, ok := e.(mdcli.Local)
	if !ok {
		return nil, errors.New("this command needs an engine in the same process")
	}
	if _, err := local.ImageStore(); err != nil { // it opens all
		return nil, err
	}
	return local.Engine, nil
}
