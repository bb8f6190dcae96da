//go:build linux

package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"minidocker/final/engine"
	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/changes"
)

// CommitOptions is what becomes of a container that is committed.
type CommitOptions struct {
	Name            string // of the image, "" for none
	Author, Message string
	Changes         []string // lines of a Dockerfile
	Pause           bool     // while its files are read
}

// Commit makes an image of a container's changes.
func Commit(
	ctx context.Context, e *engine.Engine, ref string, o CommitOptions,
) (img *image.Image, err error) {
	info, err := e.Inspect(ctx, ref, false)
	if err != nil {
		return nil, err
	}
	store, err := e.ImageStore()
	if err != nil {
		return nil, err
	}
	storage, err := e.Storage()
	if err != nil {
		return nil, err
	}
	base, err := store.Lookup(info.Image)
	if err != nil && !errors.Is(err, image.ErrNotExist) {
		return nil, err
	}
	created, err := archive.Now()
	if err != nil {
		return nil, err
	}
	if o.Pause && info.State.Running && !info.State.Paused {
		if err := e.Pause(ctx, info.ID); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, e.Unpause(context.WithoutCancel(ctx), info.ID)) }()
	}
	diff, err := storage.Diff(info.ID)
	if err != nil {
		return nil, fmt.Errorf("read the changes of %s: %w", info.ID, err)
	}
	defer func() { err = errors.Join(err, diff.Close()) }()
	img, err = archive.Commit(ctx, store, e.Layers(), base, diff, archive.CommitOptions{
		Name: o.Name, Author: o.Author, Message: o.Message, Created: created,
		CreatedBy: strings.Join(append([]string{info.Path}, info.Args...), " "),
		Change: func(c *image.Config) error {
			configure(&c.Config, info.Config)
			return changes.Apply(c, o.Changes)
		},
	})
	if err == nil {
		e.ImageHappened("create", img.ID, img.ID)
	}
	return img, coded(err)
}

// configure takes over what the container was created with.
func configure(to *dockerspec.DockerOCIImageConfig, from *container.Config) {
	to.User, to.Env, to.Cmd, to.Entrypoint = from.User, from.Env, from.Cmd, from.Entrypoint
	to.Env = slices.DeleteFunc(slices.Clone(to.Env), // names alone: see engine.Create
		func(kv string) bool { return !strings.Contains(kv, "=") })
	to.WorkingDir, to.Labels, to.StopSignal = from.WorkingDir, from.Labels, from.StopSignal
	to.Volumes, to.Healthcheck, to.Shell = from.Volumes, from.Healthcheck, from.Shell
	to.OnBuild = from.OnBuild
	to.ExposedPorts = portSet(from.ExposedPorts)
}

func portSet(ports network.PortSet) map[string]struct{} {
	if len(ports) == 0 {
		return nil
	}
	set := make(map[string]struct{}, len(ports))
	for port := range ports {
		set[port.String()] = struct{}{}
	}
	return set
}
