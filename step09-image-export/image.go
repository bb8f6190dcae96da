//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// stateDir is the store, root's alone: a layer may hold setuid programs.
//
//	images.json            the images, by name
//	layers/DIGEST          the files of a layer
//	containers/ID          a container's record and its writable layer
//	tmp                    layers that are being unpacked
//	networks, sandboxes    records: see network.go
//	blobs                  archives of layers, configurations and manifests, by digest
const stateDir = "/var/lib/minidocker"

// image is a stack of layers, lowest first. A layer is named by the SHA-256 digest of
// its tar, so that images with the same layer share it.
type image struct {
	Layers  []string
	Created time.Time
	// Manifest is the digest of its OCI manifest: see oci.go.
	Manifest string
}

// openStore makes the store's folders and locks it until the file is closed: shared
// for those who add to it and use it, exclusive for those who tidy it up.
func openStore(how int) (*os.File, error) {
	for _, name := range []string{"layers", "containers", "tmp", "networks", "sandboxes", "blobs"} {
		if err := os.MkdirAll(filepath.Join(stateDir, name), 0o700); err != nil {
			return nil, fmt.Errorf("images are for root: %w", err)
		}
	}
	return lockFolder(stateDir, how)
}

// readImages returns the images by name; an ordinary user has none.
func readImages() (map[string]image, error) {
	images := map[string]image{}
	data, err := os.ReadFile(filepath.Join(stateDir, "images.json"))
	if errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
		return images, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("%s/images.json: %w", stateDir, err)
	}
	return images, nil
}

// changeImages lets change change the images, and writes them to a new file that takes
// the old one's place: a reader sees the one or the other, whole.
func changeImages(change func(images map[string]image) error) error {
	lock, err := lockFolder(filepath.Join(stateDir, "tmp"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	images, err := readImages()
	if err != nil {
		return err
	}
	if err := change(images); err != nil {
		return err
	}
	return writeJSON(filepath.Join(stateDir, "images.json"), images)
}

// writeJSON writes v to a file, so that it is there whole or not at all.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// imageName is docker's: NAME[:TAG], the tag latest if there is none.
func imageName(name string) (string, error) {
	if !regexp.MustCompile(`^[a-z0-9]+([._/-]+[a-z0-9]+)*(:[\w][\w.-]*)?$`).MatchString(name) {
		return "", fmt.Errorf("%q is no image name: want lower-case letters and digits, "+
			"as in fruits or fruits:ripe", name)
	}
	if !strings.Contains(name, ":") {
		name += ":latest"
	}
	return name, nil
}

// imageOptions takes the image's name off the front of the command, unless --rootfs
// says what the root is. A word that names no image is a command of the host's, on
// the host's root, as it was in the steps before.
func imageOptions(c *cli.Context, cfg *config) error {
	cfg.AutoRemove = c.Bool("rm")
	if c.IsSet("rootfs") {
		return nil
	}
	images, err := readImages()
	if err != nil {
		return err
	}
	name, err := imageName(cfg.Args[0])
	img, found := images[name]
	if err != nil || !found {
		if len(images) > 0 {
			logrus.Warnf("no image %q: running the host's, on the host's root", cfg.Args[0])
		}
		return nil
	}
	if c.Bool("userns") || c.IsSet("uidmap") || c.IsSet("gidmap") {
		return errors.New("the files of an image are root's: a user namespace needs --rootfs")
	}
	cfg.Args = cfg.Args[1:]
	if err := img.applyDefaults(cfg); err != nil {
		return err
	}
	if len(cfg.Args) == 0 {
		return errors.New("no command given: minidocker run IMAGE CMD [ARG...]")
	}
	cfg.Image, cfg.Layers = name, img.Layers
	cfg.Manifest = img.Manifest
	cfg.Rootfs = filepath.Join(containerDir(cfg.ID), "merged")
	return nil
}

func importCommand() *cli.Command {
	return &cli.Command{
		Name:         "import",
		Usage:        "make an image of a tar archive, which may be compressed by gzip",
		ArgsUsage:    "TAR|- NAME[:TAG]",
		OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "base", Usage: "`IMAGE` whose layers come below the new one"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return errors.New("want an archive and a name: minidocker import TAR|- NAME[:TAG]")
			}
			return tidyAfter(importImage(c.Args().Get(0), c.Args().Get(1), c.String("base")))
		},
	}
}

func importImage(file, name, base string) error {
	name, err := imageName(name)
	if err != nil {
		return err
	}
	store, err := openStore(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer store.Close()
	unix.Umask(0o022) // for folders that the archive has no entry of
	var lower image
	if base != "" {
		if lower, err = findImage(base); err != nil {
			return err
		}
	}
	var archive io.Reader = os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		archive = f
	}
	d, layer, err := addArchive(archive)
	if err != nil {
		return fmt.Errorf("import %s: %w", file, err)
	}
	img, err := stackLayer(lower, d, layer, history{CreatedBy: "import " + filepath.Base(file)})
	if err != nil {
		return err
	}
	fmt.Println(layer)
	return changeImages(func(images map[string]image) error {
		images[name] = img
		return nil
	})
}

// findImage returns the image of that name.
func findImage(name string) (image, error) {
	images, err := readImages()
	if err != nil {
		return image{}, err
	}
	full, err := imageName(name)
	if err != nil {
		return image{}, err
	}
	img, found := images[full]
	if !found {
		return image{}, fmt.Errorf("no image %q: see minidocker images", name)
	}
	return img, nil
}

func imagesCommand() *cli.Command {
	return &cli.Command{
		Name:         "images",
		Usage:        "list the images",
		OnUsageError: usageError,
		Action: func(*cli.Context) error {
			images, err := readImages()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tCREATED\tLAYERS\tID")
			for _, name := range slices.Sorted(maps.Keys(images)) {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", name,
					images[name].Created.Format(time.DateTime), len(images[name].Layers),
					images[name].shortID())
			}
			return w.Flush()
		},
	}
}
