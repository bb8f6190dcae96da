//go:build linux

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minidocker/final/network/netns"
)

// Attach makes the links of endpoints of one container in its network namespace, and then the
// rules of their ports, in one transaction. After an error there are no links, and Release undoes
// the rest.
func (s *Store) Attach(ns *os.File, endpoints ...*Endpoint) error {
	if len(endpoints) == 0 {
		return nil
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	veths := make([]*veth, len(endpoints))
	for i, e := range endpoints {
		if veths[i], err = s.addLink(host, ns, e); err != nil {
			err = fmt.Errorf("attach to network %s: %w", e.NetworkName, err)
			return errors.Join(err, deleteLinks(ns, endpoints[:i]))
		}
	}
	err = netns.Do(ns, func() error {
		return configure(endpoints, func() error {
			return plugIn(host, veths, endpoints)
		})
	})
	if err == nil {
		err = s.publish(endpoints)
	}
	if err != nil {
		return errors.Join(err, deleteLinks(ns, endpoints))
	}
	return nil
}

// sticky is NTF_STICKY of linux/neighbour.h, since Linux 4.20: the bridge learns nothing else.
const sticky = 0x40

// plugIn sets the host's ends up, and tells the bridges where the containers are. They need not
// learn it, and they may think that they know: a container that has just ended had the same
// address, and its link dies a little after it.
func plugIn(host *netlink.Handle, veths []*veth, endpoints []*Endpoint) error {
	for i, e := range endpoints {
		v := veths[i]
		if v == nil {
			continue
		}
		if err := host.LinkSetUp(v); err != nil {
			return fmt.Errorf("set %s up: %w", e.Link, err)
		}
		mac, err := net.ParseMAC(e.MAC)
		if err != nil {
			return err
		}
		err = host.NeighSet(&netlink.Neigh{
			LinkIndex: v.Index, Family: unix.AF_BRIDGE,
			Flags: netlink.NTF_MASTER | sticky, State: netlink.NUD_NOARP, HardwareAddr: mac,
		})
		if err != nil {
			return fmt.Errorf("set the port of %s: %w", e.MAC, err)
		}
		for _, name := range append([]string{e.Link}, v.await...) {
			if err := awaitCarrier(host, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitCarrier waits until the kernel has seen that the cable has two ends: before, what is sent is
// dropped, and sent again a second later. It sees it by a piece of work of its own, linkwatch; from
// Linux 6.8 on to ask is enough.
func awaitCarrier(h *netlink.Handle, name string) error {
	for range 1000 {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	return fmt.Errorf("link %s has no carrier", name)
}

// veth is a cable's end on the host. With it a bridge that had no port before comes up: await.
type veth struct {
	*netlink.Veth
	await []string
}

// addLink makes the link of e, born in ns under its name there. It returns the end on the host, if
// there is one.
func (s *Store) addLink(host *netlink.Handle, ns *os.File, e *Endpoint) (*veth, error) {
	n, err := s.Network(e.Network)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return nil, err
	}
	if n.Driver != DriverBridge {
		return nil, addDirect(host, ns, n, e.Interface, mac)
	}
	bridge, err := s.readyBridge(host, n)
	if err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", n.bridge(), err)
	}
	v := &veth{Veth: &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: e.Interface}}
	v.Name, v.MTU, v.MasterIndex = e.Link, n.mtu(), bridge.Attrs().Index
	v.PeerHardwareAddr = mac
	v.PeerNamespace = netlink.NsFd(ns.Fd())
	if bridge.Attrs().OperState != netlink.OperUp {
		v.await = []string{n.bridge()}
	}
	if err := host.LinkAdd(v.Veth); err != nil {
		return nil, fmt.Errorf("add veth %s: %w", e.Link, err)
	}
	if len(e.Ports) > 0 {
		// A container that calls its own published port: with br_netfilter its packet goes out
		// through the port of the bridge that it came from.
		if err := host.LinkSetHairpin(v, true); err != nil {
			return nil, fmt.Errorf("set hairpin of %s: %w", e.Link, err)
		}
	}
	if !n.option(OptionICC, true) {
		if err := host.LinkSetIsolated(v, true); err != nil {
			return nil, fmt.Errorf("isolate %s: %w", e.Link, err)
		}
	}
	// A port of a bridge needs no address of its own; looking for one it would send packets.
	return v, setIPv6(e.Link, false)
}

// configure gives the links their addresses, in the container's namespace, and calls plugIn.
func configure(endpoints []*Endpoint, plugIn func() error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	for _, e := range endpoints {
		if err := configureLink(h, e); err != nil {
			return fmt.Errorf("configure %s: %w", e.Interface, err)
		}
	}
	if err := plugIn(); err != nil {
		return err
	}
	for _, e := range endpoints {
		if e.Link == "" {
			continue
		}
		if err := awaitCarrier(h, e.Interface); err != nil {
			return err
		}
	}
	return nil
}

func configureLink(h *netlink.Handle, e *Endpoint) error {
	link, err := h.LinkByName(e.Interface)
	if err != nil {
		return err
	}
	if err := setIPv6(e.Interface, e.IPv6.IsValid()); err != nil {
		return err
	}
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if !p.IsValid() {
			continue
		}
		if err := addAddress(h, link, p); err != nil {
			return err
		}
	}
	for key, value := range e.Sysctls {
		path := strings.ReplaceAll(strings.ReplaceAll(key, ".", "/"), "IFNAME", e.Interface)
		if err := writeSysctl(path, value); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if !e.DefaultRoute {
		return nil
	}
	return setDefaultRoute(h, link, e)
}

// addAddress does not wait for the kernel to see that nobody else has an IPv6 address: the
// records say so.
func addAddress(h *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	address := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		address.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrReplace(link, address); err != nil {
		return fmt.Errorf("add address %s: %w", p, err)
	}
	return nil
}

// setDefaultRoute sends through e what goes out; where there is no gateway, as for ipvlan's l3,
// the link itself knows the way.
func setDefaultRoute(h *netlink.Handle, link netlink.Link, e *Endpoint) error {
	for _, kind := range []struct {
		address netip.Prefix
		gateway netip.Addr
		all     string
	}{{e.IPv4, e.Gateway4, "0.0.0.0/0"}, {e.IPv6, e.Gateway6, "::/0"}} {
		all := ipNet(netip.MustParsePrefix(kind.all))
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: all}
		switch {
		case !kind.address.IsValid():
			continue
		case kind.gateway.IsValid():
			route.Gw = kind.gateway.AsSlice()
		case e.Driver == DriverIpvlan:
			route.Scope = netlink.SCOPE_LINK
		default:
			continue // an internal network
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("route %s via %s: %w", kind.all, kind.gateway, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// deleteLinks deletes the links of endpoints in ns that are there; their other ends go with them.
func deleteLinks(ns *os.File, endpoints []*Endpoint) error {
	return netns.Do(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		for _, e := range endpoints {
			if err := deleteLink(h, e.Interface); err != nil {
				return err
			}
		}
		return nil
	})
}

func deleteLink(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkDel(link)
	}
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) ||
		errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// Loopback sets lo up in the network namespace: 127.0.0.1 and ::1.
func Loopback(ns *os.File) error {
	return netns.Do(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		lo, err := h.LinkByName("lo")
		if err == nil {
			err = h.LinkSetUp(lo)
		}
		if err != nil {
			return fmt.Errorf("set lo up: %w", err)
		}
		return nil
	})
}

// addDirect makes a macvlan or ipvlan: a second face of an interface of the host.
func addDirect(host *netlink.Handle, ns *os.File, n *Network, name string,
	mac net.HardwareAddr,
) error {
	parent, err := parentLink(host, n.Options[OptionParent])
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.ParentIndex = name, n.mtu(), parent.Attrs().Index
	attrs.Namespace = netlink.NsFd(ns.Fd())
	var link netlink.Link
	if n.Driver == DriverIpvlan {
		// Its hardware address is its parent's.
		link = &netlink.IPVlan{LinkAttrs: attrs, Mode: map[string]netlink.IPVlanMode{
			"l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
		}[n.Options[OptionIpvlanMode]]}
	} else {
		attrs.HardwareAddr = mac
		mode, ok := map[string]netlink.MacvlanMode{
			"private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA,
			"passthru": netlink.MACVLAN_MODE_PASSTHRU,
		}[n.Options[OptionMacvlanMode]]
		if !ok {
			mode = netlink.MACVLAN_MODE_BRIDGE
		}
		link = &netlink.Macvlan{LinkAttrs: attrs, Mode: mode}
	}
	err = host.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("add %s on %s: the kernel lacks it: modprobe %s: %w",
			n.Driver, parent.Attrs().Name, n.Driver, err)
	}
	if err != nil {
		return fmt.Errorf("add %s on %s: %w", n.Driver, parent.Attrs().Name, err)
	}
	return nil
}

// parentLink finds the interface, or makes it, if it is a VLAN's that is not there: eth0.7.
func parentLink(host *netlink.Handle, name string) (netlink.Link, error) {
	link, err := host.LinkByName(name)
	if err == nil {
		return link, nil
	}
	below, tag, ok := strings.Cut(name, ".")
	id, notNumber := strconv.Atoi(tag)
	if !ok || notNumber != nil || id < 1 || id > 4094 {
		return nil, fmt.Errorf("parent interface %q: %w", name, err)
	}
	under, err := host.LinkByName(below)
	if err != nil {
		return nil, fmt.Errorf("parent interface %q: %w", below, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Flags = name, under.Attrs().Index, net.FlagUp
	err = host.LinkAdd(&netlink.Vlan{
		LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q,
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("add VLAN %s: %w", name, err)
	}
	return host.LinkByName(name)
}

// routedSubnets are those that the machine has routes to, but for the default route and a VPN's
// two halves of it.
func routedSubnets() ([]netip.Prefix, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	var used []netip.Prefix
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := h.RouteList(nil, family)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil {
				continue
			}
			a, _ := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			p := netip.PrefixFrom(a.Unmap(), bits).Masked()
			if p.IsValid() && bits >= 8 && !slices.Contains(used, p) {
				used = append(used, p)
			}
		}
	}
	return used, nil
}
