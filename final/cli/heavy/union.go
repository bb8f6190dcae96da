//go:build linux

package heavy

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	mdcli "minidocker/final/cli"
	"minidocker/final/storage/fuse"
	"minidocker/final/storage/union"
)

func unionCommand(*mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "union", Usage: "Show several folders as one, as AUFS does",
		ArgsUsage:   "BRANCH[=rw|ro]:BRANCH[=rw|ro]... DIR",
		Description: "union fruits=rw:vegetables=ro mnt\n(umount mnt ends it)",
		Flags: []cli.Flag{
			mdcli.List("option o", "Option of AUFS's: create=tdp|rr|mfs[:SECONDS]|mfsrr:BYTES, "+
				"udba=reval|none"),
		},
		Action: func(ctx *cli.Context) error {
			if err := mdcli.Exactly(ctx, 2); err != nil {
				return err
			}
			branches, err := union.Parse(ctx.Args().Get(0))
			if err != nil {
				return err
			}
			o := union.Options{Branches: branches}
			for _, word := range strings.Split(strings.Join(ctx.StringSlice("option"), ","), ",") {
				switch key, value, _ := strings.Cut(word, "="); key {
				case "create":
					o.Create = value
				case "udba":
					o.UDBA = value
				case "":
				default:
					return fmt.Errorf("--option %s: want create=… or udba=…", word)
				}
			}
			return fuse.Show(o, ctx.Args().Get(1))
		},
	}
}
