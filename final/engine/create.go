//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"minidocker/final/image"
	"minidocker/final/shim"
	"minidocker/final/storage"
)

// CreateOptions say which container to make.
type CreateOptions struct {
	Name       string // "": one that says nothing
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
	Platform   string // "": any that is here
	// Start says that the caller starts the container next, by this engine: what takes time for
	// that begins already.
	Start bool
	// Base, if set, is what the container stands on, as a step of a build does; it need not be in
	// the store. Config.Image is only what it is called then.
	Base *image.Image
}

// creation is a container in the making; undo is what is to be undone if it fails, in the order
// in which it was done.
type creation struct {
	e        *Engine
	r        *record
	img      *image.Image
	warnings []string
	undo     []func()
}

// Create makes a container, that does not run. An error is NotFound if there is no such image.
func (e *Engine) Create(ctx context.Context, o CreateOptions) (container.CreateResponse, error) {
	var none container.CreateResponse
	if err := e.open(); err != nil {
		return none, err
	}
	if o.Config == nil {
		return none, failed(Invalid, "config cannot be empty in order to create a container")
	}
	if o.HostConfig == nil {
		o.HostConfig = &container.HostConfig{}
	}
	if o.Start {
		e.startAhead()
	}
	c := &creation{e: e, r: &record{
		ID: newID(), Created: time.Now().UTC(), Config: o.Config, HostConfig: o.HostConfig,
		Platform: o.Platform,
	}}
	if err := c.create(ctx, o); err != nil {
		if o.Start {
			e.endAhead()
		}
		for _, undo := range slices.Backward(c.undo) {
			undo()
		}
		return none, err
	}
	return container.CreateResponse{ID: c.r.ID, Warnings: append([]string{}, c.warnings...)}, nil
}

func (c *creation) create(ctx context.Context, o CreateOptions) error {
	e, r := c.e, c.r
	if o.Name != "" {
		if err := validName(strings.TrimPrefix(o.Name, "/")); err != nil {
			return err
		}
	}
	if o.Platform != "" {
		if err := image.CheckPlatform(o.Platform); err != nil {
			return &Error{Invalid, err}
		}
	}
	// From here on nobody deletes the image, until the record says that it is used.
	release, err := e.images.Hold()
	if err != nil {
		return err
	}
	defer release()
	if o.Base != nil {
		c.img, r.Image, r.Top, r.Platform = o.Base, o.Base.ID, o.Base.Top(), "linux"
	} else if err := c.findImage(o.Platform); err != nil {
		return err
	}
	if err := c.mergeImage(); err != nil {
		return err
	}
	if err := c.complete(); err != nil {
		return err
	}
	if err := c.chooseNetworks(o.Networking); err != nil {
		return err
	}
	lock, err := c.makeFolder(strings.TrimPrefix(o.Name, "/"))
	if err != nil {
		return err
	}
	defer lock.Close()
	size, err := layerSize(r.HostConfig.StorageOpt)
	if err != nil {
		return err
	}
	if err := e.layers.Create(r.ID, r.Top, storage.Options{Size: size}); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			return failed(Invalid, "--storage-opt: %w", err)
		}
		return err
	}
	c.undo = append(c.undo, func() { _ = e.layers.Remove(r.ID) })
	if err := c.makeMounts(ctx); err != nil {
		return err
	}
	if err := (&shim.State{Status: "created"}).Write(e.dir(r.ID)); err != nil {
		return err
	}
	if err := e.write(r); err != nil {
		return err
	}
	e.containerEvent(r, "create", nil)
	return nil
}

// makeFolder makes the container's folder, locked, and gives it its name.
func (c *creation) makeFolder(name string) (*os.File, error) {
	e, r := c.e, c.r
	if err := os.Mkdir(e.dir(r.ID), 0o711); err != nil {
		return nil, err
	}
	c.undo = append(c.undo, func() { os.RemoveAll(e.dir(r.ID)) })
	lock, err := lockFolder(e.dir(r.ID))
	if err != nil {
		return nil, err
	}
	if name == "" {
		name, err = e.takeRandom(r.ID)
	} else {
		err = e.take(name, r.ID)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	r.Name = name
	c.undo = append(c.undo, func() { e.release(name, r.ID) })
	return lock, nil
}

// findImage finds the image. Config.Image stays as the user wrote it.
func (c *creation) findImage(platform string) error {
	name := c.r.Config.Image
	if name == "" {
		return failed(Invalid, "no image is named")
	}
	img, err := c.e.images.Lookup(name)
	if errors.Is(err, image.ErrNotExist) {
		return failed(NotFound, "No such image: %s", withTag(name))
	}
	if err != nil {
		return &Error{Invalid, err}
	}
	if want := platform; want != "" && !samePlatform(want, img) {
		return failed(NotFound, "image with reference %s was found but its platform (%s/%s) does not "+
			"match the specified platform (%s)", name, img.Config.OS, img.Config.Architecture, want)
	}
	if a := img.Config.Architecture; a != "" && a != runtime.GOARCH {
		c.warnings = append(c.warnings, fmt.Sprintf("The requested image's platform (%s/%s) does not "+
			"match the detected host platform (linux/%s) and no specific platform was requested",
			img.Config.OS, a, runtime.GOARCH))
	}
	c.img, c.r.Image, c.r.Top = img, img.ID, img.Top()
	c.r.Platform = "linux"
	return nil
}

func samePlatform(want string, img *image.Image) bool {
	f := strings.Split(want, "/")
	return f[0] == img.Config.OS && (len(f) < 2 || f[1] == img.Config.Architecture) &&
		(len(f) < 3 || img.Config.Variant == "" || f[2] == img.Config.Variant)
}

func withTag(name string) string {
	if r, err := image.ParseReference(name); err == nil {
		return r.WithTag().Familiar()
	}
	return name
}

// mergeImage completes what the user has not said by what the image says.
func (c *creation) mergeImage() error {
	to, from := c.r.Config, &c.img.Config.Config
	if to.User == "" {
		to.User = from.User
	}
	if to.WorkingDir == "" {
		to.WorkingDir = from.WorkingDir
	}
	if to.StopSignal == "" {
		to.StopSignal = from.StopSignal
	}
	if to.Healthcheck == nil {
		to.Healthcheck = from.Healthcheck
	} else if len(to.Healthcheck.Test) == 0 && from.Healthcheck != nil {
		to.Healthcheck = mergeHealth(to.Healthcheck, from.Healthcheck)
	}
	to.Shell = from.Shell
	to.Env = addEnv(from.Env, to.Env)
	labels := maps.Clone(from.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, to.Labels)
	to.Labels = labels
	for port := range from.ExposedPorts {
		p, err := network.ParsePort(port)
		if err != nil {
			return failed(Invalid, "the image exposes %q: %w", port, err)
		}
		if to.ExposedPorts == nil {
			to.ExposedPorts = network.PortSet{}
		}
		to.ExposedPorts[p] = struct{}{}
	}
	for v := range from.Volumes {
		if to.Volumes == nil {
			to.Volumes = map[string]struct{}{}
		}
		to.Volumes[v] = struct{}{}
	}
	// A program of the user's own takes the image's arguments away.
	if len(to.Entrypoint) == 0 {
		if len(to.Cmd) == 0 {
			to.Cmd = from.Cmd
		}
		if to.Entrypoint == nil {
			to.Entrypoint = from.Entrypoint
		}
	}
	args := slices.Concat(to.Entrypoint, to.Cmd)
	if len(to.Entrypoint) > 0 && to.Entrypoint[0] == "" { // --entrypoint ""
		args = to.Cmd
		to.Entrypoint = nil
	}
	if len(args) == 0 {
		return failed(Invalid, "no command specified")
	}
	c.r.Path, c.r.Args = args[0], args[1:]
	return nil
}

func mergeHealth(to, from *container.HealthConfig) *container.HealthConfig {
	h := *from
	if to.Interval != 0 {
		h.Interval = to.Interval
	}
	if to.Timeout != 0 {
		h.Timeout = to.Timeout
	}
	if to.StartPeriod != 0 {
		h.StartPeriod = to.StartPeriod
	}
	if to.StartInterval != 0 {
		h.StartInterval = to.StartInterval
	}
	if to.Retries != 0 {
		h.Retries = to.Retries
	}
	return &h
}

// addEnv is mergeEnv that keeps a name alone: it is what the container was made with, and says to
// every process of it that there is no such variable.
func addEnv(from, with []string) []string {
	merged := mergeEnv(from, with)
	for _, name := range with {
		if !strings.Contains(name, "=") && !slices.Contains(merged, name) {
			merged = append(merged, name)
		}
	}
	return merged
}

// mergeEnv sets variables on top of others. A name alone takes one away.
func mergeEnv(from, with []string) []string {
	merged := slices.Clone(from)
	for _, kv := range with {
		name, _, set := strings.Cut(kv, "=")
		i := slices.IndexFunc(merged, func(old string) bool {
			oldName, _, _ := strings.Cut(old, "=")
			return oldName == name
		})
		switch {
		case !set && i >= 0:
			merged = slices.Delete(merged, i, i+1)
		case set && i >= 0:
			merged[i] = kv
		case set:
			merged = append(merged, kv)
		}
	}
	return merged
}

// complete checks what was asked for, and sets what has a default.
func (c *creation) complete() error {
	config, host := c.r.Config, c.r.HostConfig
	if config.Hostname == "" && !host.UTSMode.IsHost() && !host.NetworkMode.IsContainer() {
		config.Hostname = c.r.ID[:12]
		if host.NetworkMode.IsHost() {
			name, err := os.Hostname()
			if err != nil {
				return err
			}
			config.Hostname = name
		}
	}
	if host.LogConfig.Type == "" {
		host.LogConfig.Type = "json-file"
	}
	if host.ShmSize == 0 {
		host.ShmSize = 64 << 20
	}
	if host.IpcMode == "" {
		host.IpcMode = container.IPCModePrivate
	}
	if host.CgroupnsMode == "" {
		host.CgroupnsMode = container.CgroupnsModePrivate
		if host.Privileged && !unifiedCgroups() {
			host.CgroupnsMode = container.CgroupnsModeHost
		}
	}
	if host.RestartPolicy.Name == "" {
		host.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if host.NetworkMode == "" || host.NetworkMode == "default" {
		host.NetworkMode = "bridge"
	}
	if !host.Privileged && host.MaskedPaths == nil {
		host.MaskedPaths = maskedPaths
	}
	if !host.Privileged && host.ReadonlyPaths == nil {
		host.ReadonlyPaths = readonlyPaths
	}
	if host.Runtime == "" {
		host.Runtime = defaultRuntime
	}
	return c.validate()
}

// unifiedCgroups says whether there is cgroup version 2 alone.
func unifiedCgroups() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}
