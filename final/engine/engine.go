//go:build linux

// Package engine is what a user can do: run containers, keep images, networks and volumes. It has
// no daemon and needs none: every method reads the state from disk and writes it there, and a
// running container is its shim's business. So any number of engines work at once, in commands
// and in a daemon, on the same state.
//
//	ROOT/containers/ID/     container.json (what was asked for), state.json (see package shim),
//	                        the log, hosts, hostname, resolv.conf
//	ROOT/names/NAME         the ID of the container that has the name
//	ROOT/image, storage, network, volumes
//	RUN/containers/ID/      the shim's socket and lock
//	RUN/ending/ID           the container has ended, and this package's part is yet to be done
//	RUN/runtime/ID          package oci's state
//	RUN/events              a line of JSON an event
//
// Whoever changes a container holds the lock on its folder. What a process that was killed has
// left is put in order by the next that comes by: see settle.
package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"minidocker/final/image"
	"minidocker/final/network"
	"minidocker/final/oci"
	"minidocker/final/rootless"
	"minidocker/final/shim"
	"minidocker/final/storage"
)

// Version is the engine's own.
const Version = "0.1.0"

// Options says where an engine has its state.
type Options struct {
	Root   string // default /var/lib/minidocker
	Run    string // default /run/minidocker
	Driver string // storage driver; "": the one in use, or the best
	// Runtime is the program that is minirunc; "": beside this program, or along PATH.
	Runtime string
}

// Engine is an engine. Its methods may be called from several goroutines.
type Engine struct {
	o Options

	once     sync.Once
	opened   error
	images   *image.Store
	layers   storage.Driver
	networks *network.Store
	ahead    atomic.Pointer[chan aheadShim] // see startAhead

	left children
}

// Open opens an engine. Nothing is touched until something is asked for.
func Open(o Options) (*Engine, error) {
	root, run := "/var/lib/minidocker", "/run/minidocker"
	if rootless.Dir() != "" {
		var err error
		if root, run, err = rootless.Dirs(); err != nil {
			return nil, err
		}
	}
	if o.Root == "" {
		o.Root = root
	}
	if o.Run == "" {
		o.Run = run
	}
	for _, dir := range []*string{&o.Root, &o.Run} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, err
		}
		*dir = abs
	}
	return &Engine{o: o}, nil
}

// Close gives up what the engine holds.
func (e *Engine) Close() error {
	if e.layers == nil {
		return nil
	}
	return e.layers.Close()
}

// open makes and opens what the methods need.
func (e *Engine) open() error {
	e.once.Do(func() { e.opened = e.openAll() })
	return e.opened
}

func (e *Engine) openAll() error {
	for _, dir := range []string{
		e.o.Root + "/containers", e.o.Root + "/names", e.o.Run + "/containers",
	} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			if errors.Is(err, os.ErrPermission) {
				return fmt.Errorf("%w (are you root? try: sudo minidocker …)", err)
			}
			return err
		}
	}
	var err error
	if e.images, err = image.Open(e.o.Root + "/image"); err != nil {
		return err
	}
	if e.layers, err = storage.Open(e.o.Root+"/storage", e.o.Driver); err != nil {
		return err
	}
	e.networks, err = network.Open(e.o.Root+"/network", e.o.Run+"/network", func(id string) bool {
		return shim.Alive(e.runDir(id))
	})
	return err
}

func (e *Engine) dir(id string) string    { return filepath.Join(e.o.Root, "containers", id) }
func (e *Engine) runDir(id string) string { return filepath.Join(e.o.Run, "containers", id) }

// ImageStore is the store of images, for what package transfer does.
func (e *Engine) ImageStore() (*image.Store, error) {
	err := e.open()
	return e.images, err
}

// Storage is the storage, for what package transfer does.
func (e *Engine) Storage() (storage.Driver, error) {
	err := e.open()
	return e.layers, err
}

// runtime is package oci's.
func (e *Engine) runtime() *oci.Runtime {
	return &oci.Runtime{Root: e.o.Run + "/runtime", Rootless: rootless.Dir() != "",
		Warn: func(string, ...any) {}}
}

// runtimePath is where minirunc is.
func (e *Engine) runtimePath() (string, error) {
	if e.o.Runtime != "" {
		return e.o.Runtime, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), "minirunc")
	if unix.Access(beside, unix.X_OK) == nil {
		return beside, nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if path := filepath.Join(dir, "minirunc"); filepath.IsAbs(path) &&
			unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("minirunc, the runtime, is neither beside %s nor along PATH: make build",
		self)
}

func (e *Engine) eventsPath() string { return filepath.Join(e.o.Run, "events") }

// happened notes an event.
func (e *Engine) happened(kind events.Type, action, id string, attributes map[string]string) {
	shim.Happened(e.eventsPath(), events.Message{Type: kind, Action: events.Action(action),
		Actor: events.Actor{ID: id, Attributes: attributes}})
}
