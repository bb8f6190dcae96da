//go:build linux

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/oci/quickjson"
	"minidocker/final/rawfd"
)

// Runtime is the runtime with its root, the folder of the containers' states.
type Runtime struct {
	Root     string
	Rootless bool
	// NoCgroups leaves containers in the control groups of whoever makes them.
	NoCgroups bool
	// Preserve is how many descriptors from 3 on a container gets: --preserve-fds.
	Preserve int
	// NoPivot asks for a move of the root in the place of pivot_root(2).
	NoPivot bool
	// NoNewKeyring leaves the container the caller's session keyring.
	NoNewKeyring bool
	// Reexec is called by Process, if it is set, when only a protected program may execute the
	// process: see Protect, which it is for a program whose file is not protected.
	Reexec func() error
	// Warn is told what is not as it was asked for, and no error.
	Warn func(format string, args ...any)
}

// Container is a container's record: state.json, which is written once, and the link "process".
type Container struct {
	ID         string    `json:"id"`
	OCIVersion string    `json:"ociVersion"`
	Pid        int       `json:"-"`
	PidStart   uint64    `json:"-"` // of /proc/PID/stat: a number may be used again
	Bundle     string    `json:"bundle"`
	Rootfs     string    `json:"rootfs"`
	Created    time.Time `json:"created"`
	Owner      int       `json:"owner"` // user ID
	CgroupPath string    `json:"cgroupPath"`
	// CgroupMounts are the hierarchies that it is in; nil until it is in them.
	CgroupMounts []string `json:"cgroupMounts"`
	// CgroupShared are those in which linux.cgroupsPath was there before: it stays there.
	CgroupShared []string          `json:"cgroupShared,omitempty"`
	Creating     bool              `json:"-"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	// Hooks are those for later, so that config.json need not be read for them.
	Hooks *specs.Hooks `json:"hooks,omitempty"`

	runtime *Runtime
	lock    *os.File
}

// Errors that callers tell apart.
var (
	ErrNotExist = errors.New("container does not exist")
	ErrExist    = errors.New("container with given ID already exists")
)

func checkID(id string) error {
	other := strings.IndexFunc(id, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("_+.-", r)
	})
	if id == "" || other >= 0 || id == "." || id == ".." || len(id) > 1024 {
		return fmt.Errorf("invalid container ID %q: an invalid character, or none: want letters, "+
			"digits and any of _+.-", id)
	}
	return nil
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.Root, id) }

func (c *Container) dir() string  { return c.runtime.dir(c.ID) }
func (c *Container) fifo() string { return filepath.Join(c.dir(), "exec.fifo") }

// Load returns a container's record. The caller calls Close.
func (r *Runtime) Load(id string) (*Container, error) { return r.load(id, -1) }

// load locks the container as well, if how is a mode of flock(2).
func (r *Runtime) load(id string, how int) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &Container{runtime: r, ID: id}
	if how >= 0 {
		if err := c.acquire(how); err != nil {
			return nil, err
		}
	}
	data, err := rawfd.ReadFile(filepath.Join(c.dir(), "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(c.dir()); err == nil {
			c.Creating = true // or killed in the middle of it: delete can have it
			return c, nil
		}
		c.Close()
		return nil, fmt.Errorf("container %q: %w", id, ErrNotExist)
	}
	if err == nil {
		err = quickjson.Unmarshal(data, c)
	}
	if err == nil {
		err = c.loadProcess()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("state of container %q: %w", id, err)
	}
	return c, nil
}

// acquire locks the container's folder. Whoever waited for the lock may have that of a
// folder that is gone, or that of another container of the same name.
func (c *Container) acquire(how int) error {
	for {
		lock, err := os.Open(c.dir())
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("container %q: %w", c.ID, ErrNotExist)
		}
		if err != nil {
			return err
		}
		if err := flock(lock, how); err != nil {
			lock.Close()
			return err
		}
		locked, err := lock.Stat()
		if err != nil {
			lock.Close()
			return err
		}
		if now, err := os.Stat(c.dir()); err == nil && os.SameFile(locked, now) {
			c.lock = lock
			return nil
		}
		lock.Close()
	}
}

// abandoned says whether the process that creates the container is gone: it holds the
// lock as long as it lives.
func (c *Container) abandoned() bool {
	if c.lock != nil {
		return true
	}
	lock, err := os.Open(c.dir())
	if err != nil {
		return false
	}
	defer lock.Close()
	return flock(lock, unix.LOCK_SH|unix.LOCK_NB) == nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// Close lets go of the record.
func (c *Container) Close() {
	if c.lock != nil {
		c.lock.Close()
		c.lock = nil
	}
}

func (c *Container) save() error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	path := filepath.Join(c.dir(), "state.json")
	if err := rawfd.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// saveProcess records the process's number and whether the container is finished, which
// change. It is a symbolic link, since that is there in one piece, and has no content that a
// file system would write to its disk because of the renaming.
func (c *Container) saveProcess() error {
	path := filepath.Join(c.dir(), "process")
	target := fmt.Sprintf("%d %d %t", c.Pid, c.PidStart, c.Creating)
	err := os.Symlink(target, path)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Symlink(target, path+".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (c *Container) loadProcess() error {
	target, err := os.Readlink(filepath.Join(c.dir(), "process"))
	if errors.Is(err, fs.ErrNotExist) {
		c.Creating = true
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Sscanf(target, "%d %d %t", &c.Pid, &c.PidStart, &c.Creating); err != nil {
		return fmt.Errorf("process %q: %w", target, err)
	}
	return nil
}

// spec is the configuration that the container was created with.
func (c *Container) spec() (*specs.Spec, error) {
	data, err := rawfd.ReadFile(filepath.Join(c.dir(), "config.json"))
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{}
	if err := quickjson.Unmarshal(data, spec); err != nil {
		return nil, err
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	return spec, nil
}

func (c *Container) group() (*cgroup.Group, error) {
	if c.CgroupPath == "" {
		return &cgroup.Group{}, nil
	}
	g, err := cgroup.Open(c.CgroupPath)
	if err == nil && c.CgroupMounts != nil {
		g.Only(c.CgroupMounts)
	}
	return g, err
}

// alive says whether init, or what it has become, runs.
func (c *Container) alive() bool {
	if c.Pid <= 0 {
		return false
	}
	start, state, err := processStart(c.Pid)
	return err == nil && start == c.PidStart && state != "Z" && state != "X"
}

// processStart reads when a process started, in clock ticks since the boot, and its state:
// proc_pid_stat(5).
func processStart(pid int) (uint64, string, error) {
	data, err := rawfd.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	// The name, in parentheses, may have anything in it.
	_, rest, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')'):]), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return 0, "", fmt.Errorf("/proc/%d/stat: %q", pid, data)
	}
	start, err := strconv.ParseUint(f[19], 10, 64) // field 22
	return start, f[0], err
}

// Status is creating, created, running, paused or stopped.
func (c *Container) Status() specs.ContainerState {
	if c.Creating && (c.alive() || !c.abandoned()) {
		return specs.StateCreating
	}
	if !c.alive() {
		return specs.StateStopped
	}
	if g, err := c.group(); err == nil && g.Frozen() {
		return "paused"
	}
	if _, err := os.Stat(c.fifo()); err == nil {
		return specs.StateCreated
	}
	return specs.StateRunning
}

// State is what state prints and hooks are told.
func (c *Container) State() *specs.State {
	s := &specs.State{
		Version: specs.Version, ID: c.ID, Status: c.Status(), Bundle: c.Bundle,
		Annotations: c.Annotations,
	}
	if s.Status != specs.StateStopped {
		s.Pid = c.Pid
	}
	return s
}

// List returns the containers' records, by ID.
func (r *Runtime) List() ([]*Container, error) {
	entries, err := os.ReadDir(r.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*Container
	for _, e := range entries {
		if !e.IsDir() || checkID(e.Name()) != nil {
			continue
		}
		c, err := r.Load(e.Name())
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
