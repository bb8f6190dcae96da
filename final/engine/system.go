//go:build linux

package engine

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"minidocker/final/storage/tree"
)

// APIVersion is the Docker API that the requests and answers are of, and MinAPIVersion the oldest.
const (
	APIVersion    = "1.47"
	MinAPIVersion = "1.24"
)

// Info is what the engine and its machine are.
func (e *Engine) Info(ctx context.Context) (*system.Info, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	id, err := e.engineID()
	if err != nil {
		return nil, err
	}
	info := &system.Info{
		ID: id, Driver: e.layers.Name(), DriverStatus: e.layers.Status(), LoggingDriver: "json-file",
		CgroupDriver: "cgroupfs", CgroupVersion: "1", KernelVersion: kernelRelease(),
		OperatingSystem: operatingSystem(), OSType: "linux", Architecture: machine(),
		NCPU:     runtime.NumCPU(),
		MemTotal: int64(memoryTotal()), DockerRootDir: e.o.Root, Name: host, ServerVersion: Version,
		DefaultRuntime: "minirunc", SystemTime: time.Now().Format(time.RFC3339Nano),
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, MemoryLimit: true, SwapLimit: true,
		CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		OomKillDisable: true, IPv4Forwarding: forwards(), InitBinary: "docker-init",
		Runtimes: map[string]system.RuntimeWithStatus{"minirunc": {}},
		Labels:   []string{}, Warnings: []string{},
		Plugins: system.PluginsInfo{Volume: []string{"local"},
			Network: []string{"bridge", "host", "ipvlan", "macvlan", "null"},
			Log:     []string{"json-file", "local", "none"}},
		FirewallBackend: &system.FirewallInfo{Driver: "nftables"},
	}
	if unifiedCgroups() {
		info.CgroupVersion = "2"
		info.OomKillDisable = false
		info.SecurityOptions = append(info.SecurityOptions, "name=cgroupns")
	}
	if path, err := e.runtimePath(); err == nil {
		info.Runtimes["minirunc"] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: path}}
	}
	containers, err := e.Containers(ctx, ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	info.Containers = len(containers)
	for _, c := range containers {
		switch c.State {
		case container.StateRunning:
			info.ContainersRunning++
		case container.StatePaused:
			info.ContainersPaused++
		default:
			info.ContainersStopped++
		}
	}
	images, err := e.images.List()
	info.Images = len(images)
	return info, err
}

// engineID is what tells this engine's state from others', for good.
func (e *Engine) engineID() (string, error) {
	path := filepath.Join(e.o.Root, "engine-id")
	for {
		data, err := os.ReadFile(path)
		if err == nil && len(data) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return string(data), err
		}
		tmp, err := os.CreateTemp(e.o.Root, ".engine-id")
		if err != nil {
			return "", err
		}
		_, err = tmp.WriteString(newID()[:32])
		if err = errors.Join(err, tmp.Close()); err == nil {
			err = os.Link(tmp.Name(), path) // whole, and one for all
		}
		if err := errors.Join(ignoreExist(err), os.Remove(tmp.Name())); err != nil {
			return "", err
		}
	}
}

func ignoreExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func forwards() bool {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return err == nil && strings.TrimSpace(string(data)) == "1"
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// machine is the processor as uname -m says it.
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// operatingSystem is the distribution's name: os-release(5).
func operatingSystem() string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}

// Version is what the engine is made of.
func (e *Engine) Version(context.Context) system.VersionResponse {
	return system.VersionResponse{
		Platform: system.PlatformInfo{Name: "minidocker"}, Version: Version, APIVersion: APIVersion,
		MinAPIVersion: MinAPIVersion, Os: "linux", Arch: runtime.GOARCH, GoVersion: runtime.Version(),
		KernelVersion: kernelRelease(),
		Components: []system.ComponentVersion{
			{Name: "Engine", Version: Version, Details: map[string]string{"ApiVersion": APIVersion,
				"MinAPIVersion": MinAPIVersion, "Os": "linux", "Arch": runtime.GOARCH,
				"GoVersion": runtime.Version(), "KernelVersion": kernelRelease(), "Experimental": "false"}},
			{Name: "minirunc", Version: Version},
		},
	}
}

// DiskUsage is what images, containers and volumes take.
func (e *Engine) DiskUsage(ctx context.Context) (*system.DiskUsage, error) {
	images, err := e.Images(ctx, ImageListOptions{})
	if err != nil {
		return nil, err
	}
	u := &system.DiskUsage{
		ImageUsage:      &apiimage.DiskUsage{Items: images, TotalCount: int64(len(images))},
		BuildCacheUsage: &build.DiskUsage{},
	}
	layers, err := e.layers.List()
	if err != nil {
		return nil, err
	}
	for _, id := range layers {
		if exists(e.dir(id)) {
			continue
		}
		usage, err := e.layers.Usage(id)
		if err == nil {
			u.ImageUsage.TotalSize += usage.Bytes
		}
	}
	shared, err := e.sharedSizes()
	if err != nil {
		return nil, err
	}
	for i, s := range images {
		images[i].SharedSize = shared[s.ID]
		if s.Containers > 0 {
			u.ImageUsage.ActiveCount++
		} else {
			u.ImageUsage.Reclaimable += s.Size
		}
	}
	u.ImageUsage.Reclaimable = min(u.ImageUsage.Reclaimable, u.ImageUsage.TotalSize)
	containers, err := e.Containers(ctx, ListOptions{All: true, Size: true})
	if err != nil {
		return nil, err
	}
	u.ContainerUsage = &container.DiskUsage{Items: containers, TotalCount: int64(len(containers))}
	for _, c := range containers {
		u.ContainerUsage.TotalSize += c.SizeRw
		if c.State == container.StateRunning || c.State == container.StatePaused {
			u.ContainerUsage.ActiveCount++
		} else {
			u.ContainerUsage.Reclaimable += c.SizeRw
		}
	}
	if u.VolumeUsage, err = e.volumeUsage(ctx); err != nil {
		return nil, err
	}
	return u, nil
}

// sharedSizes are, for each image, the bytes of its layers that others have, too.
func (e *Engine) sharedSizes() (map[string]int64, error) {
	images, err := e.images.List()
	if err != nil {
		return nil, err
	}
	users := map[string]int{}
	for _, img := range images {
		for _, id := range img.ChainIDs {
			users[id]++
		}
	}
	shared := map[string]int64{}
	for _, img := range images {
		for _, id := range img.ChainIDs {
			if usage, err := e.layers.Usage(id); err == nil && users[id] > 1 {
				shared[img.ID] += usage.Bytes
			}
		}
	}
	return shared, nil
}

func (e *Engine) volumeUsage(ctx context.Context) (*volume.DiskUsage, error) {
	volumes, err := e.Volumes(ctx, nil)
	if err != nil {
		return nil, err
	}
	users, err := e.volumeUsers()
	if err != nil {
		return nil, err
	}
	u := &volume.DiskUsage{TotalCount: int64(len(volumes))}
	for _, v := range volumes {
		size, _, err := tree.Usage(v.Mountpoint)
		if err != nil {
			return nil, err
		}
		v.UsageData = &volume.UsageData{RefCount: int64(len(users[v.Name])), Size: size}
		u.TotalSize += size
		if len(users[v.Name]) > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += size
		}
		u.Items = append(u.Items, *v)
	}
	return u, nil
}

// PruneContainers removes the containers that do not run.
func (e *Engine) PruneContainers(ctx context.Context, f Filters) (container.PruneReport, error) {
	report := container.PruneReport{ContainersDeleted: []string{}}
	if err := f.check("label", "label!", "until"); err != nil {
		return report, err
	}
	until, err := f.until()
	if err != nil {
		return report, err
	}
	containers, err := e.Containers(ctx, ListOptions{All: true, Size: true,
		Filters: Filters{"label": f["label"], "label!": f["label!"],
			"status": {"created", "exited", "dead"}}})
	if err != nil {
		return report, err
	}
	for _, c := range containers {
		if !until.IsZero() && time.Unix(c.Created, 0).After(until) {
			continue
		}
		switch err := e.Remove(ctx, c.ID, RemoveOptions{}); {
		case err == nil:
			report.ContainersDeleted = append(report.ContainersDeleted, c.ID)
			report.SpaceReclaimed += uint64(max(c.SizeRw, 0))
		case Code(err) != Conflict && Code(err) != NotFound:
			return report, err
		}
	}
	return report, nil
}
