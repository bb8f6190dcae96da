//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/storage"
	"minidocker/final/storage/tree"
)

// makeMounts works out the user's mounts, and makes their volumes. Later ones take the place of
// earlier ones at the same path: --volumes-from, the image's volumes, -v, --mount, --tmpfs.
func (c *creation) makeMounts(ctx context.Context) error {
	host, config := c.r.HostConfig, c.r.Config
	var all []mountPoint
	set := func(m mountPoint) {
		all = slices.DeleteFunc(all, func(o mountPoint) bool { return o.Destination == m.Destination })
		all = append(all, m)
	}
	for _, from := range host.VolumesFrom {
		mounts, err := c.volumesFrom(from)
		if err != nil {
			return err
		}
		for _, m := range mounts {
			set(m)
		}
	}
	given := map[string]bool{}
	var users []mountPoint
	for _, text := range host.Binds {
		m, err := parseBind(text)
		if err != nil {
			return err
		}
		users = append(users, m)
	}
	for _, m := range host.Mounts {
		p, err := fromMount(m)
		if err != nil {
			return err
		}
		users = append(users, p)
	}
	for target, options := range host.Tmpfs {
		users = append(users, mountPoint{MountPoint: container.MountPoint{
			Type: mount.TypeTmpfs, Destination: path.Clean(target), RW: true}, Tmpfs: options})
	}
	for _, m := range users {
		if d := host.VolumeDriver; m.Type == mount.TypeVolume && d != "" && d != "local" {
			return missing(noDriver(d))
		}
		if !path.IsAbs(m.Destination) {
			return failed(Invalid, "invalid mount path: '%s' mount path must be absolute", m.Destination)
		}
		if m.Destination == "/" {
			return failed(Invalid, "invalid specification: destination can't be '/'")
		}
		if given[m.Destination] {
			return failed(Invalid, "Duplicate mount point: %s", m.Destination)
		}
		given[m.Destination] = true
	}
	for target := range config.Volumes {
		if p := path.Clean(target); !given[p] &&
			!slices.ContainsFunc(all, func(m mountPoint) bool { return m.Destination == p }) {
			set(mountPoint{MountPoint: container.MountPoint{
				Type: mount.TypeVolume, Destination: p, Driver: "local", RW: true}})
		}
	}
	for _, m := range users {
		set(m)
	}
	for i := range all {
		if err := c.makeMount(ctx, &all[i]); err != nil {
			return err
		}
	}
	// What lies in another comes after it.
	slices.SortStableFunc(all, func(a, b mountPoint) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	c.r.Mounts = all
	return nil
}

// volumesFrom are another container's mounts: NAME[:ro|rw].
func (c *creation) volumesFrom(text string) ([]mountPoint, error) {
	ref, mode, _ := strings.Cut(text, ":")
	if mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
		return nil, failed(Invalid, "invalid mode: %s", mode)
	}
	r, _, err := c.e.get(ref)
	if err != nil {
		return nil, missing(err)
	}
	var all []mountPoint
	for _, m := range r.Mounts {
		m.RW = m.RW && mode != "ro"
		m.Anonymous = false
		m.Options = append(slices.Clone(m.Options), "nocopy")
		all = append(all, m)
	}
	return all, nil
}

// parseBind is -v: [SOURCE:]DESTINATION[:OPTIONS].
func parseBind(text string) (mountPoint, error) {
	m := mountPoint{MountPoint: container.MountPoint{RW: true}}
	parts := strings.Split(text, ":")
	invalid := failed(Invalid, "invalid volume specification: '%s'", text)
	switch {
	case len(parts) > 3 || parts[0] == "":
		return m, invalid
	case len(parts) == 1:
		m.Destination = parts[0]
	default:
		m.Source, m.Destination = parts[0], parts[1]
	}
	if m.Destination == "" {
		return m, invalid
	}
	m.Destination = path.Clean(m.Destination)
	if len(parts) == 3 {
		m.Mode = parts[2]
		for o := range strings.SplitSeq(parts[2], ",") {
			switch {
			case o == "ro" || o == "readonly":
				m.RW = false
			case o == "rw" || o == "z" || o == "Z" || o == "nocopy" || o == "consistent" ||
				o == "cached" || o == "delegated":
			case slices.Contains(mount.Propagations, mount.Propagation(o)):
				m.Propagation = mount.Propagation(o)
			default:
				return m, failed(Invalid, "invalid mode: %s", parts[2])
			}
			m.Options = append(m.Options, o)
		}
	}
	if path.IsAbs(m.Source) {
		m.Type, m.Source = mount.TypeBind, filepath.Clean(m.Source)
		if m.Propagation == "" {
			m.Propagation = mount.PropagationRPrivate
		}
		m.Options = append(m.Options, "create") // what is not there is made, a folder
		return m, nil
	}
	m.Type, m.Driver, m.Name, m.Source = mount.TypeVolume, "local", m.Source, ""
	return m, nil
}

// fromMount is --mount.
func fromMount(m mount.Mount) (mountPoint, error) {
	p := mountPoint{MountPoint: container.MountPoint{
		Type: m.Type, Destination: path.Clean(m.Target), RW: !m.ReadOnly}}
	if m.Target == "" {
		return p, failed(Invalid, "invalid mount config for type %q: field Target must not be empty",
			m.Type)
	}
	switch m.Type {
	case mount.TypeBind:
		if !path.IsAbs(m.Source) {
			return p, failed(Invalid, `invalid mount config for type "bind": invalid mount path: '%s' `+
				"mount path must be absolute", m.Source)
		}
		p.Source, p.Propagation = filepath.Clean(m.Source), mount.PropagationRPrivate
		if o := m.BindOptions; o != nil {
			if o.Propagation != "" {
				p.Propagation = o.Propagation
			}
			if o.NonRecursive {
				p.Options = append(p.Options, "nonrecursive")
			}
			if o.CreateMountpoint {
				p.Options = append(p.Options, "create")
			}
		}
		if !exists(p.Source) && !slices.Contains(p.Options, "create") {
			return p, failed(Invalid, `invalid mount config for type "bind": `+
				"bind source path does not exist: %s", p.Source)
		}
	case mount.TypeVolume:
		p.Name, p.Driver = m.Source, "local"
		if o := m.VolumeOptions; o != nil {
			if o.NoCopy {
				p.Options = append(p.Options, "nocopy")
			}
			if o.Subpath != "" {
				if !filepath.IsLocal(o.Subpath) {
					return p, failed(Invalid, `invalid mount config for type "volume": subpath must be a `+
						"relative path within the volume")
				}
				p.Options = append(p.Options, "subpath="+o.Subpath)
			}
			p.made = &volumeRecord{Labels: o.Labels}
			if d := o.DriverConfig; d != nil {
				if d.Name != "" && d.Name != "local" {
					return p, missing(noDriver(d.Name))
				}
				p.made.Options = d.Options
				if err := checkVolumeOptions(d.Options); err != nil {
					return p, err
				}
			}
		}
	case mount.TypeTmpfs:
		if o := m.TmpfsOptions; o != nil {
			if o.SizeBytes > 0 {
				p.Tmpfs = fmt.Sprintf("size=%d", o.SizeBytes)
			}
			if o.Mode != 0 {
				p.Tmpfs = strings.TrimPrefix(fmt.Sprintf("%s,mode=%o", p.Tmpfs, o.Mode), ",")
			}
		}
	default:
		return p, failed(Invalid, "invalid mount config for type %q: mount type unknown: there are "+
			"bind, volume and tmpfs", m.Type)
	}
	return p, nil
}

// makeMount makes what is to be mounted: a volume, with what the image has at that place if it is
// new; or the folder on the host.
func (c *creation) makeMount(ctx context.Context, m *mountPoint) error {
	switch m.Type {
	case mount.TypeBind:
		if slices.Contains(m.Options, "create") && !exists(m.Source) {
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return failed(Invalid, "error while creating mount source path '%s': %w", m.Source, err)
			}
		}
	case mount.TypeVolume:
		m.Anonymous = m.Name == "" || m.Anonymous
		if m.Name == "" {
			m.Name = newID()
		}
		v, made, err := c.e.makeVolume(m.Name, m.made, m.Anonymous)
		if err != nil {
			return err
		}
		if made {
			c.undo = append(c.undo, func() { _ = c.e.deleteVolume(v.Name) })
		}
		m.Source = v.Mountpoint
		if !slices.Contains(m.Options, "nocopy") {
			err := c.e.withVolume(v.Name, func(volume *os.File) error {
				part, err := openBeneath(volume, m.subpath(), unix.O_RDONLY)
				if err != nil {
					return nil //nolint:nilerr // the start says so, if it is not there by then
				}
				defer part.Close()
				return c.fillVolume(ctx, part, m.Destination)
			})
			if err != nil {
				return fmt.Errorf("copy the image's %q to volume %s: %w", m.Destination, v.Name, err)
			}
		}
	}
	return nil
}

// fillVolume copies what the image has at a path into an empty volume.
func (c *creation) fillVolume(_ context.Context, volume *os.File, at string) error {
	entries, err := volume.Readdirnames(1)
	if len(entries) > 0 || c.r.Top == "" || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	mounts, err := c.e.layers.Mounts(c.r.Top, storage.MountOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = c.e.layers.Release(c.r.Top) }()
	return storage.With(mounts, func(root *os.File) error {
		from, err := openIn(root, at, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil //nolint:nilerr // the image has no such folder
		}
		defer from.Close()
		return tree.Copy(from, volume)
	})
}

// openIn opens a path in a container's, or an image's, root: no link in it leads out.
func openIn(root *os.File, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// The mounts of every container, as Docker's.
func baseMounts(host *container.HostConfig) []specs.Mount {
	sys := []string{"nosuid", "noexec", "nodev"}
	if !host.Privileged {
		sys = append(sys, "ro")
	}
	cgroup := slices.Concat([]string{"nosuid", "noexec", "nodev", "relatime"}, []string{"ro"})
	if host.Privileged {
		cgroup = cgroup[:4]
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc",
			Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{
			"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
	}
	if host.NetworkMode.IsHost() && os.Geteuid() != 0 {
		all[3] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys",
			Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
	}
	if host.IpcMode.IsHost() {
		return append(all, bindMount("/dev/mqueue", "/dev/mqueue", "rw"),
			bindMount("/dev/shm", "/dev/shm", "rw"))
	}
	all = append(all, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue",
		Options: []string{"nosuid", "noexec", "nodev"}})
	if host.IpcMode.IsNone() {
		return all
	}
	size := fmt.Sprintf("size=%d", host.ShmSize)
	return append(all, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", size}})
}

func bindMount(source, destination string, options ...string) specs.Mount {
	return specs.Mount{Destination: destination, Type: "bind", Source: source,
		Options: append([]string{"rbind"}, options...)}
}

// mounts are all of the container's, in the order in which they are made; and the propagation that
// its root needs for them.
func (s *starting) mounts() ([]specs.Mount, string, error) {
	users := map[string]bool{}
	for _, m := range s.Mounts {
		users[m.Destination] = true
	}
	all := slices.DeleteFunc(baseMounts(s.HostConfig),
		func(m specs.Mount) bool { return users[m.Destination] })
	if s.HostConfig.IpcMode.IsContainer() {
		tree, err := s.shmOf(s.HostConfig.IpcMode.Container())
		if err != nil {
			return nil, "", err
		}
		s.trees = map[string]*os.File{"/dev/shm": tree}
		all = slices.DeleteFunc(all, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
		all = append(all, bindMount("/dev/shm", "/dev/shm", "rw"))
	}
	files, err := s.etcMounts(users)
	if err != nil {
		return nil, "", err
	}
	all = append(all, files...)
	if init := s.HostConfig.Init; init != nil && *init {
		path, err := s.e.runtimePath()
		if err != nil {
			return nil, "", err
		}
		all = append(all, bindMount(path, "/sbin/docker-init", "ro"))
	}
	propagation := "rprivate"
	for _, m := range s.Mounts {
		one, err := s.userMount(m)
		if err != nil {
			return nil, "", err
		}
		all = append(all, one)
		switch m.Propagation {
		case mount.PropagationShared, mount.PropagationRShared:
			propagation = "rshared"
		case mount.PropagationSlave, mount.PropagationRSlave:
			if propagation != "rshared" {
				propagation = "rslave"
			}
		}
	}
	all = append(all, s.extraMounts()...)
	if propagation == "rprivate" {
		propagation = ""
	}
	return all, propagation, nil
}

// userMount is one of the user's mounts.
func (s *starting) userMount(m mountPoint) (specs.Mount, error) {
	mode := "rw"
	if !m.RW {
		mode = "ro"
	}
	if m.Type == mount.TypeTmpfs {
		options := []string{"nosuid", "nodev"}
		noexec := true
		for o := range strings.SplitSeq(m.Tmpfs, ",") {
			switch {
			case o == "":
			case o == "exec" || o == "suid" || o == "dev":
				noexec = noexec && o != "exec"
				options = append(options, o)
			case strings.HasPrefix(o, "size="):
				n, err := units.RAMInBytes(strings.TrimPrefix(o, "size="))
				if err != nil && !strings.HasSuffix(o, "%") {
					return specs.Mount{}, failed(Invalid, "tmpfs %s: %s: %w", m.Destination, o, err)
				}
				if err == nil {
					o = fmt.Sprintf("size=%d", n)
				}
				options = append(options, o)
			default:
				options = append(options, o)
			}
		}
		if noexec {
			options = append(options, "noexec")
		}
		if !m.RW {
			options = append(options, "ro")
		}
		if !strings.Contains(","+m.Tmpfs, ",mode=") {
			options = append(options, "mode=1777")
		}
		return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs",
			Options: options}, nil
	}
	if m.Type == mount.TypeVolume {
		tree, err := s.sharedTree(m.Name)
		switch {
		case err != nil:
			return specs.Mount{}, err
		case tree != nil && m.subpath() != ".":
			tree.Close()
			return specs.Mount{}, failed(Unavailable, "a part of a volume that is a mount is not supported")
		case tree != nil:
			if s.trees == nil {
				s.trees = map[string]*os.File{}
			}
			s.trees[m.Destination] = tree
			return bindMount(m.Destination, m.Destination, mode), nil
		}
	}
	source := m.Source
	if sub := m.subpath(); sub != "." {
		var err error
		if source, err = inside(source, sub); err != nil {
			return specs.Mount{}, err
		}
	}
	if !exists(source) {
		return specs.Mount{}, failed(Invalid, "the source of the mount at %s is gone: %s",
			m.Destination, source)
	}
	one := bindMount(source, m.Destination, mode)
	if slices.Contains(m.Options, "nonrecursive") {
		one.Options[0] = "bind"
	} else if !m.RW {
		one.Options = append(one.Options, "rro")
	}
	if m.Propagation != "" {
		one.Options = append(one.Options, string(m.Propagation))
	}
	return one, nil
}

// openBeneath opens a path in a folder; links that lead out are an error.
func openBeneath(dir *os.File, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR, unix.EAGAIN:
		case unix.EXDEV:
			return nil, failed(Invalid, "path concatenation escapes the base directory: %s", name)
		default:
			return nil, failed(Invalid, "cannot access path %s: %w", name, err)
		}
	}
}

// inside is a folder in a volume.
func inside(volume, sub string) (string, error) {
	root, err := os.Open(volume)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := openBeneath(root, sub, unix.O_PATH)
	if err != nil {
		return "", fmt.Errorf("subpath of the volume: %w", err)
	}
	defer f.Close()
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}
