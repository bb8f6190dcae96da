package request

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/network"
)

// Ports reads --publish, [[IP:]HOST:]CONTAINER[/PROTOCOL] with ranges, and --expose. What is
// published is exposed as well.
func Ports(published, expose []string) (network.PortSet, network.PortMap, error) {
	exposed, bindings := network.PortSet{}, network.PortMap{}
	for _, s := range published {
		spec, err := shortNotation(s)
		if err != nil {
			return nil, nil, err
		}
		mappings, err := nat.ParsePortSpec(spec)
		if err != nil {
			return nil, nil, err
		}
		for _, m := range mappings {
			port, err := network.ParsePort(string(m.Port))
			if err != nil {
				return nil, nil, err
			}
			binding := network.PortBinding{HostPort: m.Binding.HostPort}
			if m.Binding.HostIP != "" {
				if binding.HostIP, err = netip.ParseAddr(m.Binding.HostIP); err != nil {
					return nil, nil, fmt.Errorf("invalid publish address: %w", err)
				}
			}
			exposed[port] = struct{}{}
			bindings[port] = append(bindings[port], binding)
		}
	}
	for _, s := range expose {
		ports, err := network.ParsePortRange(s)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid range format for --expose: %w", err)
		}
		for port := range ports.All() {
			exposed[port] = struct{}{}
		}
	}
	return exposed, bindings, nil
}

// shortNotation is HOST:CONTAINER/PROTOCOL for published=HOST,target=CONTAINER,protocol=….
func shortNotation(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return s, nil
	}
	m := map[string]string{"protocol": "tcp"}
	for pair := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return "", fmt.Errorf(
				"invalid publish opts format (should be name=value but got '%s')", pair)
		}
		m[key] = value
	}
	return m["published"] + ":" + m["target"] + "/" + m["protocol"], nil
}
