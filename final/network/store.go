//go:build linux

package network

import (
	"errors"
	"os"
)

// Store is the networks of a machine. Its methods can be called from several goroutines and
// processes.
type Store struct {
	dir, run string
	alive    func(container string) bool
}

// Open opens the store whose networks are recorded below dir, and what is in use below run, a
// folder that a reboot empties. alive says whether a container is in use: it starts, runs or
// stops. What others hold for one that is not may be taken at any moment, so a container must be
// alive before its first Reserve and until after Release. Open makes nothing.
func Open(dir, run string, alive func(container string) bool) (*Store, error) {
	return &Store{dir: dir, run: run, alive: alive}, nil
}

func todo(...any) error { return errors.New("not there yet") }

// Create makes a network and chooses what c leaves open: subnets from 172.17.0.0/16 to
// 172.31.0.0/16, then 192.168.0.0/20 and on; for IPv6 a random fd00::/8. Links and rules are made
// when the first container is attached. ErrExist, ErrOverlap, ErrInvalid.
func (s *Store) Create(c Config) (*Network, error) { return nil, todo(s, c) }

// Network finds a network by its name, its ID or the beginning of it that no other has;
// ErrNotExist.
func (s *Store) Network(ref string) (*Network, error) { return nil, todo(s, ref) }

// List returns all networks, sorted by their names.
func (s *Store) List() ([]*Network, error) { return nil, todo(s) }

// Remove removes a network with its bridge and rules: ErrNotExist, ErrPredefined, or ErrInUse,
// which names the containers.
func (s *Store) Remove(ref string) error { return todo(s, ref) }

// Reserve takes addresses and ports of the host for a container, and records them as its endpoint.
// It makes no links. Each of r's ports becomes one for each kind of address, so their order is kept
// and their number is not. ErrNotExist, ErrPort, ErrAddress, ErrConnected, ErrInvalid.
func (s *Store) Reserve(network string, r Request) (*Endpoint, error) {
	return nil, todo(s, network, r)
}

// Attach makes the links of endpoints of one container in its network namespace, and then the rules
// of their ports, in one transaction. After an error Release undoes what has been done.
func (s *Store) Attach(ns *os.File, endpoints ...*Endpoint) error { return todo(s, ns, endpoints) }

// Release gives back all that the container has: rules, addresses, ports, names, records. Its
// links go with its namespace. It is no error if it has nothing.
func (s *Store) Release(container string) error { return todo(s, container) }

// Disconnect takes a running container from one network: link, rules, and record. If its default
// route went there, it goes through another of its networks from then on. ErrNoEndpoint.
func (s *Store) Disconnect(ns *os.File, network, container string) error {
	return todo(s, ns, network, container)
}

// Endpoints returns those of a network, sorted by their containers' IDs; also void ones.
func (s *Store) Endpoints(network string) ([]*Endpoint, error) { return nil, todo(s, network) }

// Of returns the endpoints of a container, sorted by the names of their interfaces.
func (s *Store) Of(container string) ([]*Endpoint, error) { return nil, todo(s, container) }

// Sweep removes what containers left that are not alive.
func (s *Store) Sweep() error { return todo(s) }

// Loopback sets lo up in the network namespace: 127.0.0.1 and ::1.
func Loopback(ns *os.File) error { return todo(ns) }

// ResolvConf makes a container's /etc/resolv.conf of the host's. dns, search and options are the
// user's, and replace the host's if there are any. On a network that a user made (user) the one
// server is 127.0.0.11, and the true ones, which that asks, are upstream; else they are in the
// file. A server at a loopback address of the host, as systemd-resolved's 127.0.0.53, can only be
// asked from the host's namespace: in the file, those that systemd-resolved itself asks replace it.
func ResolvConf(host []byte, user bool, dns, search, options []string) (
	conf []byte, upstream []string,
) {
	_ = todo(host, user, dns, search, options)
	return nil, nil
}
