//go:build linux

package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The ports from which one is chosen where the user names none: the kernel's own for clients, see
// ip_local_port_range in ip(7).
const firstPort, lastPort = 32768, 60999

// choosePorts finds ports of the host for those that r wishes, and returns them with the
// addresses that they are published at. A macvlan's container is reached directly.
func (s *Store) choosePorts(n *Network, r Request, e *Endpoint) ([]Port, error) {
	if n.Driver != DriverBridge || n.Internal {
		return nil, nil
	}
	var chosen []Port
	for _, wish := range r.Ports {
		if wish.Proto == "" {
			wish.Proto = "tcp"
		}
		if protocols[wish.Proto] == 0 || wish.ContainerPort == 0 {
			return nil, fmt.Errorf("%w: port %d/%s", ErrInvalid, wish.ContainerPort, wish.Proto)
		}
		addresses, err := n.hostAddresses(wish.HostIP, e)
		if err != nil {
			return nil, err
		}
		ports, err := s.choosePort(wish, addresses, chosen)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, ports...)
	}
	return chosen, nil
}

// hostAddresses are those at which a port is published for which the user named ip: of the kinds
// that the container has.
func (n *Network) hostAddresses(ip netip.Addr, e *Endpoint) ([]netip.Addr, error) {
	var addresses []netip.Addr
	if !ip.IsValid() {
		if e.IPv4.IsValid() {
			binding, err := netip.ParseAddr(n.Options[OptionHostBinding])
			if err != nil {
				binding = netip.IPv4Unspecified()
			}
			addresses = append(addresses, binding)
		}
		if e.IPv6.IsValid() {
			addresses = append(addresses, netip.IPv6Unspecified())
		}
		return addresses, nil
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() && !e.IPv4.IsValid() || ip.Is6() && !e.IPv6.IsValid() {
		return nil, fmt.Errorf("%w: publish at %s: the container has no address of that kind",
			ErrInvalid, ip)
	}
	if ip == netip.IPv6Loopback() {
		return nil, fmt.Errorf("%w: publish at ::1: the kernel forwards nothing from there; use "+
			"127.0.0.1", ErrInvalid)
	}
	return []netip.Addr{ip}, nil
}

// choosePort finds a port that is free at all the addresses. others are chosen already.
func (s *Store) choosePort(wish Port, addresses []netip.Addr, others []Port) ([]Port, error) {
	first, last, start := int(wish.HostPort), int(wish.HostPort), 0
	switch {
	case wish.HostPort == 0:
		// Anywhere, and not the lowest: one that was just given back has clients who think
		// that they know who is there.
		first, last = firstPort, lastPort
		start = rand.IntN(last - first + 1)
	case wish.HostPortEnd != 0:
		last = int(wish.HostPortEnd)
	}
	var problem error
	for i := range last - first + 1 {
		port := first + (start+i)%(last-first+1)
		ports := make([]Port, 0, len(addresses))
		for _, a := range addresses {
			p := Port{
				HostIP: a, HostPort: uint16(port), ContainerPort: wish.ContainerPort, Proto: wish.Proto,
			}
			if problem = s.checkPort(p, others); problem != nil {
				break
			}
			ports = append(ports, p)
		}
		if problem == nil {
			return ports, nil
		}
		if !errors.Is(problem, ErrPort) {
			break
		}
	}
	if problem == nil {
		problem = fmt.Errorf("%w: ports %d-%d", ErrInvalid, first, last)
	}
	return nil, problem
}

// checkPort says whether the port is free: of containers, and of other programs.
func (s *Store) checkPort(p Port, others []Port) error {
	taken := fmt.Errorf("publish %s/%s: %w",
		netip.AddrPortFrom(p.HostIP, p.HostPort), p.Proto, ErrPort)
	for _, other := range others {
		if other.Proto == p.Proto && other.HostPort == p.HostPort && collide(other.HostIP, p.HostIP) {
			return taken
		}
	}
	names, err := readNames(s.portDir(p))
	if err != nil {
		return err
	}
	for _, name := range names {
		a, err := netip.ParseAddr(name)
		if err != nil || !collide(a, p.HostIP) {
			continue
		}
		owner, err := s.owner(filepath.Join(s.portDir(p), name))
		if err != nil {
			return err
		}
		if owner != "" {
			return fmt.Errorf("%w by container %.12s", taken, owner)
		}
	}
	if err := bindPort(p); errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w by another program: see ss -lp", taken)
	} else if err != nil {
		return fmt.Errorf("publish %s/%s: %w", netip.AddrPortFrom(p.HostIP, p.HostPort), p.Proto, err)
	}
	return nil
}

// collide says whether sockets at the two addresses cannot both have a port.
func collide(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// protocols that ports can be of.
var protocols = map[string]int{
	"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP,
}

// bindPort sees whether a program could have the port now, by being one for a moment.
func bindPort(p Port) error {
	kind := unix.SOCK_STREAM
	if p.Proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{
		Port: int(p.HostPort), Addr: p.HostIP.As16(),
	})
	if p.HostIP.Is4() {
		family = unix.AF_INET
		address = &unix.SockaddrInet4{Port: int(p.HostPort), Addr: p.HostIP.As4()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocols[p.Proto])
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // then nobody can have it
	}
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if p.Proto == "tcp" {
		// Connections that have ended, and linger, are in nobody's way.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err != nil {
		return fmt.Errorf("setsockopt: %w", err)
	}
	if err := unix.Bind(fd, address); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}
