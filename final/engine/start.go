//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/network"
	"minidocker/final/oci"
	"minidocker/final/rootless"
	"minidocker/final/shim"
	"minidocker/final/storage"
)

// starting is a container that is being started; undo is what is to be undone if it fails, in the
// order in which it was done.
type starting struct {
	*locked
	secure    securityOptions
	retries   int
	root      *os.File            // its root file system, mounted nowhere yet
	trees     map[string]*os.File // the same, of mounts that come from another container
	extra     []Tree              // and of a build's
	endpoints []*network.Endpoint
	links     []neighbour
	volumes   *os.File // the lock on the volumes: see sharedTree
	dns       *shim.DNS
	undo      []func()
}

// Start starts a container. With streams it is attached from the first byte on, and the caller
// waits for its end by the attachment, which does what is to be done then. Without, it is nil.
// An error is a StartError if the container's own program is its reason, or the engine's work.
func (e *Engine) Start(ctx context.Context, ref string, s *Streams) (*Attachment, error) {
	return e.StartWith(ctx, ref, s)
}

// StartWith is Start with mounts that are of this start only. It closes their trees.
func (e *Engine) StartWith(
	_ context.Context, ref string, s *Streams, trees ...Tree,
) (*Attachment, error) {
	defer closeTrees(trees)
	l, err := e.lock(ref)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	return e.startStopped(l, s, trees...)
}

// startStopped starts a container that is locked.
func (e *Engine) startStopped(l *locked, s *Streams, trees ...Tree) (*Attachment, error) {
	state, err := e.state(l.ID)
	if err != nil {
		return nil, err
	}
	switch state.Status {
	case "running":
		if e.paused(l.ID) {
			return nil, failed(Conflict, "cannot start a paused container, try unpause instead")
		}
		return nil, failed(NotModified, "container %s is running", l.ID)
	case "restarting":
		return nil, failed(NotModified, "container %s is restarting", l.ID)
	}
	run, held, err := shim.Lock(l.runDir())
	if err != nil {
		return nil, err
	}
	if held {
		return nil, failed(Conflict, "container %s is ending at this moment", l.ID)
	}
	return e.startLocked(l, run, 0, s, trees...)
}

// startLocked starts a container of which the run folder's lock is held, too. It closes that.
func (e *Engine) startLocked(
	l *locked, run *os.File, retries int, s *Streams, trees ...Tree,
) (*Attachment, error) {
	st := &starting{locked: l, retries: retries, extra: trees}
	defer run.Close()
	a, err := st.start(run, s)
	if err != nil {
		for i := len(st.undo) - 1; i >= 0; i-- {
			st.undo[i]()
		}
		status := 125
		if failed := (*StartError)(nil); errors.As(err, &failed) {
			status = failed.Status
		}
		if l.HostConfig.AutoRemove {
			return nil, errors.Join(err, e.remove(l, true))
		}
		_ = (&shim.State{Status: "created", ExitCode: status, Error: err.Error()}).Write(l.dir())
		return nil, err
	}
	e.containerEvent(l.record, "start", nil)
	return a, nil
}

func (s *starting) start(run *os.File, streams *Streams) (*Attachment, error) {
	var err error
	if s.secure, err = parseSecurity(s.HostConfig.SecurityOpt); err != nil {
		return nil, err
	}
	child, conn, err := s.e.startShim()
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() {
		conn.Close()
		_, _ = child.Wait() // it ends with its connection
		os.RemoveAll(s.runDir())
	})
	if err := s.mountRoot(); err != nil {
		return nil, err
	}
	defer s.root.Close()
	defer func() {
		if s.volumes != nil {
			s.volumes.Close()
		}
	}()
	if s.links, err = s.neighbours(); err != nil {
		return nil, err
	}
	if err := s.reserve(); err != nil {
		return nil, err
	}
	if err := s.writeEtc(); err != nil {
		return nil, err
	}
	spec, err := s.specification()
	if err != nil {
		return nil, err
	}
	bundle, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	config, err := s.shimConfig()
	if err != nil {
		return nil, err
	}
	start := shim.Start{Config: *config, Bundle: bundle, Root: true}
	files := []*os.File{run, s.root}
	for destination, tree := range s.trees {
		defer tree.Close()
		start.Trees, files = append(start.Trees, destination), append(files, tree)
	}
	var a *Attachment
	if streams != nil {
		if a, err = newAttachment(s.e, s.record, streams); err != nil {
			return nil, err
		}
		start.Attach = a.attach
		files = append(files, a.far...)
	}
	err = s.launch(conn, start, files)
	if a != nil {
		a.closeFar()
	}
	if err != nil {
		if a != nil {
			a.close()
		}
		return nil, err
	}
	if a == nil {
		s.e.leave(child)
		return nil, conn.Close()
	}
	a.conn, a.child = conn, child
	a.begin()
	return a, nil
}

// startShim gives a shim's process, which waits for what to start: the one that was started
// ahead, or else a new one.
func (e *Engine) startShim() (*os.Process, *shim.Conn, error) {
	if ahead := e.ahead.Swap(nil); ahead != nil {
		a := <-*ahead
		return a.child, a.conn, a.err
	}
	return e.newShim()
}

// aheadShim is a shim that was started ahead.
type aheadShim struct {
	child *os.Process
	conn  *shim.Conn
	err   error
}

// startAhead starts a shim for a container that is only being created: its process takes some
// time to come up, on another processor.
func (e *Engine) startAhead() {
	started := make(chan aheadShim, 1)
	if !e.ahead.CompareAndSwap(nil, &started) {
		return
	}
	go func() {
		child, conn, err := e.newShim()
		started <- aheadShim{child, conn, err}
	}()
}

// endAhead ends the shim that was started ahead, if nobody has taken it.
func (e *Engine) endAhead() {
	if child, conn, err := e.takeAhead(); err == nil && child != nil {
		_ = conn.Close() // which is its end
		_, _ = child.Wait()
	}
}

func (e *Engine) takeAhead() (*os.Process, *shim.Conn, error) {
	if e.ahead.Load() == nil {
		return nil, nil, nil
	}
	return e.startShim()
}

// newShim starts a shim's process.
func (e *Engine) newShim() (*os.Process, *shim.Conn, error) {
	path, err := e.runtimePath()
	if err != nil {
		return nil, nil, err
	}
	program, err := oci.ProtectedFile(path)
	if err != nil {
		return nil, nil, err
	}
	defer program.Close()
	conn, theirs, err := shim.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	// Not /proc/self, which is the child's: there, its own descriptors have taken the numbers 0 to 3.
	child, err := os.StartProcess(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program.Fd()),
		[]string{"minirunc", "shim"}, &os.ProcAttr{
			Dir: "/", Env: shimEnvironment(), Files: []*os.File{null, null, null, theirs},
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("start the shim: %w", err)
	}
	return child, conn, nil
}

// shimEnvironment is that of processes that stay: nothing of the caller's, but what says that they
// are in an ordinary user's place.
func shimEnvironment() []string {
	if rootless.Dir() == "" {
		return []string{}
	}
	return rootless.Environment()
}

// launch tells the shim what to start, does the engine's part in between, and waits until it
// runs.
func (s *starting) launch(conn *shim.Conn, start shim.Start, files []*os.File) error {
	if err := conn.Send(start, files...); err != nil {
		return fmt.Errorf("tell the shim what to start: %w", err)
	}
	for {
		var reply shim.Reply
		if _, err := conn.Receive(&reply); err != nil {
			return fmt.Errorf("the shim has ended without a word: %w", err)
		}
		switch reply.Is {
		case shim.Prepare:
			answer := shim.Reply{Is: shim.Go}
			if err := s.attachNetworks(reply.Pid); err != nil {
				answer = shim.Reply{Is: shim.Failed, Error: err.Error()}
			}
			if err := conn.Send(answer); err != nil {
				return err
			}
		case shim.Started:
			return nil
		case shim.Failed:
			return &StartError{reply.Status, errors.New(reply.Error)}
		default:
			return fmt.Errorf("the shim says %q", reply.Is)
		}
	}
}

// mountRoot mounts the container's layer, for nobody to see yet.
func (s *starting) mountRoot() error {
	mounts, err := s.e.layers.Mounts(s.ID, storage.MountOptions{Volatile: s.HostConfig.AutoRemove})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, func() { _ = s.e.layers.Release(s.ID) })
	if len(mounts) != 1 {
		return fmt.Errorf("storage driver %s wants %d mounts", s.e.layers.Name(), len(mounts))
	}
	if s.root, err = fsmount.New(mounts[0].Type, mounts[0].Source, mounts[0].Options); err != nil {
		return err
	}
	// From now on the mount alone holds what is behind it, so it goes with the container.
	if err := s.e.layers.Release(s.ID); err != nil {
		return err
	}
	return os.MkdirAll(s.rootDir(), 0o755)
}

// rootDir is a folder for the root to be mounted at, in the container's mount namespace only.
func (s *starting) rootDir() string { return filepath.Join(s.e.o.Run, "rootfs") }

// shimConfig is what the shim is to know.
func (s *starting) shimConfig() (*shim.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	host, config := s.HostConfig, s.Config
	c := &shim.Config{
		ID: s.ID, Name: s.Name, Image: config.Image, Dir: s.dir(), Run: s.runDir(),
		Runtime: s.e.runtime().Root, Rootless: rootless.Dir(), Engine: self,
		EngineArgs: []string{"--root", s.e.o.Root, "--run", s.e.o.Run},
		Events:     s.e.eventsPath(), Labels: config.Labels,
		OpenStdin: config.OpenStdin, StdinOnce: config.StdinOnce, Terminal: config.Tty,
		Rows: uint16(host.ConsoleSize[0]), Columns: uint16(host.ConsoleSize[1]),
		LogDriver: host.LogConfig.Type,
		Restart:   string(host.RestartPolicy.Name), MaxRetries: host.RestartPolicy.MaximumRetryCount,
		Retries: s.retries, AutoRemove: host.AutoRemove, DNS: s.dns,
	}
	if s.e.o.Driver != "" {
		c.EngineArgs = append(c.EngineArgs, "--storage-driver", s.e.o.Driver)
	}
	if host.LogConfig.Type == "local" { // whose files are nobody's business: they are the same here
		c.LogMaxSize, c.LogMaxFiles = 20e6, 5
	}
	if size := host.LogConfig.Config["max-size"]; size != "" {
		if c.LogMaxSize, err = units.FromHumanSize(size); err != nil {
			return nil, failed(Invalid, "log opt max-size=%s: %w", size, err)
		}
	}
	if files := host.LogConfig.Config["max-file"]; files != "" {
		if c.LogMaxFiles, err = strconv.Atoi(files); err != nil {
			return nil, failed(Invalid, "log opt max-file=%s: %w", files, err)
		}
	}
	c.Health = healthCheck(s.record)
	return c, nil
}

// What Docker takes where a health check does not say.
const (
	healthInterval = 30 * time.Second
	healthTimeout  = 30 * time.Second
	healthRetries  = 3
)

func healthCheck(r *record) *shim.HealthCheck {
	h := r.Config.Healthcheck
	if h == nil || len(h.Test) < 2 || h.Test[0] == "NONE" {
		return nil
	}
	c := &shim.HealthCheck{
		Args: h.Test[1:], Interval: healthInterval, Timeout: healthTimeout, Retries: healthRetries,
		StartPeriod: h.StartPeriod, StartInterval: 5 * time.Second,
	}
	if h.Test[0] == "CMD-SHELL" {
		shell := r.Config.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		c.Args = append(append([]string{}, shell...), h.Test[1])
	}
	if h.Interval > 0 {
		c.Interval = h.Interval
	}
	if h.Timeout > 0 {
		c.Timeout = h.Timeout
	}
	if h.Retries > 0 {
		c.Retries = h.Retries
	}
	if h.StartInterval > 0 {
		c.StartInterval = h.StartInterval
	}
	return c
}

// Restarted is what a shim asks for that has waited for a container to be started again: it hands
// over the lock of the run folder.
func (e *Engine) Restarted(id string, run *os.File) error {
	if err := e.open(); err != nil {
		return err
	}
	if id == "" || len(id) != 64 {
		return failed(Invalid, "which container?")
	}
	folder, err := lockFolder(e.dir(id))
	if err != nil {
		return err
	}
	defer folder.Close()
	r, err := e.read(id)
	if err != nil {
		return err
	}
	l := &locked{r, e, folder}
	state, err := shim.ReadState(e.dir(id))
	if err != nil {
		return err
	}
	if err := e.letGo(l); err != nil {
		return err
	}
	if state.Stopped || state.Status != "restarting" {
		return nil
	}
	count := state.RestartCount + 1
	_, err = e.startLocked(l, run, count, nil)
	if err != nil {
		_ = (&shim.State{Status: "exited", ExitCode: 125, Error: err.Error(),
			RestartCount: count, StartedAt: state.StartedAt, FinishedAt: time.Now().UTC(),
		}).Write(l.dir())
	}
	return err
}

// settle puts in order what a shim, or whoever had to do the engine's part after it, has left.
func (l *locked) settle() error {
	state, err := shim.ReadState(l.dir())
	if err != nil {
		return nil //nolint:nilerr // it has never run, and the state says so elsewhere
	}
	marked := exists(l.endingPath())
	runs := state.Status == "running" || state.Status == "restarting"
	if !marked && !runs || shim.Alive(l.runDir()) {
		return nil
	}
	if runs {
		if err := l.e.runtime().Delete(l.ID, true); err != nil {
			return err
		}
		// Not before it is dead: and it may have ended, with a word, in between.
		if state, err = l.e.state(l.ID); err != nil {
			return err
		}
		if err := state.Write(l.dir()); err != nil {
			return err
		}
	}
	if err := l.e.ended(l); err != nil || !l.HostConfig.AutoRemove {
		return err
	}
	if err := l.e.remove(l, true); err != nil {
		return err
	}
	return noContainer(l.ID)
}

func (l *locked) endingPath() string { return filepath.Join(l.e.o.Run, "ending", l.ID) }

// ended does the engine's part when a container has ended and its shim is gone: the network, the
// storage, the run folder. It may be done again and again.
func (e *Engine) ended(l *locked) error {
	if err := e.letGo(l); err != nil {
		return err
	}
	for _, name := range []string{shim.Socket, shim.LockFile} {
		if err := os.Remove(filepath.Join(l.runDir(), name)); err != nil &&
			!errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(l.runDir()); err != nil && !errors.Is(err, os.ErrNotExist) &&
		!errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	if err := os.Remove(l.endingPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// letGo gives back what a container has while it runs.
func (e *Engine) letGo(l *locked) error {
	err := errors.Join(e.networks.Retire(l.ID), e.layers.Release(l.ID), e.unforward(l.ID))
	if err == nil && (len(l.HostConfig.PortBindings) > 0 || l.HostConfig.PublishAllPorts) {
		err = e.collectLater()
	}
	return err
}

// collectLater lets a process of its own remove the rules of ports that are published no more:
// whoever does that waits 20 ms for the kernel at its end. See package network, Collect.
func (e *Engine) collectLater() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := os.StartProcess(self,
		[]string{self, "--root", e.o.Root, "--run", e.o.Run, "shim-collect", "all"},
		&os.ProcAttr{Dir: "/", Env: shimEnvironment(), Files: []*os.File{null, null, null},
			Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return err
	}
	go func() { _, _ = p.Wait() }() // for who stays: a daemon would keep a zombie for each
	return nil
}

// Collect is what that process does.
func (e *Engine) Collect() error {
	if err := e.open(); err != nil {
		return err
	}
	return e.networks.Collect()
}

// Ended is what a shim asks for whose container has ended, if nobody else is there to do the
// engine's part: that, and to remove the container if it is to be removed.
func (e *Engine) Ended(id string) error {
	if err := e.open(); err != nil {
		return err
	}
	l, err := e.lock(id)
	if Code(err) == NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.unlock()
	state, err := e.state(id)
	if err != nil {
		return err
	}
	if state.Status == "running" { // started again meanwhile
		return nil
	}
	return e.ended(l) // where lock has not
}

// Sweep does what is left to do for containers that have ended while nobody was there.
func (e *Engine) Sweep() error {
	if err := e.open(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(e.o.Run, "ending"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all error
	for _, entry := range entries {
		if shim.Alive(e.runDir(entry.Name())) {
			continue // its shim is at it
		}
		if !exists(e.dir(entry.Name())) {
			_ = os.Remove(filepath.Join(e.o.Run, "ending", entry.Name()))
			continue
		}
		all = errors.Join(all, e.Ended(entry.Name()))
	}
	return all
}
