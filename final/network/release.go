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
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minidocker/final/network/netns"
)

// Release gives back all that the container has: rules, addresses, ports, names, records. Its
// links go with its namespace. It is no error if it has nothing. Where there were ports, the
// process that does this will take 20 ms longer to exit, see Collect: who cannot wait, calls
// Retire.
func (s *Store) Release(container string) error {
	published, err := s.retire(container)
	if err != nil || !published {
		return err
	}
	return s.collect(0)
}

// Retire is the part of Release that is quick: the container's names are gone, and all that it had
// may be taken by others; it can be attached anew itself. If it had ports, their rules are there
// until somebody calls Collect.
func (s *Store) Retire(container string) error {
	_, err := s.retire(container)
	return err
}

// Collect removes what retired containers left. Call it where nobody waits, as at the end of a
// shim: when a process that has deleted rules closes its connection to nftables, or exits, the
// kernel waits 20 ms (for all processors to have looked elsewhere), and lets nobody else change
// rules meanwhile. So what many ask for at the same time, one does for all, each 50 ms.
func (s *Store) Collect() error { return s.collect(50 * time.Millisecond) }

// retire releases a container's endpoints if they have no ports. Else it is for collect to do so.
func (s *Store) retire(container string) (published bool, err error) {
	if _, err := os.Lstat(s.containerDir(container)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	lock, err := s.lock()
	if err != nil {
		return false, err
	}
	defer lock.Close()
	endpoints, err := s.of(container)
	if err != nil {
		return false, err
	}
	for _, e := range endpoints {
		published = published || len(e.Ports) > 0
	}
	if !published {
		return false, s.releaseAll(container)
	}
	for _, e := range endpoints {
		if err := s.unname(e); err != nil {
			return false, err
		}
	}
	if err := mkdirs(s.retiredFile("")); err != nil {
		return false, err
	}
	if err := os.Symlink(container, s.retiredFile(container)); !errors.Is(err, fs.ErrExist) {
		return true, err
	}
	return true, nil
}

// collect is Collect, with that long between two transactions.
func (s *Store) collect(pause time.Duration) error {
	if left, err := readNames(s.retiredFile("")); err != nil || len(left) == 0 {
		return err
	}
	for {
		turn, err := s.lockFile("collect", unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil // whoever has it looks again when he has let go
		}
		if err != nil {
			return err
		}
		some := true
		for some && err == nil {
			if some, err = s.collectOnce(); some {
				time.Sleep(pause)
			}
		}
		turn.Close()
		left, listErr := readNames(s.retiredFile(""))
		if err = errors.Join(err, listErr); err != nil || len(left) == 0 {
			return err
		}
	}
}

// collectOnce says whether there was something.
func (s *Store) collectOnce() (bool, error) {
	lock, err := s.lock()
	if err != nil {
		return false, err
	}
	defer lock.Close()
	containers, err := readNames(s.retiredFile(""))
	if err != nil || len(containers) == 0 {
		return false, err
	}
	return true, s.releaseAll(containers...)
}

func (s *Store) retiredFile(container string) string {
	return filepath.Join(s.run, "retired", container)
}

// retired says whether what the container has is to be released.
func (s *Store) retired(container string) bool {
	_, err := os.Lstat(s.retiredFile(container))
	return err == nil
}

// releaseAll releases all that the containers have. The records are locked.
func (s *Store) releaseAll(containers ...string) error {
	var all []*Endpoint
	for _, c := range containers {
		endpoints, err := s.of(c)
		if err != nil {
			return err
		}
		all = append(all, endpoints...)
	}
	if err := s.release(all...); err != nil {
		return err
	}
	for _, c := range containers {
		// What is there still was on its way to be a record.
		if err := os.RemoveAll(s.containerDir(c)); err != nil {
			return err
		}
		if err := removeIfThere(s.retiredFile(c)); err != nil {
			return err
		}
	}
	return nil
}

// release removes rules, claims and records, in this order: what is not undone when the process is
// killed is still on record. The records are locked.
func (s *Store) release(endpoints ...*Endpoint) error {
	if err := s.unpublish(endpoints); err != nil {
		return err
	}
	for _, e := range endpoints {
		if err := s.unclaim(s.claims(e)); err != nil {
			return err
		}
		if err := removeIfThere(s.endpointFile(e.Container, e.Network)); err != nil {
			return err
		}
	}
	return nil
}

// unclaim removes claims, and the folders of names and ports that are empty then.
func (s *Store) unclaim(claims map[string]string) error {
	for path, target := range claims {
		// Another's, if the record was lost and made anew.
		if now, err := os.Readlink(path); err != nil || now != target {
			continue
		}
		if err := removeIfThere(path); err != nil {
			return err
		}
		if parent := filepath.Dir(path); filepath.Base(parent) != "addresses" {
			_ = os.Remove(parent) // an error means that it is not empty
		}
	}
	return nil
}

// unname removes e's names alone.
func (s *Store) unname(e *Endpoint) error {
	nameless := *e
	nameless.Names, nameless.Aliases = nil, nil
	claims := s.claims(e)
	for path := range s.claims(&nameless) {
		delete(claims, path)
	}
	return s.unclaim(claims)
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
		if errors.Is(err, fs.ErrNotExist) || s.retired(container) {
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
	if s.retired(container) {
		return nil, nil
	}
	return s.of(container)
}

// of is Of, also for a container that is retired.
func (s *Store) of(container string) ([]*Endpoint, error) {
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
		endpoints, err := s.of(c)
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
		if s.alive(c) && !s.retired(c) {
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
	endpoints, err := s.of(container)
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
		return fmt.Errorf("%s %w", n.Name, ErrPredefined)
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
