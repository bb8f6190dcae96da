package request

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// attachment is one --network.
type attachment struct {
	target   string
	endpoint network.EndpointSettings
}

// networks reads --network and the flags about the first of them (--ip, --network-alias …): the
// network mode, and the settings for each network that has some.
func networks(f Flags) (string, map[string]*network.EndpointSettings, error) {
	values := append(f.StringSlice("network"), f.StringSlice("net")...)
	if len(values) == 0 {
		values = []string{network.NetworkDefault}
	}
	endpoints := map[string]*network.EndpointSettings{}
	var mode string
	userDefined := 0
	for i, value := range values {
		a, err := parseAttachment(value)
		if err != nil {
			return "", nil, invalid("network", value, err)
		}
		if i == 0 {
			mode = a.target
			if err := a.apply(f); err != nil {
				return "", nil, err
			}
		}
		user := container.NetworkMode(a.target).IsUserDefined()
		if user {
			userDefined++
		}
		if !user && len(a.endpoint.Aliases) > 0 {
			return "", nil, errors.New(
				"network-scoped aliases are only supported for user-defined networks")
		}
		if endpoints[a.target] != nil {
			return "", nil, fmt.Errorf("network %q is specified multiple times", a.target)
		}
		// Docker says nothing of a single network that is like any other.
		if len(values) > 1 || f.IsSet("network") && !reflect.ValueOf(a.endpoint).IsZero() ||
			!f.IsSet("network") && !f.IsSet("net") {
			endpoints[a.target] = &a.endpoint
		}
	}
	if userDefined > 0 && userDefined < len(values) {
		return "", nil, errors.New("conflicting options: cannot attach both user-defined and " +
			"non-user-defined network-modes")
	}
	return mode, endpoints, nil
}

// parseAttachment reads NAME or name=NAME,ip=…,alias=….
func parseAttachment(value string) (*attachment, error) {
	a := &attachment{target: value}
	if !strings.Contains(value, "=") {
		if strings.TrimSpace(value) == "" {
			return nil, errors.New("no name set for network")
		}
		return a, nil
	}
	a.target = ""
	fields, err := fieldsOf(value)
	if err != nil {
		return nil, err
	}
	for _, field := range fields {
		key, v, ok := strings.Cut(field, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return nil, fmt.Errorf("invalid field %s", field)
		}
		if err := a.option(key, strings.TrimSpace(v)); err != nil {
			return nil, err
		}
	}
	if a.target == "" {
		return nil, errors.New("network name/id is not specified")
	}
	return a, nil
}

func (a *attachment) option(key, value string) (err error) {
	switch key {
	case "name":
		a.target = value
	case "alias":
		a.endpoint.Aliases = append(a.endpoint.Aliases, value)
	case "ip":
		a.ipam().IPv4Address, err = netip.ParseAddr(value)
	case "ip6":
		a.ipam().IPv6Address, err = netip.ParseAddr(value)
	case "link-local-ip":
		var addr netip.Addr
		addr, err = netip.ParseAddr(value)
		a.ipam().LinkLocalIPs = append(a.ipam().LinkLocalIPs, addr)
	case "mac-address":
		err = a.mac(value)
	case "driver-opt":
		k, v, ok := strings.Cut(value, "=")
		if !ok || k == "" {
			return errors.New("invalid key value pair format in driver options")
		}
		if a.endpoint.DriverOpts == nil {
			a.endpoint.DriverOpts = map[string]string{}
		}
		a.endpoint.DriverOpts[k] = v
	case "gw-priority":
		if a.endpoint.GwPriority, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("invalid gw-priority (%s): %w", value, err)
		}
	default:
		return errors.New("invalid field key " + key)
	}
	return err
}

func (a *attachment) ipam() *network.EndpointIPAMConfig {
	if a.endpoint.IPAMConfig == nil {
		a.endpoint.IPAMConfig = &network.EndpointIPAMConfig{}
	}
	return a.endpoint.IPAMConfig
}

func (a *attachment) mac(value string) error {
	mac, err := net.ParseMAC(strings.TrimSpace(value))
	if err != nil {
		return fmt.Errorf("%s is not a valid mac address", value)
	}
	a.endpoint.MacAddress = network.HardwareAddr(mac)
	return nil
}

// apply adds what the flags beside --network say. The same in both is an error.
func (a *attachment) apply(f Flags) error {
	has := a.endpoint.IPAMConfig
	if has == nil {
		has = &network.EndpointIPAMConfig{}
	}
	for _, c := range []struct {
		there bool
		flag  string
		what  string
	}{
		{len(a.endpoint.Aliases) > 0, "network-alias", "alias"},
		{len(a.endpoint.Aliases) > 0, "net-alias", "alias"},
		{has.IPv4Address.IsValid(), "ip", "IPv4 address"},
		{has.IPv6Address.IsValid(), "ip6", "IPv6 address"},
		{len(a.endpoint.MacAddress) > 0, "mac-address", "MAC address"},
		{len(has.LinkLocalIPs) > 0, "link-local-ip", "link-local IP addresses"},
	} {
		if c.there && f.IsSet(c.flag) {
			return fmt.Errorf("conflicting options: cannot specify both --%s and per-network %s",
				c.flag, c.what)
		}
	}
	return a.flags(f)
}

// flags are the endpoint's settings that have flags of their own.
func (a *attachment) flags(f Flags) error {
	a.endpoint.Aliases = append(a.endpoint.Aliases, f.StringSlice("network-alias")...)
	a.endpoint.Aliases = append(a.endpoint.Aliases, f.StringSlice("net-alias")...)
	for _, flag := range []string{"ip", "ip6", "mac-address"} {
		if value := f.String(flag); value != "" {
			if err := a.option(flag, value); err != nil {
				return invalid(flag, value, err)
			}
		}
	}
	for _, value := range f.StringSlice("link-local-ip") {
		if err := a.option("link-local-ip", value); err != nil {
			return invalid("link-local-ip", value, err)
		}
	}
	return nil
}

// Endpoint is the settings that network connect is given.
func Endpoint(f Flags) (*network.EndpointSettings, error) {
	a := &attachment{}
	a.endpoint.Aliases = f.StringSlice("alias")
	for _, value := range f.StringSlice("driver-opt") {
		if err := a.option("driver-opt", value); err != nil {
			return nil, invalid("driver-opt", value, err)
		}
	}
	if f.IsSet("gw-priority") {
		a.endpoint.GwPriority = f.Int("gw-priority")
	}
	return &a.endpoint, a.flags(f)
}

// Network is the request of network create.
func Network(f Flags, name string) (network.CreateRequest, error) {
	r := network.CreateRequest{
		Name: name, Driver: f.String("driver"), Internal: f.Bool("internal"),
		Attachable: f.Bool("attachable"), Options: Pairs(f.StringSlice("opt")),
	}
	if f.IsSet("ipv6") {
		on := f.Bool("ipv6")
		r.EnableIPv6 = &on
	}
	if f.IsSet("ipv4") {
		on := f.Bool("ipv4")
		r.EnableIPv4 = &on
	}
	var err error
	if r.Labels, err = Labels(nil, f.StringSlice("label")); err != nil {
		return r, err
	}
	config, err := ipamConfig(f)
	if err != nil {
		return r, err
	}
	driver := f.String("ipam-driver")
	if driver == "" {
		driver = "default"
	}
	r.IPAM = &network.IPAM{Driver: driver, Options: Pairs(f.StringSlice("ipam-opt")), Config: config}
	return r, nil
}

// ipamConfig finds for each range, gateway and auxiliary address the subnet that it is in.
func ipamConfig(f Flags) ([]network.IPAMConfig, error) {
	subnets, err := each(f, "subnet", netip.ParsePrefix)
	if err != nil {
		return nil, err
	}
	config := make([]network.IPAMConfig, len(subnets))
	for i, subnet := range subnets {
		for _, other := range subnets[:i] {
			if subnet.Overlaps(other) {
				return nil, errors.New("multiple overlapping subnet configuration is not supported")
			}
		}
		config[i].Subnet = subnet
	}
	within := func(addr netip.Addr) (*network.IPAMConfig, error) {
		for i := range config {
			if config[i].Subnet.Contains(addr) {
				return &config[i], nil
			}
		}
		return nil, fmt.Errorf("no matching subnet for %s: give one with --subnet", addr)
	}
	for _, value := range f.StringSlice("ip-range") {
		prefix, err := netip.ParsePrefix(value)
		if err != nil {
			return nil, invalid("ip-range", value, err)
		}
		c, err := within(prefix.Addr())
		if err != nil {
			return nil, err
		}
		if c.IPRange.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)",
				prefix, c.IPRange, c.Subnet)
		}
		c.IPRange = prefix
	}
	for _, value := range f.StringSlice("gateway") {
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return nil, invalid("gateway", value, err)
		}
		c, err := within(addr)
		if err != nil {
			return nil, err
		}
		if c.Gateway.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)",
				addr, c.Gateway, c.Subnet)
		}
		c.Gateway = addr
	}
	return config, auxAddresses(f, within)
}

func auxAddresses(f Flags, within func(netip.Addr) (*network.IPAMConfig, error)) error {
	for _, value := range f.StringSlice("aux-address") {
		name, ip, ok := strings.Cut(value, "=")
		if !ok {
			return invalid("aux-address", value, errors.New("want NAME=IP"))
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return invalid("aux-address", value, err)
		}
		c, err := within(addr)
		if err != nil {
			return err
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = addr
	}
	return nil
}
