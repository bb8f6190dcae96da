//go:build linux

package network

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minidocker/final/network/netns"
)

// Release gives back all that the container has: rules, addresses, ports, names, records. Its
// links go with its namespace. It is no error if it has nothing.
func (s *Store) Release(container string) error {
	if _, err := os.Lstat(s.containerDir(container)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return s.releaseAll(container)
}

// releaseAll is Release while the records are locked.
func (s *Store) releaseAll(container string) error {
	endpoints, err := s.Of(container)
	if err != nil {
		return err
	}
	if err := s.release(endpoints...); err != nil {
		return err
	}
	// What is there still was on its way to be a record.
	return os.RemoveAll(s.containerDir(container))
}

// release removes rules, claims and records, in this order: what is not undone when the process is
// killed is still on record. The records are locked.
func (s *Store) release(endpoints ...*Endpoint) error {
	if err := s.unpublish(endpoints); err != nil {
		return err
	}
	for _, e := range endpoints {
		for path, target := range s.claims(e) {
			// Another's, if the record was lost and made anew.
			if now, err := os.Readlink(path); err != nil || now != target {
				continue
			}
			if err := removeIfThere(path); err != nil {
				return err
			}
			// The folder, if it was the last; those of addresses are used again at once.
			if parent := filepath.Dir(path); parent != s.addressDir(e.Network) {
				_ = os.Remove(parent) // an error means that it was not
			}
		}
		if err := removeIfThere(s.endpointFile(e.Container, e.Network)); err != nil {
			return err
		}
	}
	return nil
}

// unpublish deletes the elements of the endpoints' ports.
func (s *Store) unpublish(endpoints []*Endpoint) error {
	changed, err := s.changePorts(endpoints, (*nftables.Conn).SetDeleteElements)
	if errors.Is(err, unix.ENOENT) {
		// One of them is not there, so none was deleted: each by itself.
		err = nil
		for _, e := range endpoints {
			for _, p := range e.Ports {
				one := &Endpoint{IPv4: e.IPv4, IPv6: e.IPv6, Ports: []Port{p}}
				_, problem := s.changePorts([]*Endpoint{one}, (*nftables.Conn).SetDeleteElements)
				if problem != nil && !errors.Is(problem, unix.ENOENT) {
					err = errors.Join(err, problem)
				}
			}
		}
	}
	if err != nil {
		return fmt.Errorf("unpublish ports: %w", err)
	}
	if changed {
		return forgetFlows(endpoints)
	}
	return nil
}

// Disconnect takes a running container from one network: link, rules, and record. If its default
// route went there, it goes through another of its networks from then on. ErrNoEndpoint.
func (s *Store) Disconnect(ns *os.File, network, container string) error {
	n, err := s.Network(network)
	if err != nil {
		return err
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	e := &Endpoint{}
	err = readRecord(s.endpointFile(container, n.ID), e)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %.12s, %s", ErrNoEndpoint, container, n.Name)
	}
	if err != nil {
		return err
	}
	if err := deleteLinks(ns, []*Endpoint{e}); err != nil {
		return err
	}
	if err := s.release(e); err != nil || !e.DefaultRoute {
		return err
	}
	others, err := s.Of(container)
	if err != nil {
		return err
	}
	for _, other := range others {
		if !other.Gateway4.IsValid() && !other.Gateway6.IsValid() {
			continue
		}
		other.DefaultRoute = true
		if err := reroute(ns, other); err != nil {
			return err
		}
		return writeRecord(s.endpointFile(container, other.Network), other, false)
	}
	return nil
}

// reroute sends what goes out of ns through e.
func reroute(ns *os.File, e *Endpoint) error {
	return netns.Do(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		link, err := h.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("link %s: %w", e.Interface, err)
		}
		return setDefaultRoute(h, link, e)
	})
}

// Endpoints returns those of a network, sorted by their containers' IDs; also void ones.
func (s *Store) Endpoints(network string) ([]*Endpoint, error) {
	n, err := s.Network(network)
	if err != nil {
		return nil, err
	}
	return s.endpointsOf(n)
}

func (s *Store) endpointsOf(n *Network) ([]*Endpoint, error) {
	addresses, err := readNames(s.addressDir(n.ID))
	if err != nil {
		return nil, err
	}
	containers := map[string]bool{}
	for _, a := range addresses {
		owner, err := os.Readlink(filepath.Join(s.addressDir(n.ID), a))
		if err == nil {
			containers[owner] = true
		}
	}
	var all []*Endpoint
	for container := range containers {
		e := &Endpoint{}
		err := readRecord(s.endpointFile(container, n.ID), e)
		if errors.Is(err, fs.ErrNotExist) {
			continue // released meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *Endpoint) int { return cmp.Compare(a.Container, b.Container) })
	return all, nil
}

// Of returns the endpoints of a container, sorted by the names of their interfaces.
func (s *Store) Of(container string) ([]*Endpoint, error) {
	names, err := readNames(s.containerDir(container))
	if err != nil {
		return nil, err
	}
	var all []*Endpoint
	for _, name := range names {
		network, ok := strings.CutSuffix(name, ".json")
		if !ok {
			continue
		}
		e := &Endpoint{}
		err := readRecord(s.endpointFile(container, network), e)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(len(a.Interface), len(b.Interface)),
			cmp.Compare(a.Interface, b.Interface))
	})
	return all, nil
}

// allEndpoints returns those of all containers.
func (s *Store) allEndpoints() ([]*Endpoint, error) {
	containers, err := readNames(filepath.Join(s.run, "endpoints"))
	if err != nil {
		return nil, err
	}
	var all []*Endpoint
	for _, c := range containers {
		endpoints, err := s.Of(c)
		if err != nil {
			return nil, err
		}
		all = append(all, endpoints...)
	}
	return all, nil
}

// Sweep removes what containers left that are not alive.
func (s *Store) Sweep() error {
	if _, err := os.Stat(s.run); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return s.sweep()
}

// sweep is Sweep while the records are locked.
func (s *Store) sweep() error {
	containers, err := readNames(filepath.Join(s.run, "endpoints"))
	if err != nil {
		return err
	}
	for _, c := range containers {
		if s.alive(c) {
			continue
		}
		if err := s.releaseVoid(c); err != nil {
			return err
		}
	}
	return nil
}

// releaseVoid is releaseAll for a container that is not alive. It deletes the host's ends of its
// links too: as a rule they went with its namespace, but something may keep that.
func (s *Store) releaseVoid(container string) error {
	endpoints, err := s.Of(container)
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	for _, e := range endpoints {
		if e.Link != "" {
			if err := deleteLink(h, e.Link); err != nil {
				return err
			}
		}
	}
	return s.releaseAll(container)
}

// Remove removes a network with its bridge and rules: ErrNotExist, ErrPredefined, or ErrInUse,
// which names the containers.
func (s *Store) Remove(ref string) error {
	n, err := s.Network(ref)
	if err != nil {
		return err
	}
	if slices.Contains([]string{Bridge, Host, None}, n.Name) {
		return fmt.Errorf("%w: %s", ErrPredefined, n.Name)
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.unused(n); err != nil {
		return err
	}
	// The record last: after a kill it can be removed again.
	if n.Driver == DriverBridge {
		if err := s.removeBridge(n); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(s.run, "networks", n.ID)); err != nil {
		return err
	}
	return removeIfThere(s.networkFile(n.ID))
}

// unused returns ErrInUse if containers are on the network that are alive, and removes what others
// left there.
func (s *Store) unused(n *Network) error {
	endpoints, err := s.endpointsOf(n)
	if err != nil {
		return err
	}
	var users []string
	for _, e := range endpoints {
		if s.alive(e.Container) {
			users = append(users, slices.Concat(e.Names, []string{e.Container})[0])
			continue
		}
		if err := s.releaseVoid(e.Container); err != nil {
			return err
		}
	}
	if len(users) > 0 {
		return fmt.Errorf("%w: network %s: disconnect or stop %s", ErrInUse, n.Name,
			strings.Join(users, ", "))
	}
	return nil
}

func (s *Store) removeBridge(n *Network) error {
	rules, err := s.lockFile("rules", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer rules.Close()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	_, err = h.LinkByName(n.bridge())
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil // never used: there are no rules either, or the next that is written has none
	}
	if err := s.writeRules(n.ID); err != nil {
		return err
	}
	if err := removeForward(n.bridge()); err != nil {
		return err
	}
	return deleteLink(h, n.bridge())
}
