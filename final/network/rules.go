//go:build linux

package network

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const tableName = "minidocker"

//go:embed table.nft
var tableText string

// writeRules replaces the whole table by what the records call for: when a bridge is made or
// removed, or when the table is not there. It is one transaction: no packet meets half of it.
// The rules are locked. The network with the ID without is left out.
func (s *Store) writeRules(without string) error {
	all, err := s.readNetworks()
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("table inet minidocker\ndelete table inet minidocker\n" + tableText)
	for _, n := range all {
		if n.Driver == DriverBridge && n.ID != without {
			n.writeChains(&text)
		}
	}
	endpoints, err := s.allEndpoints()
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		for _, p := range e.Ports {
			m := portMap(p)
			fmt.Fprintf(&text, "add element inet minidocker %s { %s }\n", m, elementText(p, e))
		}
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text.String())
	var problem bytes.Buffer
	cmd.Stderr = &problem
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("nft -f (package nftables): %w: %s", err, problem.String())
	}
	return nil
}

// writeChains writes the network's chains, and the elements of the maps that lead to them.
func (n *Network) writeChains(text *strings.Builder) {
	bridge := n.bridge()
	chain := func(way string, rules ...string) {
		fmt.Fprintf(text, "table inet minidocker {\n\tchain %s-%s {\n", way, bridge)
		for _, rule := range rules {
			fmt.Fprintf(text, "\t\t%s\n", rule)
		}
		fmt.Fprintf(text, "\t}\n}\nadd element inet minidocker %s { %q : jump %s-%s }\n",
			way, bridge, way, bridge)
	}
	var enter, hairpin, outbound []string
	if n.option(OptionICC, true) {
		enter = append(enter, fmt.Sprintf("iifname %q accept", bridge))
	}
	if !n.Internal {
		enter = append(enter, "ct status dnat accept")
	}
	chain("enter", append(enter, "drop")...)
	for _, sub := range n.Subnets {
		family := "ip6"
		if sub.Subnet.Addr().Is4() {
			family = "ip"
		}
		from := fmt.Sprintf("%s saddr %s", family, sub.Subnet)
		// From a neighbour to a published port: the answer must come back through the host, which
		// knows whom it was from.
		hairpin = append(hairpin, from+" ct status dnat masquerade")
		outbound = append(outbound, fmt.Sprintf("%s oifname != %q masquerade", from, bridge))
	}
	switch {
	case n.Internal:
		chain("leave", fmt.Sprintf("oifname != %q drop", bridge))
		return
	case n.option(OptionMasquerade, true):
		chain("outbound", outbound...)
	}
	chain("hairpin", hairpin...)
}

// portMap is the name of the map that the published port is in.
func portMap(p Port) string {
	name := "published"
	if p.HostIP.IsUnspecified() {
		name = "everywhere"
	}
	if p.HostIP.Is4() {
		return name + "4"
	}
	return name + "6"
}

// elementText is the published port as nft writes it.
func elementText(p Port, e *Endpoint) string {
	to := e.address(p.HostIP.Is4())
	if p.HostIP.IsUnspecified() {
		return fmt.Sprintf("%s . %d : %s . %d", p.Proto, p.HostPort, to, p.ContainerPort)
	}
	return fmt.Sprintf("%s . %s . %d : %s . %d", p.Proto, p.HostIP, p.HostPort, to, p.ContainerPort)
}

// element is the published port as the kernel knows it: every field of a concatenation fills
// whole words of 4 bytes.
func element(p Port, e *Endpoint) nftables.SetElement {
	key := []byte{byte(protocols[p.Proto]), 0, 0, 0}
	if !p.HostIP.IsUnspecified() {
		key = append(key, p.HostIP.AsSlice()...)
	}
	return nftables.SetElement{
		Key: appendPort(key, p.HostPort),
		Val: appendPort(e.address(p.HostIP.Is4()).AsSlice(), p.ContainerPort),
	}
}

func appendPort(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

// address is the container's of a kind.
func (e *Endpoint) address(is4 bool) netip.Addr {
	if is4 {
		return e.IPv4.Addr()
	}
	return e.IPv6.Addr()
}

// publish adds the ports of the endpoints to the rules.
func (s *Store) publish(endpoints []*Endpoint) error {
	changed, err := s.changePorts(endpoints, (*nftables.Conn).SetAddElements)
	if err != nil {
		// The table is gone, or in it is what is on no record: all anew.
		rules, lockErr := s.lockFile("rules", unix.LOCK_EX)
		if lockErr != nil {
			return lockErr
		}
		defer rules.Close()
		if again := s.writeRules(""); again != nil {
			return fmt.Errorf("publish ports: %w", errors.Join(err, again))
		}
	}
	if changed {
		return forgetFlows(endpoints)
	}
	return nil
}

// changePorts adds or deletes the elements of all ports, in one transaction; false if there are
// none.
func (s *Store) changePorts(endpoints []*Endpoint,
	change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error,
) (bool, error) {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	elements := map[string][]nftables.SetElement{}
	for _, e := range endpoints {
		for _, p := range e.Ports {
			elements[portMap(p)] = append(elements[portMap(p)], element(p, e))
		}
	}
	if len(elements) == 0 {
		return false, nil
	}
	rules, err := s.lockFile("rules", unix.LOCK_SH)
	if err != nil {
		return true, err
	}
	defer rules.Close()
	nft, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return true, fmt.Errorf("open nftables: %w", err)
	}
	defer closeLater(nft)
	for name, list := range elements {
		set := &nftables.Set{Table: table, Name: name, IsMap: true}
		if err := change(nft, set, list); err != nil {
			return true, err
		}
	}
	return true, nft.Flush()
}

// closeLater closes the connection without waiting. When one is closed, the kernel waits until it
// has freed what was deleted, for all processors to have looked elsewhere: 20 ms, and nobody else
// has his turn meanwhile. After those 20 ms there is nothing to wait for.
func closeLater(nft *nftables.Conn) {
	time.AfterFunc(50*time.Millisecond, func() {
		_ = nft.CloseLasting() // all that was to be said has been answered
	})
}

// forgetFlows makes the kernel forget the flows to UDP ports that are published now, or are no
// more: a client that keeps on sending would be sent the old way for ever.
func forgetFlows(endpoints []*Endpoint) error {
	var filters4, filters6 []netlink.CustomConntrackFilter
	for _, e := range endpoints {
		for _, p := range e.Ports {
			if p.Proto != "udp" {
				continue
			}
			f := &netlink.ConntrackFilter{}
			err := f.AddProtocol(unix.IPPROTO_UDP)
			if err == nil {
				err = f.AddPort(netlink.ConntrackOrigDstPort, p.HostPort)
			}
			if err != nil {
				return fmt.Errorf("filter flows: %w", err)
			}
			if p.HostIP.Is4() {
				filters4 = append(filters4, f)
			} else {
				filters6 = append(filters6, f)
			}
		}
	}
	for family, filters := range map[netlink.InetFamily][]netlink.CustomConntrackFilter{
		unix.AF_INET: filters4, unix.AF_INET6: filters6,
	} {
		if len(filters) == 0 {
			continue
		}
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filters...)
		if err != nil {
			return fmt.Errorf("forget flows to UDP ports: %w", err)
		}
	}
	return nil
}
