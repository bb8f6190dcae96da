//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"minidocker/final/storage/tree"
)

// volumeRecord is volume.json; the files of a volume are in the folder _data beside it.
type volumeRecord struct {
	Created   time.Time         `json:"created"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`
}

func (e *Engine) volumesDir() string            { return filepath.Join(e.o.Root, "volumes") }
func (e *Engine) volumeDir(name string) string  { return filepath.Join(e.volumesDir(), name) }
func (e *Engine) volumeData(name string) string { return filepath.Join(e.volumeDir(name), "_data") }

// lockVolumes keeps the volumes as they are.
func (e *Engine) lockVolumes() (*os.File, error) {
	if err := os.MkdirAll(e.volumesDir(), 0o711); err != nil {
		return nil, err
	}
	return lockFolder(e.volumesDir())
}

// makeVolume makes a volume, if it is not there; made says whether.
func (e *Engine) makeVolume(
	name string, r *volumeRecord, anonymous bool,
) (*volume.Volume, bool, error) {
	if err := validName(name); err != nil {
		return nil, false, failed(Invalid, "%q includes invalid characters for a local volume name, "+
			`only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, `+
			"use absolute path", name)
	}
	lock, err := e.lockVolumes()
	if err != nil {
		return nil, false, err
	}
	defer lock.Close()
	if v, err := e.volume(name); err == nil || Code(err) != NotFound {
		return v, false, err
	}
	if r == nil {
		r = &volumeRecord{}
	}
	r.Created, r.Anonymous = time.Now().UTC(), anonymous
	data, err := json.Marshal(r)
	if err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(e.volumeData(name), 0o755); err != nil {
		return nil, false, err
	}
	if err := replace(filepath.Join(e.volumeDir(name), "volume.json"), data, true); err != nil {
		return nil, false, err
	}
	e.happened(events.VolumeEventType, "create", name, map[string]string{"driver": "local"})
	v, err := e.volume(name)
	return v, true, err
}

// readVolume reads a volume's record.
func (e *Engine) readVolume(name string) (*volumeRecord, error) {
	none := failed(NotFound, "get %s: no such volume", name)
	if validName(name) != nil {
		return nil, none
	}
	data, err := os.ReadFile(filepath.Join(e.volumeDir(name), "volume.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	r := &volumeRecord{}
	return r, json.Unmarshal(data, r)
}

// volume is what is known of a volume.
func (e *Engine) volume(name string) (*volume.Volume, error) {
	r, err := e.readVolume(name)
	if err != nil {
		return nil, err
	}
	v := &volume.Volume{Name: name, Driver: "local", Mountpoint: e.volumeData(name), Scope: "local",
		CreatedAt: r.Created.Format(time.RFC3339), Labels: r.Labels, Options: r.Options}
	if r.Anonymous {
		if v.Labels == nil {
			v.Labels = map[string]string{}
		}
		v.Labels[anonymousLabel] = ""
	}
	return v, nil
}

// anonymousLabel is Docker's mark for volumes that nobody has named.
const anonymousLabel = "com.docker.volume.anonymous"

func noDriver(name string) error {
	return failed(NotFound, "error looking up volume plugin %s: plugin %q not found", name, name)
}

// CreateVolume makes a volume; it is not an error if it is there.
func (e *Engine) CreateVolume(_ context.Context, r volume.CreateRequest) (*volume.Volume, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	if r.Driver != "" && r.Driver != "local" {
		return nil, noDriver(r.Driver)
	}
	if err := checkVolumeOptions(r.DriverOpts); err != nil {
		return nil, err
	}
	anonymous := r.Name == ""
	if anonymous {
		r.Name = newID()
	}
	v, _, err := e.makeVolume(r.Name, &volumeRecord{Labels: r.Labels, Options: r.DriverOpts},
		anonymous)
	return v, err
}

// InspectVolume is what is known of a volume.
func (e *Engine) InspectVolume(_ context.Context, name string) (*volume.Volume, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	return e.volume(name)
}

// Volumes are all volumes that pass the filters, by name.
func (e *Engine) Volumes(ctx context.Context, f Filters) ([]*volume.Volume, error) {
	if err := f.check("dangling", "driver", "label", "label!", "name"); err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(e.volumesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	used, err := e.volumeUsers()
	if err != nil {
		return nil, err
	}
	var all []*volume.Volume
	for _, entry := range entries {
		v, err := e.volume(entry.Name())
		if Code(err) == NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		keep, err := f.volume(v, len(used[v.Name]) == 0)
		if err != nil {
			return nil, err
		}
		if keep {
			all = append(all, v)
		}
	}
	return all, ctx.Err()
}

// volumeUsers are the containers that have each volume.
func (e *Engine) volumeUsers() (map[string][]string, error) {
	records, err := e.records()
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, r := range records {
		for _, m := range r.Mounts {
			if m.Type == mount.TypeVolume {
				users[m.Name] = append(users[m.Name], r.ID)
			}
		}
	}
	return users, nil
}

// RemoveVolume deletes a volume that no container has. With force one that is not there is no
// error.
func (e *Engine) RemoveVolume(_ context.Context, name string, force bool) error {
	if err := e.open(); err != nil {
		return err
	}
	if _, err := e.volume(name); err != nil {
		if force && Code(err) == NotFound {
			return nil
		}
		return err
	}
	return e.deleteVolume(name)
}

// deleteVolume deletes a volume, unless somebody uses it.
func (e *Engine) deleteVolume(name string) error {
	lock, err := e.lockVolumes()
	if err != nil {
		return err
	}
	defer lock.Close()
	used, err := e.volumeUsers()
	if err != nil {
		return err
	}
	if ids := used[name]; len(ids) > 0 {
		return failed(Conflict, "remove %s: volume is in use - [%s]", name, strings.Join(ids, ", "))
	}
	// Without its record it is no volume any more, whatever happens then.
	if err := os.Remove(filepath.Join(e.volumeDir(name), "volume.json")); err != nil {
		return err
	}
	dir, err := os.OpenFile(e.volumesDir(), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := tree.Remove(dir, name); err != nil {
		return err
	}
	e.happened(events.VolumeEventType, "destroy", name, map[string]string{"driver": "local"})
	return nil
}

// PruneVolumes deletes volumes that no container has: those that nobody has named, or with the
// filter all=true all.
func (e *Engine) PruneVolumes(ctx context.Context, f Filters) (*volume.PruneReport, error) {
	if err := f.check("all", "label", "label!"); err != nil {
		return nil, err
	}
	all := slices.Contains([]string{"1", "true"}, f.first("all"))
	rest := Filters{"label": f["label"], "label!": f["label!"], "dangling": {"true"}}
	volumes, err := e.Volumes(ctx, rest)
	if err != nil {
		return nil, err
	}
	report := &volume.PruneReport{VolumesDeleted: []string{}}
	for _, v := range volumes {
		if _, anonymous := v.Labels[anonymousLabel]; !anonymous && !all {
			continue
		}
		size, _, err := tree.Usage(v.Mountpoint)
		if err != nil {
			return report, err
		}
		if err := e.deleteVolume(v.Name); err != nil {
			if Code(err) == Conflict { // somebody has just taken it
				continue
			}
			return report, err
		}
		report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
		report.SpaceReclaimed += uint64(max(size, 0))
	}
	return report, nil
}
