//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func tagCommand() *cli.Command {
	return &cli.Command{
		Name:         "tag",
		Usage:        "give an image one more name",
		ArgsUsage:    "IMAGE NAME[:TAG]",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return errors.New("want an image and a name: minidocker tag IMAGE NAME[:TAG]")
			}
			name, err := imageName(c.Args().Get(1))
			if err != nil {
				return err
			}
			// So that nobody tidies up between the look and the change.
			store, err := openStore(unix.LOCK_SH)
			if err != nil {
				return err
			}
			defer store.Close()
			img, err := findImage(c.Args().First())
			if err != nil {
				return err
			}
			return changeImages(func(images map[string]image) error {
				images[name] = img
				return nil
			})
		},
	}
}

func rmiCommand() *cli.Command {
	return &cli.Command{
		Name:         "rmi",
		Usage:        "remove names of images, and what no image or container uses any more",
		ArgsUsage:    "IMAGE [IMAGE...]",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return errors.New("no image given: minidocker rmi IMAGE [IMAGE...]")
			}
			for _, name := range c.Args().Slice() {
				if err := removeImage(name); err != nil {
					return err
				}
			}
			return collectGarbage()
		},
	}
}

func removeImage(name string) error {
	if _, err := findImage(name); err != nil {
		return err
	}
	store, err := openStore(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer store.Close()
	return changeImages(func(images map[string]image) error {
		full, err := imageName(name)
		delete(images, full)
		return err
	})
}

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:         "history",
		Usage:        "how an image's layers came about, the uppermost first",
		ArgsUsage:    "IMAGE",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return errors.New("want one image: minidocker history IMAGE")
			}
			img, err := findImage(c.Args().First())
			if err != nil {
				return err
			}
			return printHistory(img)
		},
	}
}

func printHistory(img image) error {
	m, config, err := img.read()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "LAYER\tSIZE\tCREATED BY")
	next := len(m.Layers) - 1
	for i := len(config.History) - 1; i >= 0; i-- {
		h := config.History[i]
		layer, size := "none", "0.0 MiB"
		if !h.EmptyLayer && next >= 0 {
			layer, size = config.RootFS.DiffIDs[next][7:19], mebibytes(m.Layers[next].Size)
			next--
		}
		// Quoted: it may come from anybody, and goes to a terminal.
		fmt.Fprintf(w, "%s\t%s\t%q\n", layer, size, strings.TrimSpace(h.CreatedBy+" "+h.Comment))
	}
	return w.Flush()
}
