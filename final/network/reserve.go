//go:build linux

package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Reserve takes addresses and ports of the host for a container, and records them as its endpoint.
// It makes no links. Each of r's ports becomes one for each kind of address, so their order is
// kept and their number is not. ErrNotExist, ErrPort, ErrAddress, ErrConnected, ErrInvalid.
func (s *Store) Reserve(network string, r Request) (*Endpoint, error) {
	n, err := s.Network(network)
	if err != nil {
		return nil, err
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if n, err = s.Network(n.ID); err != nil { // removed meanwhile
		return nil, err
	}
	if err := r.check(n); err != nil {
		return nil, err
	}
	if s.retired(r.Container) { // of its last run
		if err := s.releaseAll(r.Container); err != nil {
			return nil, err
		}
	}
	e := &Endpoint{
		ID: randomID(), Network: n.ID, NetworkName: n.Name, Driver: n.Driver,
		Container: r.Container, Names: r.Names, Aliases: r.Aliases, Links: r.Links, MAC: r.MAC,
		DefaultRoute: r.DefaultRoute, Options: r.Options, Sysctls: r.Sysctls,
	}
	if n.Driver == DriverBridge {
		e.Link = "veth" + e.ID[:8]
	}
	if e.Interface, err = s.chooseInterface(n, r); err != nil {
		return nil, err
	}
	if err := s.chooseAddresses(n, r, e); err != nil {
		return nil, err
	}
	if e.Ports, err = s.choosePorts(n, r, e); err != nil {
		return nil, err
	}
	// The record first: whoever finds the rest without its owner being alive knows what to undo.
	if err := mkdirs(s.containerDir(e.Container)); err != nil {
		return nil, err
	}
	if err := writeRecord(s.endpointFile(e.Container, e.Network), e, false); err != nil {
		return nil, err
	}
	if err := s.claim(e); err != nil {
		return nil, errors.Join(err, s.release(e))
	}
	return e, nil
}

func (r *Request) check(n *Network) error {
	if n.Name == Host || n.Name == None {
		return fmt.Errorf("%w: network %s takes no endpoints", ErrInvalid, n.Name)
	}
	if !validName(r.Container) {
		return fmt.Errorf("%w: container %q", ErrInvalid, r.Container)
	}
	for _, name := range slices.Concat(r.Names, r.Aliases) {
		if strings.Trim(name, ".") == "" || strings.ContainsAny(name, "/\x00") || len(name) > 253 {
			return fmt.Errorf("%w: %q cannot be a host's name", ErrInvalid, name)
		}
	}
	if _, err := net.ParseMAC(r.MAC); err != nil && r.MAC != "" {
		return fmt.Errorf("%w: MAC address %q: want one as 02:42:ac:11:00:02", ErrInvalid, r.MAC)
	}
	if len(r.Interface) > 15 || strings.ContainsAny(r.Interface, "/: ") {
		return fmt.Errorf("%w: interface %q: want at most 15 letters and digits", ErrInvalid, r.Interface)
	}
	for key := range r.Sysctls {
		if !strings.HasPrefix(key, "net.") || strings.Contains(key, "/") {
			return fmt.Errorf("%w: sysctl %q: want net.…", ErrInvalid, key)
		}
	}
	return nil
}

// chooseInterface returns the name that r wants, or the first of eth0, eth1 … that is free.
func (s *Store) chooseInterface(n *Network, r Request) (string, error) {
	others, err := s.Of(r.Container)
	if err != nil {
		return "", err
	}
	taken := map[string]bool{}
	for _, other := range others {
		if other.Network == n.ID {
			return "", fmt.Errorf("%w %s", ErrConnected, n.Name)
		}
		taken[other.Interface] = true
	}
	if taken[r.Interface] {
		return "", fmt.Errorf("%w: the container has an interface %s", ErrInvalid, r.Interface)
	}
	name := r.Interface
	for i := 0; name == "" || taken[name]; i++ {
		name = fmt.Sprintf("eth%d", i)
	}
	return name, nil
}

func (s *Store) chooseAddresses(n *Network, r Request, e *Endpoint) error {
	for _, kind := range []struct {
		is4     bool
		wish    netip.Addr
		address *netip.Prefix
		gateway *netip.Addr
	}{
		{true, r.IPv4, &e.IPv4, &e.Gateway4},
		{false, r.IPv6, &e.IPv6, &e.Gateway6},
	} {
		sub := n.subnet(kind.is4)
		if sub == nil && kind.wish.IsValid() {
			return fmt.Errorf("%w: %s: network %s has no subnet of that kind", ErrInvalid,
				kind.wish, n.Name)
		}
		if sub == nil {
			continue
		}
		a, err := s.chooseAddress(n, sub, kind.wish)
		if err != nil {
			return err
		}
		*kind.address = netip.PrefixFrom(a, sub.Subnet.Bits())
		if !n.Internal {
			*kind.gateway = sub.Gateway
		}
	}
	switch {
	case e.MAC != "":
	case n.Driver != "bridge":
		e.MAC = randomAddress().String()
	case e.IPv4.IsValid():
		e.MAC = hardwareAddress(e.IPv4.Addr()).String()
	default:
		e.MAC = hardwareAddress(e.IPv6.Addr()).String()
	}
	return nil
}

// randomAddress is for links beside others on one parent, each of which must differ: the last
// container with this IP address may have its link until the kernel has its namespace cleared.
func randomAddress() net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	rand.Read(mac[2:]) // never fails
	return mac
}

// hardwareAddress follows from the IP address: when another container gets this one, no neighbour
// has a wrong one in mind.
func hardwareAddress(ip netip.Addr) net.HardwareAddr {
	b := ip.AsSlice()
	return append(net.HardwareAddr{0x02, 0x42}, b[len(b)-4:]...)
}

// chooseAddress returns the wish if it is free, or else the lowest that is.
func (s *Store) chooseAddress(n *Network, sub *Subnet, wish netip.Addr) (netip.Addr, error) {
	if wish.IsValid() {
		if !sub.Subnet.Contains(wish) || !sub.free(wish) {
			return wish, fmt.Errorf("%w: %s is no container's address in %s", ErrAddress,
				wish, sub.Subnet)
		}
		owner, err := s.owner(filepath.Join(s.addressDir(n.ID), wish.String()))
		if err == nil && owner != "" {
			err = fmt.Errorf("%w: container %.12s has %s", ErrAddress, owner, wish)
		}
		return wish, err
	}
	for _, sweep := range []bool{false, true} {
		if sweep {
			if err := s.sweep(); err != nil {
				return wish, err
			}
		}
		names, err := readNames(s.addressDir(n.ID))
		if err != nil {
			return wish, err
		}
		taken := make(map[string]bool, len(names))
		for _, name := range names {
			taken[name] = true
		}
		within := sub.Subnet
		if sub.IPRange.IsValid() {
			within = sub.IPRange
		}
		for a := within.Addr(); within.Contains(a); a = a.Next() {
			if sub.free(a) && !taken[a.String()] {
				return a, nil
			}
		}
	}
	return wish, fmt.Errorf("%w: network %s has no address left in %s", ErrAddress, n.Name, sub.Subnet)
}

// free says whether containers may have the address: it is not the subnet's own, nor broadcast,
// the gateway or set aside.
func (sub *Subnet) free(a netip.Addr) bool {
	for _, aux := range sub.Aux {
		if a == aux {
			return false
		}
	}
	return a != sub.Gateway && a != sub.Subnet.Addr() && (a.Is6() || a != lastAddress(sub.Subnet))
}

// owner returns whose the claim at path is: "" if it is nobody's, and if its container is not
// alive; then all that it left is removed.
func (s *Store) owner(path string) (string, error) {
	owner, err := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil || (s.alive(owner) && !s.retired(owner)) {
		return owner, err
	}
	if err := s.releaseVoid(owner); err != nil {
		return "", err
	}
	return "", removeIfThere(path) // its record may have been lost
}

// Rename gives a running container another name, by which its neighbours find it from then on.
func (s *Store) Rename(container, name string) error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if s.retired(container) {
		return nil
	}
	endpoints, err := s.of(container)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		renamed := *e
		renamed.Names = append([]string{name}, e.Names[min(1, len(e.Names)):]...)
		// First what is new: whoever is killed in between leaves one name too many, of its own.
		if err := writeRecord(s.endpointFile(container, e.Network), &renamed, false); err != nil {
			return err
		}
		if err := s.claim(&renamed); err != nil {
			return err
		}
		old := s.claims(e)
		for path := range s.claims(&renamed) {
			delete(old, path)
		}
		if err := s.unclaim(old); err != nil {
			return err
		}
	}
	return nil
}

// claim puts up the signs that e's addresses, names and ports are taken. On a machine that has
// lost its record one may be there: it is replaced.
func (s *Store) claim(e *Endpoint) error {
	for path, target := range s.claims(e) {
		err := os.Symlink(target, path)
		if errors.Is(err, fs.ErrNotExist) {
			if err := mkdirs(filepath.Dir(path)); err != nil {
				return err
			}
			err = os.Symlink(target, path)
		}
		if errors.Is(err, fs.ErrExist) {
			err = errors.Join(os.Remove(path), os.Symlink(target, path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// claims are the symbolic links that say what e holds, and what they point to.
func (s *Store) claims(e *Endpoint) map[string]string {
	claims := map[string]string{}
	var addresses []string
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if p.IsValid() {
			a := p.Addr().String()
			addresses = append(addresses, a)
			claims[filepath.Join(s.addressDir(e.Network), a)] = e.Container
		}
	}
	for _, name := range slices.Concat(e.Names, e.Aliases) {
		claims[filepath.Join(s.nameDir(e.Network, name), e.Container)] = strings.Join(addresses, ",")
	}
	for _, p := range e.Ports {
		claims[filepath.Join(s.portDir(p), p.HostIP.String())] = e.Container
	}
	return claims
}
