//go:build linux

// Package names tells which names a container's neighbours have. It reads what package network
// records, without locks, and links nothing else of it: resolvers use it, in each container's shim.
package names

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"minidocker/final/rawfd"
)

// Neighbours are the names in the networks of a container, as they are at each call.
type Neighbours struct{ run, container string }

// Of returns the neighbours of a container; run is the folder of that name of network.Open.
func Of(run, container string) *Neighbours { return &Neighbours{run, container} }

// Lookup returns the addresses of a container's name or alias in any of the networks; known says
// that there is one. A name that several containers have is all of theirs. A network's name may
// stand behind it: "web.front".
func (n *Neighbours) Lookup(name string) (addresses []netip.Addr, known bool) {
	name = strings.ToLower(name)
	if strings.Trim(name, ".") == "" || strings.ContainsAny(name, "/\x00") {
		return nil, false
	}
	for _, e := range n.endpoints() {
		found := n.addresses(e.Network, name)
		if other := e.link(name); other != "" {
			found = n.addresses(e.Network, other)
		}
		short, ok := strings.CutSuffix(name, "."+strings.ToLower(e.NetworkName))
		if len(found) == 0 && ok && strings.Trim(short, ".") != "" {
			found = n.addresses(e.Network, short)
		}
		for _, a := range found {
			if !slices.Contains(addresses, a) {
				addresses = append(addresses, a)
			}
		}
	}
	return addresses, len(addresses) > 0
}

// addresses reads those of a name in a network: each of the folder's links is a container's.
func (n *Neighbours) addresses(network, name string) []netip.Addr {
	dir := filepath.Join(n.run, "networks", network, "names", name)
	var found []netip.Addr
	for _, container := range list(dir) {
		text, err := os.Readlink(filepath.Join(dir, container))
		if err != nil {
			continue // gone meanwhile
		}
		for _, word := range strings.Split(text, ",") {
			if a, err := netip.ParseAddr(word); err == nil {
				found = append(found, a)
			}
		}
	}
	return found
}

// Reverse returns the first name of the neighbour at an address, with its network's name behind
// it, or "".
func (n *Neighbours) Reverse(address netip.Addr) string {
	for _, e := range n.endpoints() {
		claim := filepath.Join(n.run, "networks", e.Network, "addresses", address.String())
		owner, err := os.Readlink(claim)
		if err != nil {
			continue
		}
		other := n.endpoint(owner, e.Network+".json")
		if other != nil && len(other.Names) > 0 {
			return other.Names[0] + "." + e.NetworkName
		}
	}
	return ""
}

// endpoint is the part of network.Endpoint that is read here.
type endpoint struct {
	Network, NetworkName string
	Names                []string
	Links                map[string]string
}

// link is the neighbour's own name for a name that this container alone has for it, or "".
func (e *endpoint) link(name string) string {
	for alias, other := range e.Links {
		if strings.EqualFold(alias, name) && !strings.ContainsAny(other, "/\x00") {
			return strings.ToLower(other)
		}
	}
	return ""
}

// endpoints are the container's own: they say which networks it is in.
func (n *Neighbours) endpoints() []*endpoint {
	var all []*endpoint
	for _, file := range list(filepath.Join(n.run, "endpoints", n.container)) {
		if e := n.endpoint(n.container, file); e != nil {
			all = append(all, e)
		}
	}
	return all
}

// endpoint reads one; nil if it is gone, or not written yet.
func (n *Neighbours) endpoint(container, file string) *endpoint {
	if !strings.HasSuffix(file, ".json") {
		return nil
	}
	data, err := rawfd.ReadFile(filepath.Join(n.run, "endpoints", container, file))
	e := &endpoint{}
	if err != nil || json.Unmarshal(data, e) != nil {
		return nil
	}
	return e
}

// list returns a folder's names, sorted; none if it is not there.
func list(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	found, _ := f.Readdirnames(-1) // what has been read of a folder that changes
	slices.Sort(found)
	return found
}
