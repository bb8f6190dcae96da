//go:build linux

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	apinet "github.com/moby/moby/api/types/network"

	"minidocker/final/image"
	"minidocker/final/shim"
)

// ListOptions say which containers to list.
type ListOptions struct {
	All     bool // not only those that run
	Limit   int  // the youngest so many, also those that do not run; 0: no limit
	Size    bool
	Filters Filters
}

// listed is a container with what filters look at.
type listed struct {
	*record
	state  *shim.State
	status container.ContainerState
}

// Containers are the containers, the youngest first.
func (e *Engine) Containers(ctx context.Context, o ListOptions) ([]container.Summary, error) {
	if err := o.Filters.check("ancestor", "before", "exited", "expose", "health", "id", "is-task",
		"isolation", "label", "label!", "name", "network", "publish", "since", "status",
		"volume"); err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	records, err := e.records()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(records, func(a, b *record) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	filter, err := e.containerFilter(o)
	if err != nil {
		return nil, err
	}
	aliases := linkNames(records)
	all := []container.Summary{}
	for _, r := range records {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if o.Limit > 0 && len(all) == o.Limit {
			break
		}
		one, err := e.listed(r)
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if !filter(one) {
			continue
		}
		s, err := e.summary(one, o.Size)
		if err != nil {
			return nil, err
		}
		s.Names = append(s.Names, aliases[r.Name]...)
		all = append(all, *s)
	}
	return all, nil
}

func (e *Engine) listed(r *record) (*listed, error) {
	state, err := e.state(r.ID)
	if err != nil {
		return nil, err
	}
	one := &listed{record: r, state: state, status: container.ContainerState(state.Status)}
	if state.Status == "running" && e.paused(r.ID) {
		one.status = container.StatePaused
	}
	return one, nil
}

// containerFilter makes one function of all filters.
func (e *Engine) containerFilter(o ListOptions) (func(*listed) bool, error) {
	f := o.Filters
	for _, status := range f["status"] {
		if err := container.ValidateContainerState(container.ContainerState(status)); err != nil {
			return nil, &Error{Invalid, err}
		}
	}
	var exited []int
	for _, text := range f["exited"] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, failed(Invalid, "invalid filter 'exited=%s'", text)
		}
		exited = append(exited, n)
	}
	var before, since time.Time
	for name, at := range map[string]*time.Time{"before": &before, "since": &since} {
		if ref := f.first(name); ref != "" {
			r, _, err := e.get(ref)
			if err != nil {
				return nil, err
			}
			*at = r.Created
		}
	}
	ancestors, err := e.ancestors(f["ancestor"])
	if err != nil {
		return nil, err
	}
	all := o.All || o.Limit > 0 || len(f["status"])+len(exited)+len(f["before"])+len(f["since"]) > 0
	return func(c *listed) bool {
		if !all && c.status != container.StateRunning && c.status != container.StatePaused &&
			c.status != container.StateRestarting {
			return false
		}
		return (before.IsZero() || c.Created.Before(before)) &&
			(since.IsZero() || c.Created.After(since)) &&
			f.labels(c.Config.Labels) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
			f.any("name", func(v string) bool { return matchesName(v, c.Name) }) &&
			f.any("status", func(v string) bool { return v == string(c.status) }) &&
			(len(exited) == 0 || c.status == container.StateExited &&
				slices.Contains(exited, c.state.ExitCode)) &&
			f.any("health", func(v string) bool { return v == health(c.state) }) &&
			f.any("network", func(v string) bool { return e.isIn(c.record, v) }) &&
			f.any("volume", func(v string) bool { return hasVolume(c.record, v) }) &&
			f.any("publish", func(v string) bool { return hasPort(c.HostConfig.PortBindings, v) }) &&
			f.any("expose", func(v string) bool { return hasPort(c.Config.ExposedPorts, v) }) &&
			(ancestors == nil || ancestors(c.record))
	}, nil
}

// matchesName says whether a name has a text in it; "^name$" is the name alone.
func matchesName(pattern, name string) bool {
	begins, ends := strings.HasPrefix(pattern, "^"), strings.HasSuffix(pattern, "$")
	pattern = strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$"), "/")
	switch {
	case begins && ends:
		return name == pattern
	case begins:
		return strings.HasPrefix(name, pattern)
	case ends:
		return strings.HasSuffix(name, pattern)
	}
	return strings.Contains(name, pattern)
}

func health(s *shim.State) string {
	if s.Health == nil {
		return "none"
	}
	return s.Health.Status
}

func (e *Engine) isIn(r *record, ref string) bool {
	if r.Networks[ref] != nil || string(r.HostConfig.NetworkMode) == ref {
		return true
	}
	n, err := e.networks.Network(ref)
	return err == nil && r.Networks[n.Name] != nil
}

func hasVolume(r *record, v string) bool {
	return slices.ContainsFunc(r.Mounts, func(m mountPoint) bool {
		return m.Name == v || m.Destination == v || m.Source == v
	})
}

// hasPort says whether one of the ports is PORT[-PORT][/PROTO].
func hasPort[V any](ports map[apinet.Port]V, want string) bool {
	r, err := apinet.ParsePortRange(want)
	if err != nil {
		return false
	}
	for port := range ports {
		if port.Num() >= r.Start() && port.Num() <= r.End() && port.Proto() == r.Proto() {
			return true
		}
	}
	return false
}

// ancestors says whether a container is made from one of the images, or from one that stands on
// it.
func (e *Engine) ancestors(refs []string) (func(*record) bool, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	images := map[string]bool{}
	tops := map[string]bool{}
	for _, ref := range refs {
		img, err := e.images.Lookup(ref)
		if errors.Is(err, image.ErrNotExist) {
			continue // it has no descendants
		}
		if err != nil {
			return nil, &Error{Invalid, err}
		}
		images[img.ID] = true
		if top := img.Top(); top != "" {
			tops[top] = true
		}
	}
	return func(r *record) bool {
		if images[r.Image] {
			return true
		}
		for top := r.Top; top != ""; {
			if tops[top] {
				return true
			}
			parent, err := e.layers.Parent(top)
			if err != nil {
				return false
			}
			top = parent
		}
		return false
	}, nil
}

// summary is what ps shows of a container.
func (e *Engine) summary(c *listed, size bool) (*container.Summary, error) {
	settings, endpoints, err := e.endpointSettings(c.record)
	if err != nil {
		return nil, err
	}
	s := &container.Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: c.Config.Image, ImageID: c.Image,
		Command: strings.Join(append([]string{c.Path}, c.Args...), " "), Created: c.Created.Unix(),
		Labels: c.Config.Labels, State: c.status, Status: statusText(c),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: settings},
		Mounts:          mountPoints(c.record), Ports: []container.PortSummary{},
	}
	s.HostConfig.NetworkMode = string(c.HostConfig.NetworkMode)
	s.HostConfig.Annotations = c.HostConfig.Annotations
	if c.status == container.StateRunning || c.status == container.StatePaused {
		s.Ports = portSummaries(portMap(c.record, endpoints))
	}
	if c.state.Health != nil {
		s.Health = &container.HealthSummary{Status: container.HealthStatus(c.state.Health.Status),
			FailingStreak: c.state.Health.FailingStreak}
	}
	if size {
		rw, root, err := e.sizes(c.record)
		if err != nil {
			return nil, err
		}
		s.SizeRw, s.SizeRootFs = rw, root
	}
	return s, nil
}

// sizes are what the container has written, and that with the image.
func (e *Engine) sizes(r *record) (rw, root int64, err error) {
	u, err := e.layers.Usage(r.ID)
	if err != nil {
		return 0, 0, err
	}
	root = u.Bytes
	for top := r.Top; top != ""; {
		below, err := e.layers.Usage(top)
		if err != nil {
			return 0, 0, err
		}
		root += below.Bytes
		if top, err = e.layers.Parent(top); err != nil {
			return 0, 0, err
		}
	}
	return u.Bytes, root, nil
}

func mountPoints(r *record) []container.MountPoint {
	all := []container.MountPoint{}
	for _, m := range r.Mounts {
		if _, own := r.HostConfig.Tmpfs[m.Destination]; !own || m.Type != mount.TypeTmpfs {
			all = append(all, m.MountPoint)
		}
	}
	return all
}

// statusText is the column STATUS, as Docker words it.
func statusText(c *listed) string {
	s := c.state
	up := "Up " + units.HumanDuration(time.Since(s.StartedAt))
	switch c.status {
	case container.StateRunning:
		if s.Health != nil {
			word := s.Health.Status
			if word == "starting" {
				word = "health: starting"
			}
			return up + " (" + word + ")"
		}
		return up
	case container.StatePaused:
		return up + " (Paused)"
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode,
			units.HumanDuration(time.Since(s.FinishedAt)))
	case container.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode,
			units.HumanDuration(time.Since(s.FinishedAt)))
	case container.StateCreated:
		return "Created"
	}
	return string(c.status)
}
