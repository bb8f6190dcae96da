//go:build linux

package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// DefaultBridge is the interface of the network Bridge.
const DefaultBridge = "minidocker0"

// Create makes a network and chooses what c leaves open: subnets from 172.17.0.0/16 to
// 172.31.0.0/16, then 192.168.0.0/20 and on; for IPv6 a random one of fd00::/8. Links and rules
// are made when the first container is attached. ErrExist, ErrOverlap, ErrInvalid.
func (s *Store) Create(c Config) (*Network, error) {
	if _, err := s.List(); err != nil { // the default network has the first choice
		return nil, err
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	return s.create(randomID(), c)
}

// create is Create while the records are locked.
func (s *Store) create(id string, c Config) (*Network, error) {
	all, err := s.readNetworks()
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	n := &Network{ID: id, Created: time.Now().UTC(), Config: c}
	for _, other := range all {
		if other.Name == n.Name {
			return nil, fmt.Errorf("network with name %s %w", n.Name, ErrExist)
		}
		if n.Driver == DriverBridge && other.bridge() == n.bridge() {
			return nil, fmt.Errorf("%w: network %s has the bridge %s", ErrInvalid,
				other.Name, n.bridge())
		}
	}
	if n.Subnets, err = n.chooseSubnets(all); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return nil, err
	}
	if err := s.removeUnfinished(); err != nil {
		return nil, err
	}
	return n, writeRecord(s.networkFile(id), n, true)
}

// removeUnfinished removes what somebody was writing who was killed: the records are locked.
func (s *Store) removeUnfinished() error {
	names, err := readNames(s.dir)
	for _, name := range names {
		if err == nil && strings.HasSuffix(name, ".json.new") {
			err = removeIfThere(filepath.Join(s.dir, name))
		}
	}
	return err
}

func randomID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand
	return hex.EncodeToString(id[:])
}

// The drivers.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverIpvlan  = "ipvlan"
)

// check refuses what makes no sense, and completes the rest but for the subnets that are to be
// chosen. It changes no map or slice of the caller's.
func (c *Config) check() error {
	if strings.TrimSpace(c.Name) == "" || strings.Contains(c.Name, "/") ||
		strings.ContainsFunc(c.Name, unicode.IsControl) {
		return fmt.Errorf("%w: name %q: want words without a slash", ErrInvalid, c.Name)
	}
	if c.Driver == "" {
		c.Driver = DriverBridge
	}
	if !slices.Contains([]string{DriverBridge, DriverMacvlan, DriverIpvlan}, c.Driver) {
		return fmt.Errorf("%w: driver %q: want bridge, macvlan or ipvlan", ErrInvalid, c.Driver)
	}
	if c.Driver != DriverBridge && c.Options[OptionParent] == "" {
		return fmt.Errorf("%w: %s wants --opt parent=INTERFACE", ErrInvalid, c.Driver)
	}
	if err := c.checkOptions(); err != nil {
		return err
	}
	c.Subnets = slices.Clone(c.Subnets)
	var have4, have6 bool
	for i := range c.Subnets {
		sub := &c.Subnets[i]
		if err := sub.check(); err != nil {
			return err
		}
		have := &have6
		if sub.Subnet.Addr().Is4() {
			have = &have4
		}
		if *have {
			return fmt.Errorf("%w: two subnets of one kind", ErrInvalid)
		}
		*have = true
	}
	c.IPv6 = c.IPv6 || have6
	c.IPv4 = c.IPv4 || have4 || !c.IPv6
	return nil
}

// validName says whether a name can be a file's, and a word of the command line.
// validName says whether a name can be a network's: also a file's, and a word of the command line.
func validName(name string) bool {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_.-", rune(c))) {
			return false
		}
	}
	return name != "" && len(name) < 128
}

func (c *Config) checkOptions() error {
	for _, name := range []string{OptionICC, OptionMasquerade} {
		if value, ok := c.Options[name]; ok {
			if _, err := strconv.ParseBool(value); err != nil {
				return fmt.Errorf("%w: %s=%q: want true or false", ErrInvalid, name, value)
			}
		}
	}
	if value, ok := c.Options[OptionMTU]; ok {
		if mtu, err := strconv.Atoi(value); err != nil || mtu < 68 || mtu > 65535 {
			return fmt.Errorf("%w: %s=%q: want 68 to 65535 bytes", ErrInvalid, OptionMTU, value)
		}
	}
	if value, ok := c.Options[OptionHostBinding]; ok {
		if a, err := netip.ParseAddr(value); err != nil || !a.Is4() {
			return fmt.Errorf("%w: %s=%q: want an IPv4 address", ErrInvalid, OptionHostBinding, value)
		}
	}
	if value, ok := c.Options[OptionBridgeName]; ok && (!validName(value) || len(value) > 15) {
		return fmt.Errorf("%w: %s=%q: want at most 15 letters and digits", ErrInvalid,
			OptionBridgeName, value)
	}
	for name, modes := range map[string]map[string]bool{
		OptionMacvlanMode: {"": true, "bridge": true, "private": true, "vepa": true, "passthru": true},
		OptionIpvlanMode:  {"": true, "l2": true, "l3": true, "l3s": true},
	} {
		if !modes[c.Options[name]] {
			return fmt.Errorf("%w: %s=%q", ErrInvalid, name, c.Options[name])
		}
	}
	return nil
}

// check refuses a subnet that cannot be one, and chooses the gateway.
func (sub *Subnet) check() error {
	p := sub.Subnet
	if !p.IsValid() || p.Addr().Is4In6() || p.Addr().IsMulticast() || p.Addr().IsLoopback() ||
		p.Bits() < 8 || p.Bits() > p.Addr().BitLen()-2 {
		return fmt.Errorf("%w: subnet %s: want one as 10.9.0.0/24 or fd00:9::/64", ErrInvalid, p)
	}
	p = p.Masked()
	sub.Subnet = p
	if sub.IPRange.IsValid() {
		sub.IPRange = sub.IPRange.Masked()
		if !p.Contains(sub.IPRange.Addr()) || sub.IPRange.Bits() < p.Bits() {
			return fmt.Errorf("%w: IP range %s is not in %s", ErrInvalid, sub.IPRange, p)
		}
	}
	if !sub.Gateway.IsValid() {
		sub.Gateway = p.Addr().Next()
	}
	addresses := []netip.Addr{sub.Gateway}
	for _, a := range sub.Aux {
		addresses = append(addresses, a)
	}
	for _, a := range addresses {
		if !p.Contains(a) || a == p.Addr() || (a.Is4() && a == lastAddress(p)) {
			return fmt.Errorf("%w: %s is no host's address in %s", ErrInvalid, a, p)
		}
	}
	return nil
}

// chooseSubnets returns n's, with those that are wanted and not given. It refuses what would
// take another's packets: subnets of networks, and for a bridge those that the machine has routes
// to. A macvlan's is that of the network that its parent is in.
func (n *Network) chooseSubnets(all []*Network) ([]Subnet, error) {
	var used []netip.Prefix
	for _, other := range all {
		for _, sub := range other.Subnets {
			used = append(used, sub.Subnet)
		}
	}
	if n.Driver == DriverBridge {
		routes, err := routedSubnets()
		if err != nil {
			return nil, err
		}
		used = append(used, routes...)
	}
	subnets := n.Subnets
	have := map[bool]bool{} // by Is4
	for _, sub := range subnets {
		have[sub.Subnet.Addr().Is4()] = true
		if i := slices.IndexFunc(used, sub.Subnet.Overlaps); i >= 0 {
			return nil, fmt.Errorf("%w: %s overlaps with %s, which this machine has a network or a "+
				"route for: see minidocker network ls, ip route", ErrOverlap, sub.Subnet, used[i])
		}
	}
	if n.IPv4 && !have[true] {
		chosen, err := freeSubnet4(used)
		if err != nil {
			return nil, err
		}
		subnets = append(subnets, Subnet{Subnet: chosen, Gateway: chosen.Addr().Next()})
	}
	if n.IPv6 && !have[false] {
		chosen := randomSubnet6()
		subnets = append(subnets, Subnet{Subnet: chosen, Gateway: chosen.Addr().Next()})
	}
	return subnets, nil
}

func freeSubnet4(used []netip.Prefix) (netip.Prefix, error) {
	var candidates []netip.Prefix
	for i := 17; i <= 31; i++ {
		candidates = append(candidates,
			netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i), 0, 0}), 16))
	}
	for i := 0; i < 256; i += 16 {
		candidates = append(candidates,
			netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 20))
	}
	for _, c := range candidates {
		if !slices.ContainsFunc(used, c.Overlaps) {
			return c, nil
		}
	}
	return netip.Prefix{}, errors.Join(ErrOverlap, errors.New("all of 172.17.0.0/16 to "+
		"172.31.0.0/16 and 192.168.0.0/16 is in use: name another with --subnet, or remove unused "+
		"networks: minidocker network prune"))
}

// randomSubnet6 is a unique local one, RFC 4193: 40 random bits, that no two sites have the same.
func randomSubnet6() netip.Prefix {
	var a [16]byte
	_, _ = rand.Read(a[1:6]) // never fails: crypto/rand
	a[0] = 0xfd
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// lastAddress is the broadcast address of an IPv4 subnet.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := p.Bits(); i < len(a)*8; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(a)
	return last
}

// bridge is the name of the network's interface on the host; at most 15 bytes.
func (n *Network) bridge() string {
	if n.Driver != DriverBridge {
		return ""
	}
	if name := n.Options[OptionBridgeName]; name != "" {
		return name
	}
	return "md-" + n.ID[:12]
}

// option reports a yes-or-no option; value is what it is when not given.
func (n *Network) option(name string, value bool) bool {
	if v, err := strconv.ParseBool(n.Options[name]); err == nil {
		return v
	}
	return value
}

// mtu is the size of packets in bytes; 0 is the kernel's choice.
func (n *Network) mtu() int {
	mtu, _ := strconv.Atoi(n.Options[OptionMTU]) // checked by Create
	return mtu
}

// subnet returns the network's subnet of a kind, nil if it has none.
func (n *Network) subnet(is4 bool) *Subnet {
	for i, sub := range n.Subnets {
		if sub.Subnet.Addr().Is4() == is4 {
			return &n.Subnets[i]
		}
	}
	return nil
}
