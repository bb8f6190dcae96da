//go:build linux

package engine

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
	"minidocker/final/shim"
)

// record is what a container is made from: container.json.
type record struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Image   string    `json:"image"` // ID, "" if it has none
	Top     string    `json:"top"`   // the image's top layer
	Path    string    `json:"path"`  // the program, and
	Args    []string  `json:"args"`  // its arguments
	// What the user asked for, with what the image says of it.
	Config     *container.Config                    `json:"config"`
	HostConfig *container.HostConfig                `json:"hostConfig"`
	Networks   map[string]*network.EndpointSettings `json:"networks"`
	Mounts     []mountPoint                         `json:"mounts"`
	Platform   string                               `json:"platform"`
}

// mountPoint is a mount of a user's.
type mountPoint struct {
	container.MountPoint
	Anonymous bool   `json:",omitempty"` // a volume that nobody has named
	Tmpfs     string `json:",omitempty"` // options
	Options   []string
	made      *volumeRecord // what a volume is to be made with
	tree      *os.File      // a volume that is a mount, while files are copied
}

// newID is 64 random hexadecimal digits, of which the first twelve are not all decimal: a host
// name must not be a number.
func newID() string {
	for {
		b := make([]byte, 32)
		rand.Read(b) // never fails
		if id := hex.EncodeToString(b); strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

// locked is a container's record with its folder locked.
type locked struct {
	*record
	e    *Engine
	file *os.File
}

func (l *locked) unlock() { l.file.Close() }

func (l *locked) dir() string    { return l.e.dir(l.ID) }
func (l *locked) runDir() string { return l.e.runDir(l.ID) }

// lock finds a container and locks it.
func (e *Engine) lock(ref string) (*locked, error) {
	for {
		id, err := e.find(ref)
		if err != nil {
			return nil, err
		}
		file, err := lockFolder(e.dir(id))
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return nil, noContainer(ref)
		}
		if err != nil {
			return nil, err
		}
		r, err := e.read(id)
		if err != nil {
			file.Close()
			if errors.Is(err, fs.ErrNotExist) {
				return nil, noContainer(ref)
			}
			return nil, err
		}
		if r.Name == ref || r.ID == ref || strings.HasPrefix(r.ID, ref) || "/"+r.Name == ref {
			l := &locked{r, e, file}
			if err := l.settle(); err != nil {
				l.unlock()
				return nil, err
			}
			return l, nil
		}
		file.Close() // renamed meanwhile
	}
}

// lockFolder locks a folder with flock(2), and sees that it is there still.
func lockFolder(dir string) (*os.File, error) {
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		f := os.NewFile(uintptr(fd), dir)
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		if err != nil {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
		}
		var mine, now unix.Stat_t
		if err := unix.Fstat(fd, &mine); err != nil {
			f.Close()
			return nil, err
		}
		if unix.Stat(dir, &now) == nil && now.Ino == mine.Ino && now.Dev == mine.Dev {
			return f, nil
		}
		f.Close()
		if _, err := os.Lstat(dir); err != nil {
			return nil, err
		}
	}
}

func noContainer(ref string) error { return failed(NotFound, "No such container: %s", ref) }

// find returns the ID of the container that a user means: by its name, its ID, or the beginning
// of it.
func (e *Engine) find(ref string) (string, error) {
	if err := e.open(); err != nil {
		return "", err
	}
	ref = strings.TrimPrefix(ref, "/")
	if validName(ref) != nil {
		return "", noContainer(ref)
	}
	if _, err := os.Lstat(e.dir(ref)); err == nil && len(ref) == 64 {
		return ref, nil
	}
	if id, err := rawfd.ReadFile(e.namePath(ref)); err == nil && len(id) == 64 {
		return string(id), nil
	}
	entries, err := os.ReadDir(e.o.Root + "/containers")
	if err != nil {
		return "", err
	}
	var found []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ref) {
			found = append(found, entry.Name())
		}
	}
	switch len(found) {
	case 0:
		return "", noContainer(ref)
	case 1:
		return found[0], nil
	}
	return "", failed(Invalid, "Multiple IDs found with provided prefix: %s", ref)
}

// read reads a record. It takes no lock.
func (e *Engine) read(id string) (*record, error) {
	path := filepath.Join(e.dir(id), "container.json")
	data, err := rawfd.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	if r.ID != id || r.Config == nil || r.HostConfig == nil {
		return nil, fmt.Errorf("read %q: it is of no container", path)
	}
	return r, nil
}

// get finds a container and reads its record and state. It takes no lock.
func (e *Engine) get(ref string) (*record, *shim.State, error) {
	id, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	r, err := e.read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, noContainer(ref)
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := e.state(id)
	return r, s, err
}

// write replaces the record. A container that is removed at its end need not outlive the machine.
func (e *Engine) write(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replace(filepath.Join(e.dir(r.ID), "container.json"), data, !r.HostConfig.AutoRemove)
}

// replace writes a file so that it has the old content or the new, whatever happens.
func replace(path string, data []byte, sync bool) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// state is the container's state as it is: a shim that was killed could not say so.
func (e *Engine) state(id string) (*shim.State, error) {
	s, err := shim.ReadState(e.dir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return &shim.State{Status: "created"}, nil
	}
	if err != nil {
		return nil, err
	}
	if (s.Status == "running" || s.Status == "restarting") && !shim.Alive(e.runDir(id)) {
		// It may have ended between the two looks.
		if s, err = shim.ReadState(e.dir(id)); err != nil {
			return nil, err
		}
		if s.Status == "running" || s.Status == "restarting" {
			s.Status, s.Pid, s.ExitCode = "exited", 0, 137
			s.Error = "the container's shim was killed"
			if s.FinishedAt.Before(s.StartedAt) {
				s.FinishedAt = time.Now().UTC()
			}
		}
	}
	return s, nil
}

// paused says whether a running container is paused.
func (e *Engine) paused(id string) bool {
	c, err := e.runtime().Load(id)
	if err != nil {
		return false
	}
	defer c.Close()
	return c.Status() == "paused"
}
