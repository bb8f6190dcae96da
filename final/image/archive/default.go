//go:build linux

package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"minidocker/final/image"
	"minidocker/final/rootless"
)

// defaultName is the image that is here without any network.
const defaultName = "docker.io/library/busybox:latest"

// Default is the archive of a root file system that comes with the program for an image of that
// name, and is to be imported where no registry can be asked; "" if there is none. It is
// busybox-ARCH.tar in ../share/minidocker, as seen from the program.
func Default(name string) (string, error) {
	r, err := image.ParseReference(name)
	if err != nil || r.WithTag().String() != defaultName {
		return "", err
	}
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	file := "busybox-" + runtime.GOARCH + ".tar"
	for _, dir := range []string{
		filepath.Join(filepath.Dir(program), "../share/minidocker"),
		filepath.Join(filepath.Dir(program), "../../share/minidocker"), // of ../libexec/minidocker
	} {
		path := filepath.Join(dir, file)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
	}
	return "", nil
}

// ImportDefault imports what Default has found.
func ImportDefault(
	ctx context.Context, store *image.Store, layers image.Layers, path string,
) (*image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return Import(ctx, store, layers, f, ImportOptions{
		Name: defaultName, Message: "Imported from " + filepath.Base(path), Created: info.ModTime(),
		Change: func(c *image.Config) error {
			c.Config.Cmd = []string{"sh"}
			c.Config.Env = []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			}
			return nil
		},
	})
}

// Offline says whether the machine has no way out: no route to anywhere but its own networks.
func Offline() bool { return rootless.Offline() }
