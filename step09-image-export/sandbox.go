//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// sandbox is a container's network namespace, as docker's libnetwork calls it, and
// its endpoints: sandboxes/ID.json in the store, locked while the container runs.
type sandbox struct {
	ID        string
	Pid       int // init's
	Endpoints []endpoint
	lock      *os.File
	held      []io.Closer // published ports: see holdPort
}

// endpoint is a cable between a sandbox and a network.
type endpoint struct {
	Network   string
	Veth      string       // the end on the host, plugged into the bridge
	Interface string       // the end in the container
	Address   netip.Prefix // the container's
	Gateway   netip.Addr
	Ports     []port
}

// joinNetwork takes this thread into the network namespace of --network container:ID.
// The child that it starts afterwards is born there: setns(2).
func joinNetwork(cfg config) error {
	id, ok := strings.CutPrefix(cfg.Network, "container:")
	if !ok {
		return nil
	}
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	sb, err := findSandbox(id)
	if err != nil {
		return err
	}
	return sb.enter()
}

func (sb *sandbox) enter() error {
	path := fmt.Sprintf("/proc/%d/ns/net", sb.Pid)
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the network of container %s: %w", sb.ID, err)
	}
	defer ns.Close()
	logrus.Debugf("parent: setns %s", path)
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", path, err)
	}
	return nil
}

// newSandbox connects a new container, whose init waits for its configuration, to the
// network that cfg names.
func newSandbox(cfg config, pid int) (*sandbox, error) {
	sb := &sandbox{ID: cfg.ID, Pid: pid}
	if os.Geteuid() != 0 || !cfg.ownNetwork() {
		return sb, nil
	}
	lock, err := lockNetworks()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := writeJSON(sb.file(), sb); err != nil {
		return nil, err
	}
	if sb.lock, err = lockFolder(sb.file(), unix.LOCK_EX); err != nil {
		return nil, err
	}
	if cfg.bridged() {
		if err := sb.connect(cfg.Network, cfg.Ports); err != nil {
			return nil, errors.Join(err, sb.tearDown())
		}
	}
	return sb, nil
}

func (sb *sandbox) file() string { return filepath.Join(stateDir, "sandboxes", sb.ID+".json") }

// save writes the record into the same file, and not to a new one: the lock is on it. It
// is one write, with no truncation before it, so that a kill does not leave half of it.
func (sb *sandbox) save() error {
	data, err := json.Marshal(sb)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(sb.file(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Truncate(int64(len(data)))
}

// read reads the record. There may be the end of an older one behind it: see save.
func (sb *sandbox) read(data []byte) error {
	return json.NewDecoder(bytes.NewReader(data)).Decode(sb)
}

// connect makes an endpoint on the network, up to the host's end of the cable.
func (sb *sandbox) connect(name string, ports []port) error {
	n, err := findNetwork(name)
	if err != nil {
		return err
	}
	if err := n.makeBridge(); err != nil {
		return err
	}
	ep := endpoint{Network: name, Gateway: n.Gateway, Ports: ports}
	if ep.Address, err = n.freeAddress(); err != nil {
		return err
	}
	for i := 0; ep.Interface == "" || sb.has(ep); i++ {
		ep.Interface = fmt.Sprintf("eth%d", i)
		ep.Veth = fmt.Sprintf("veth%s-%d", sb.ID[:8], i) // at most 15 bytes
	}
	for _, p := range ports {
		listener, err := holdPort(p)
		if err != nil {
			return err
		}
		sb.held = append(sb.held, listener)
	}
	sb.Endpoints = append(sb.Endpoints, ep)
	if err := sb.save(); err != nil {
		return err
	}
	mac := hardwareAddress(ep.Address.Addr())
	if err := addVeth(ep.Veth, ep.Interface, mac, sb.Pid); err != nil {
		return err
	}
	if err := setMaster(ep.Veth, n.Bridge); err != nil {
		return err
	}
	if err := setHairpin(ep.Veth); err != nil {
		return err
	}
	if err := setUp(ep.Veth); err != nil {
		return err
	}
	return writeRules("")
}

// has says whether the name of the endpoint's interface is taken.
func (sb *sandbox) has(ep endpoint) bool {
	return slices.ContainsFunc(sb.Endpoints, func(other endpoint) bool {
		return other.Interface == ep.Interface
	})
}

// configureLinks is the container's side: "lo" and the near ends of the cables.
func configureLinks(endpoints []endpoint) error {
	if err := setUp("lo"); err != nil {
		return err
	}
	for _, ep := range endpoints {
		if err := addAddress(ep.Interface, ep.Address); err != nil {
			return err
		}
		if err := setUp(ep.Interface); err != nil {
			return err
		}
		if ep.Interface != "eth0" {
			continue
		}
		if err := addDefaultRoute(ep.Gateway); err != nil {
			return err
		}
	}
	return nil
}

// remove undoes newSandbox.
func (sb *sandbox) remove() error {
	if sb.lock == nil {
		return nil
	}
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	return sb.tearDown()
}

// tearDown removes the cables, the rules, the default network, if this was the last on
// it, and the record. The networks are locked.
func (sb *sandbox) tearDown() error {
	// "network connect" may have changed the record.
	data, err := os.ReadFile(sb.file())
	if err == nil {
		err = sb.read(data)
	}
	if err == nil {
		err = sb.disconnect("")
	}
	if err == nil {
		err = os.Remove(sb.file())
	}
	for _, listener := range sb.held {
		listener.Close()
	}
	sb.lock.Close()
	return err
}

// disconnect removes the endpoint on the network, or with no name all of them. Empty
// ones stay in the record: after a kill they say that there may be rules to remove.
func (sb *sandbox) disconnect(name string) error {
	for i, ep := range sb.Endpoints {
		if name != "" && ep.Network != name {
			continue
		}
		if err := deleteLink(ep.Veth); err != nil {
			return err
		}
		sb.Endpoints[i] = endpoint{}
	}
	if err := sb.save(); err != nil {
		return err
	}
	if err := removeUnusedDefault(); err != nil || len(sb.Endpoints) == 0 {
		return err
	}
	return writeRules("")
}

// readSandboxes returns the running containers' by ID. The networks are locked.
func readSandboxes() (map[string]*sandbox, error) {
	all := map[string]*sandbox{}
	return all, readRecords("sandboxes", func(data []byte) error {
		sb := &sandbox{}
		err := sb.read(data)
		all[sb.ID] = sb
		return err
	})
}

func findSandbox(prefix string) (*sandbox, error) {
	all, err := readSandboxes()
	if err != nil {
		return nil, err
	}
	id, err := matchID(slices.Collect(maps.Keys(all)), prefix)
	return all[id], err
}

// sweepNetworks removes what containers left whose minidocker was killed: their links
// went with their namespaces; records, rules and the default bridge did not.
func sweepNetworks() error {
	if _, err := os.Stat(stateDir); err != nil || os.Geteuid() != 0 {
		return nil // there is no store yet, or it is not ours
	}
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, folder := range []string{"networks", "sandboxes"} {
		left, err := filepath.Glob(filepath.Join(stateDir, folder, "*.new")) // see writeJSON
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	all, err := readSandboxes()
	if err != nil {
		return err
	}
	for _, sb := range all {
		sb.lock, err = lockFolder(sb.file(), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // it runs
		}
		logrus.Debugf("parent: sweep up the network of container %s", sb.ID)
		if err := errors.Join(err, sb.tearDown()); err != nil {
			return err
		}
	}
	return removeUnusedDefault()
}

// hostsAddress is the container's address for its own name in /etc/hosts.
func (cfg config) hostsAddress() string {
	if len(cfg.Endpoints) == 0 {
		return "127.0.1.1"
	}
	return cfg.Endpoints[0].Address.Addr().String()
}
