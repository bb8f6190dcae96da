//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// newNetwork records a network with that subnet, or with one that is free if it is not
// valid. The networks are locked.
func newNetwork(name, bridge string, subnet netip.Prefix) (network, error) {
	used, err := usedSubnets()
	if err != nil {
		return network{}, err
	}
	for i := 0; !subnet.IsValid() && i < 256; i++ {
		candidate := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 210, byte(i), 0}), 24)
		if !slices.ContainsFunc(used, candidate.Overlaps) {
			subnet = candidate
		}
	}
	if !subnet.IsValid() {
		return network{}, errors.New("the machine has routes to all of 10.210.0.0/16: choose " +
			"a subnet with minidocker network create --subnet, and --network")
	}
	if i := slices.IndexFunc(used, subnet.Overlaps); i >= 0 {
		return network{}, fmt.Errorf("subnet %s overlaps with %s, which this machine has a route "+
			"or a network for: see ip route, and minidocker network ls", subnet, used[i])
	}
	n := network{Name: name, Bridge: bridge, Subnet: subnet, Gateway: subnet.Addr().Next()}
	return n, writeJSON(n.file(), n)
}

// usedSubnets are those of the other networks, and those that the machine has a route to.
func usedSubnets() ([]netip.Prefix, error) {
	all, err := readNetworks()
	if err != nil {
		return nil, err
	}
	var used []netip.Prefix
	for _, n := range all {
		used = append(used, n.Subnet)
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(routes)) {
		// Addresses as hexadecimal numbers whose bytes are in the network's order.
		var name string
		var to, gateway, flags, count, use, metric, mask uint32
		n, _ := fmt.Sscanf(line, "%s %x %x %x %d %d %d %x",
			&name, &to, &gateway, &flags, &count, &use, &metric, &mask)
		if n != 8 || bits.OnesCount32(mask) < 8 {
			continue // the title, the default route, and a VPN's two halves of it
		}
		var address [4]byte
		binary.NativeEndian.PutUint32(address[:], to)
		used = append(used, netip.PrefixFrom(netip.AddrFrom4(address), bits.OnesCount32(mask)))
	}
	return used, nil
}

// makeBridge makes the network's bridge unless it is there, with the gateway's address.
func (n network) makeBridge() error {
	if link, err := net.InterfaceByName(n.Bridge); err == nil && link.Flags&net.FlagUp != 0 {
		return nil
	}
	err := deleteLink(n.Bridge) // not up: half made, by one that was killed
	if err == nil {
		err = addBridge(n.Bridge, hardwareAddress(n.Gateway))
	}
	if err == nil {
		err = addAddress(n.Bridge, netip.PrefixFrom(n.Gateway, n.Subnet.Bits()))
	}
	if err == nil {
		err = allowForwarding(n.Bridge)
	}
	if err == nil {
		err = setUp(n.Bridge)
	}
	if err != nil {
		return errors.Join(err, deleteLink(n.Bridge))
	}
	return nil
}

// hardwareAddress follows from the IP address, as docker's did: when another container gets
// this one, no neighbour has a wrong one in mind. A bridge that is given none takes the
// lowest of its ports', and so another one as containers come and go.
func hardwareAddress(ip netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0x42}, ip.AsSlice()...)
}

// freeAddress returns the lowest address of the subnet that no endpoint has; neither
// the first, the network's own, nor the last, broadcast.
func (n network) freeAddress() (netip.Prefix, error) {
	all, err := readSandboxes()
	if err != nil {
		return netip.Prefix{}, err
	}
	used := map[netip.Addr]bool{n.Gateway: true}
	for _, sb := range all {
		for _, ep := range sb.Endpoints {
			used[ep.Address.Addr()] = true
		}
	}
	for a := n.Gateway; n.Subnet.Contains(a.Next()); a = a.Next() {
		if !used[a] {
			return netip.PrefixFrom(a, n.Subnet.Bits()), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("network %s: all addresses of %s are taken", n.Name, n.Subnet)
}
