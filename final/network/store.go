//go:build linux

package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// Store is the networks of a machine. Its methods can be called from several goroutines and
// processes. Its files:
//
//	DIR/ID.json                                  a network
//	RUN/endpoints/CONTAINER/NETWORK.json         an endpoint; the links below are made after it
//	RUN/networks/NETWORK/addresses/ADDRESS       -> CONTAINER
//	RUN/networks/NETWORK/names/NAME/CONTAINER    -> IPv4,IPv6 (see package names)
//	RUN/ports/PROTOCOL-PORT/ADDRESS              -> CONTAINER
//	RUN/retired/CONTAINER                        its endpoints are to be released
//	RUN/lock                                     held while any of these is changed
//	RUN/collect                                  held by who releases them
//	RUN/rules                                    shared while elements of the rules are changed,
//	                                             exclusive while bridges and rules are
type Store struct {
	dir, run string
	alive    func(container string) bool
}

// Open opens the store whose networks are recorded in dir, and what is in use below run, a
// folder that a reboot empties. alive says whether a container is in use: it starts, runs or
// stops. What others hold for one that is not may be taken at any moment, so a container must be
// alive before its first Reserve and until after Release. What an earlier run of it left, which was
// killed, must be given to Release before. Open makes nothing.
func Open(dir, run string, alive func(container string) bool) (*Store, error) {
	for _, path := range []string{dir, run} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("open networks: %q is not an absolute path", path)
		}
	}
	return &Store{dir: dir, run: run, alive: alive}, nil
}

func (s *Store) networkFile(id string) string { return filepath.Join(s.dir, id+".json") }

func (s *Store) containerDir(id string) string { return filepath.Join(s.run, "endpoints", id) }

func (s *Store) endpointFile(container, network string) string {
	return filepath.Join(s.containerDir(container), network+".json")
}

func (s *Store) addressDir(network string) string {
	return filepath.Join(s.run, "networks", network, "addresses")
}

func (s *Store) nameDir(network, name string) string {
	return filepath.Join(s.run, "networks", network, "names", strings.ToLower(name))
}

func (s *Store) portDir(p Port) string {
	return filepath.Join(s.run, "ports", fmt.Sprintf("%s-%d", p.Proto, p.HostPort))
}

// lock locks all records; unlock by closing.
func (s *Store) lock() (*os.File, error) { return s.lockFile("lock", unix.LOCK_EX) }

// lockFile makes the file and locks it: flock(2). The kernel unlocks it if the process dies.
func (s *Store) lockFile(name string, how int) (*os.File, error) {
	path := filepath.Join(s.run, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(s.run, 0o711); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return f, nil
}

// writeRecord replaces a file as a whole. durable is for the disk: it is there after a power cut.
func writeRecord(path string, record any, durable bool) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	if durable {
		return syncFolder(filepath.Dir(path))
	}
	return nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func readRecord(path string, record any) error {
	data, err := rawfd.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, record); err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	return nil
}

// readNames lists a folder in no order; one that is not there is empty.
func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) { // it has gone since
		return nil, nil
	}
	return names, err
}

// mkdirs is os.MkdirAll, but cheap where it is there or its parent is.
func mkdirs(path string) error {
	err := os.Mkdir(path, 0o755)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.MkdirAll(path, 0o755)
}

// removeIfThere is os.Remove, which is content if there is nothing.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
