//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// container is the record of a container that has an image. It lies in the container's
// folder as config.json, beside
//
//	upper    the writable layer: all that the container changed
//	work     overlayfs's own, on the same file system
//	init     a layer with what is mounted over, so that it is not seen as a change
//	merged   where the union is mounted
type container struct {
	ID         string
	Image      string
	Layers     []string
	Manifest   string
	Command    []string
	Created    time.Time
	AutoRemove bool
	lock       *os.File // of the folder, held while the container runs
}

func containerDir(id string) string { return filepath.Join(stateDir, "containers", id) }

// newContainer makes the folder of a container with an image.
func newContainer(cfg config) (*container, error) {
	ctr := &container{
		ID: cfg.ID, Image: cfg.Image, Layers: cfg.Layers, Command: cfg.Args,
		Created: time.Now(), AutoRemove: cfg.AutoRemove, Manifest: cfg.Manifest,
	}
	store, err := openStore(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	defer unix.Umask(unix.Umask(0o022)) // the modes below are meant as they stand
	if err := ctr.makeFolders(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(containerDir(ctr.ID)))
	}
	return ctr, nil
}

func (ctr *container) makeFolders() error {
	dir := containerDir(ctr.ID)
	folders := []string{"upper", "work", "merged", "init/proc"}
	for _, m := range standardMounts {
		folders = append(folders, "init"+m.target)
	}
	for _, folder := range folders {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "init/etc"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"hostname", "hosts", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(dir, "init/etc", name), nil, 0o644); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(dir, "config.json"), ctr); err != nil {
		return err
	}
	var err error
	ctr.lock, err = lockFolder(dir, unix.LOCK_EX)
	return err
}

// end marks the container as ended, and removes it if that was asked for.
func (ctr *container) end() error {
	defer ctr.lock.Close()
	if ctr.AutoRemove {
		return os.RemoveAll(containerDir(ctr.ID))
	}
	return nil
}

// readContainers returns the containers with an image, running and ended, by ID.
func readContainers() (map[string]*container, error) {
	entries, err := os.ReadDir(filepath.Join(stateDir, "containers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := map[string]*container{}
	for _, e := range entries {
		ctr, err := readContainer(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // being made, or being removed
		}
		if err != nil {
			return nil, err
		}
		all[e.Name()] = ctr
	}
	return all, nil
}

func readContainer(id string) (*container, error) {
	path := filepath.Join(containerDir(id), "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ctr := &container{}
	if err := json.Unmarshal(data, ctr); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ctr, nil
}

// findContainer finds one by the beginning of its ID.
func findContainer(prefix string) (*container, error) {
	all, err := readContainers()
	if err != nil {
		return nil, err
	}
	id, err := matchID(slices.Collect(maps.Keys(all)), prefix)
	return all[id], err
}

// takeEnded locks a container that does not run; one that does is an error.
func (ctr *container) takeEnded() error {
	lock, err := lockFolder(containerDir(ctr.ID), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("container %s is running", ctr.ID)
	}
	ctr.lock = lock
	return err
}

// sweepStore removes what a minidocker that was killed left: layers half unpacked,
// containers half made or half removed, and those that were to go with their end.
func sweepStore() error {
	if _, err := os.Stat(stateDir); err != nil || os.Geteuid() != 0 {
		return nil // there is no store yet, or it is not ours
	}
	store, err := openStore(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // in use: the next one will do it
	}
	if err != nil {
		return err
	}
	defer store.Close()
	left, err := filepath.Glob(filepath.Join(stateDir, "tmp", "*"))
	if err != nil {
		return err
	}
	folders, err := os.ReadDir(filepath.Join(stateDir, "containers"))
	if err != nil {
		return err
	}
	for _, f := range folders {
		ctr, err := readContainer(f.Name())
		if errors.Is(err, fs.ErrNotExist) {
			ctr, err = &container{ID: f.Name(), AutoRemove: true}, nil
		}
		if err != nil {
			return err
		}
		if ctr.AutoRemove && ctr.takeEnded() == nil {
			defer ctr.lock.Close()
			left = append(left, containerDir(ctr.ID))
		}
	}
	for _, path := range left {
		logrus.Debugf("parent: sweep up %s", path)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

func psCommand() *cli.Command {
	return &cli.Command{
		Name:         "ps",
		Usage:        "list the containers that have an image, ended ones too",
		OnUsageError: usageError,
		Action: func(*cli.Context) error {
			all, err := readContainers()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS")
			byAge := func(a, b *container) int { return a.Created.Compare(b.Created) }
			for _, ctr := range slices.SortedFunc(maps.Values(all), byAge) {
				status := "running"
				if ctr.takeEnded() == nil {
					status = "ended"
					ctr.lock.Close()
				}
				fmt.Fprintf(w, "%s\t%s\t%.20q\t%s\t%s\n", ctr.ID, ctr.Image,
					strings.Join(ctr.Command, " "), ctr.Created.Format(time.DateTime), status)
			}
			return w.Flush()
		},
	}
}

func rmCommand() *cli.Command {
	return &cli.Command{
		Name:         "rm",
		Usage:        "remove containers that have ended",
		ArgsUsage:    "ID [ID...]",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return errors.New("no container given: minidocker rm ID [ID...]")
			}
			for _, id := range c.Args().Slice() {
				ctr, err := findContainer(id)
				if err != nil {
					return err
				}
				if err := ctr.takeEnded(); err != nil {
					return err
				}
				if err := os.RemoveAll(containerDir(ctr.ID)); err != nil {
					return err
				}
				ctr.lock.Close()
				fmt.Println(ctr.ID)
			}
			return collectGarbage()
		},
	}
}

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:         "diff",
		Usage:        "what a container changed: A added, C changed, D deleted",
		ArgsUsage:    "ID",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return errors.New("want one container: minidocker diff ID")
			}
			ctr, err := findContainer(c.Args().First())
			if err != nil {
				return err
			}
			return ctr.printChanges()
		},
	}
}

// printChanges reads them off the writable layer: that is all there is in it.
func (ctr *container) printChanges() error {
	upper := filepath.Join(containerDir(ctr.ID), "upper")
	return filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		if path == upper {
			return err
		}
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone by now: the container runs
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, upper+"/")
		kind := "A"
		if isWhiteout(info) {
			kind = "D"
		} else if inLayers(ctr.Layers, name) {
			kind = "C"
		}
		fmt.Printf("%s /%s\n", kind, name)
		return nil
	})
}
