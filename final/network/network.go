//go:build linux

// Package network gives containers their network: bridges with veth pairs, macvlan and ipvlan, with
// IPv4 and IPv6 addresses, published ports and names. It knows containers by their IDs alone; who
// runs, and what is in them, is the engine's business.
//
// There is no daemon: several processes use a Store at once, and each may be killed at any moment.
// What networks there are is on disk (they survive a reboot); what is in use now is on a tmpfs.
// A record is written before what it speaks of is made, and removed after that is gone.
//
// What a packet passes is in docs/final/network.md, the rules in table.nft.
package network

import (
	"errors"
	"net/netip"
	"time"
)

// The errors that callers tell apart, with errors.Is. The message says what to do.
var (
	ErrExist      = errors.New("already exists")
	ErrNotExist   = errors.New("not found")
	ErrOverlap    = errors.New("subnet is in use")
	ErrInUse      = errors.New("network has active endpoints")
	ErrPredefined = errors.New("is a pre-defined network and cannot be removed")
	ErrPort       = errors.New("port is already allocated")
	ErrAddress    = errors.New("address is in use")
	ErrConnected  = errors.New("container is connected to the network")
	ErrNoEndpoint = errors.New("container is not connected to the network")
	ErrInvalid    = errors.New("invalid network configuration")
)

// The networks that are always there. Host and None have no endpoints: a container on Host has no
// network namespace of its own, one on None has only Loopback in it.
const (
	Bridge = "bridge"
	Host   = "host"
	None   = "none"
)

// The options that the bridge driver knows, spelled as Docker's.
const (
	OptionMTU        = "com.docker.network.driver.mtu"        // bytes
	OptionBridgeName = "com.docker.network.bridge.name"       // the interface's
	OptionICC        = "com.docker.network.bridge.enable_icc" // "false": neighbours are apart
	// OptionMasquerade "false" lets packets leave with the container's address.
	OptionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	// OptionHostBinding is the address of the host for ports that name none.
	OptionHostBinding = "com.docker.network.bridge.host_binding_ipv4"
)

// The options that macvlan and ipvlan know.
const (
	OptionParent      = "parent"       // the host's interface; eth0.7 is VLAN 7 of eth0
	OptionMacvlanMode = "macvlan_mode" // bridge, private, vepa or passthru
	OptionIpvlanMode  = "ipvlan_mode"  // l2, l3 or l3s
)

// Subnet is a range of addresses of a network. The zero Gateway is the first address, the zero
// IPRange (from which containers' addresses are chosen) the whole.
type Subnet struct {
	Subnet  netip.Prefix
	Gateway netip.Addr            `json:",omitzero"`
	IPRange netip.Prefix          `json:",omitzero"`
	Aux     map[string]netip.Addr `json:",omitempty"` // not given to containers
}

// Config is what a user says of a network.
type Config struct {
	Name       string
	Driver     string            // bridge (also if empty), macvlan or ipvlan
	Options    map[string]string `json:",omitempty"`
	Labels     map[string]string `json:",omitempty"`
	Internal   bool              // no way out, and none in
	Attachable bool              // recorded only
	// IPv4 and IPv6 say which addresses containers get. A subnet of either kind sets it, and with
	// neither it is IPv4.
	IPv4, IPv6 bool
	Subnets    []Subnet // chosen where there is none of a kind that is wanted; at most one of each
}

// Network is a network on record.
type Network struct {
	ID      string // 64 hexadecimal digits
	Created time.Time
	Config
}

// Port is a published port. As a wish, an invalid HostIP is all addresses of the host, HostPort 0
// any free one from 32768 on, and HostPort to HostPortEnd the first free one of a range.
type Port struct {
	HostIP        netip.Addr `json:",omitzero"`
	HostPort      uint16
	HostPortEnd   uint16 `json:",omitempty"` // as a wish only
	ContainerPort uint16
	Proto         string // tcp, udp or sctp
}

// Request is what a container wants of a network.
type Request struct {
	Container string   // its ID
	Names     []string // that neighbours find it by: its name, its short ID
	Aliases   []string // the same; those that the user gave
	// Links are names that this container alone has for its neighbours: to their own names.
	Links        map[string]string
	IPv4, IPv6   netip.Addr // not valid: any free one
	MAC          string     // empty: derived from the address
	Interface    string     // empty: the first free ethN
	DefaultRoute bool       // out of the container through this network
	Ports        []Port
	Options      map[string]string // recorded only
	Sysctls      map[string]string // net.* of the interface; IFNAME in a key stands for its name
}

// Endpoint is a container's place in a network: what Reserve took and Attach makes.
type Endpoint struct {
	ID             string // 64 hexadecimal digits
	Network        string // the ID
	NetworkName    string
	Driver         string
	Container      string
	Names, Aliases []string          `json:",omitempty"`
	Links          map[string]string `json:",omitempty"` // this container's names for others
	Interface      string            // in the container
	Link           string            `json:",omitempty"` // its other end, on the host; of a bridge
	MAC            string            `json:",omitempty"`
	IPv4, IPv6     netip.Prefix      `json:",omitzero"`
	Gateway4       netip.Addr        `json:",omitzero"`
	Gateway6       netip.Addr        `json:",omitzero"`
	DefaultRoute   bool              `json:",omitempty"`
	Ports          []Port            `json:",omitempty"` // as chosen, one per HostIP
	Options        map[string]string `json:",omitempty"`
	Sysctls        map[string]string `json:",omitempty"`
}
