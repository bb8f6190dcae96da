//go:build linux

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	apinet "github.com/moby/moby/api/types/network"

	"minidocker/final/network"
	"minidocker/final/shim"
)

// netError gives package network's errors their kinds.
func netError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, network.ErrNotExist), errors.Is(err, network.ErrNoEndpoint):
		return &Error{NotFound, err}
	case errors.Is(err, network.ErrExist), errors.Is(err, network.ErrConnected):
		return &Error{Conflict, err}
	case errors.Is(err, network.ErrInUse), errors.Is(err, network.ErrPredefined),
		errors.Is(err, network.ErrOverlap):
		return &Error{Forbidden, err}
	case errors.Is(err, network.ErrInvalid), errors.Is(err, network.ErrAddress):
		return &Error{Invalid, err}
	}
	return err
}

// chooseNetworks notes which networks the container will be in.
func (c *creation) chooseNetworks(config *apinet.NetworkingConfig) error {
	mode := c.r.HostConfig.NetworkMode
	c.r.Networks = map[string]*apinet.EndpointSettings{}
	if mode.IsContainer() {
		_, _, err := c.e.get(mode.ConnectedContainer())
		return missing(err)
	}
	if config != nil {
		maps.Copy(c.r.Networks, config.EndpointsConfig)
	}
	if s, ok := c.r.Networks["default"]; ok {
		delete(c.r.Networks, "default")
		c.r.Networks["bridge"] = s
	}
	if c.r.Networks[string(mode)] == nil {
		c.r.Networks[string(mode)] = &apinet.EndpointSettings{}
	}
	for name, s := range c.r.Networks {
		n, err := c.e.networks.Network(name)
		if errors.Is(err, network.ErrNotExist) { // it may be made before the container is started
			n, err = &network.Network{Config: network.Config{Name: name}}, nil
		}
		if err != nil {
			return netError(err)
		}
		if s == nil {
			s = &apinet.EndpointSettings{}
		}
		delete(c.r.Networks, name) // by its name, and not by its ID
		c.r.Networks[n.Name] = s
		if n.Name == network.Bridge && (len(s.Aliases) > 0) {
			return failed(Invalid, "network-scoped aliases are only supported for user-defined networks")
		}
		if a := s.IPAMConfig; a != nil && a.IPv4Address.IsValid() && n.Name == network.Bridge {
			return failed(Invalid, "user specified IP address is supported on user defined networks only")
		}
	}
	return nil
}

// missing is about what a container is made with: that it is not there is the caller's mistake.
// Were it NotFound, docker run would take it for the image that is not there, and pull that.
func missing(err error) error {
	if Code(err) == NotFound {
		return &Error{Invalid, err}
	}
	return err
}

// reserve takes addresses and ports for the container.
func (s *starting) reserve() error {
	mode := s.HostConfig.NetworkMode
	if mode.IsHost() || mode.IsNone() || mode.IsContainer() {
		return nil
	}
	ports, err := s.ports()
	if err != nil {
		return err
	}
	names := slices.Collect(maps.Keys(s.Networks))
	// The container's own first: it has the default route, and the ports.
	slices.SortFunc(names, func(a, b string) int {
		if (a == string(mode)) != (b == string(mode)) {
			if a == string(mode) {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	s.undo = append(s.undo, func() { _ = s.e.networks.Release(s.ID) })
	for i, name := range names {
		request := s.request(s.Networks[name])
		request.DefaultRoute = i == 0
		if i == 0 {
			request.Ports = ports
		}
		ep, err := s.e.networks.Reserve(name, request)
		if errors.Is(err, network.ErrPort) {
			return &StartError{125, fmt.Errorf("driver failed programming external connectivity on "+
				"endpoint %s: %w", s.Name, err)}
		}
		if err != nil {
			return netError(err)
		}
		s.endpoints = append(s.endpoints, ep)
	}
	return nil
}

// request is what a container wants of a network.
func (r *record) request(s *apinet.EndpointSettings) network.Request {
	request := network.Request{Container: r.ID, Names: []string{r.Name, r.ID[:12]}}
	if r.Config.Hostname != "" && r.Config.Hostname != r.ID[:12] {
		request.Names = append(request.Names, r.Config.Hostname)
	}
	if s == nil {
		return request
	}
	request.Aliases, request.Options = s.Aliases, s.DriverOpts
	for _, text := range s.Links {
		if request.Links == nil {
			request.Links = map[string]string{}
		}
		l := parseLink(text)
		request.Links[l.alias] = l.name
	}
	if len(s.MacAddress) > 0 {
		request.MAC = s.MacAddress.String()
	}
	if a := s.IPAMConfig; a != nil {
		request.IPv4, request.IPv6 = a.IPv4Address, a.IPv6Address
	}
	return request
}

// ports are those to publish.
func (s *starting) ports() ([]network.Port, error) {
	bindings := maps.Clone(s.HostConfig.PortBindings)
	if bindings == nil {
		bindings = apinet.PortMap{}
	}
	if s.HostConfig.PublishAllPorts {
		for port := range s.Config.ExposedPorts {
			if len(bindings[port]) == 0 {
				bindings[port] = []apinet.PortBinding{{}}
			}
		}
	}
	var all []network.Port
	for port, to := range bindings {
		for _, b := range to {
			p := network.Port{HostIP: b.HostIP, ContainerPort: port.Num(), Proto: string(port.Proto())}
			first, last, _ := strings.Cut(b.HostPort, "-")
			for _, one := range []struct {
				text string
				to   *uint16
			}{{first, &p.HostPort}, {last, &p.HostPortEnd}} {
				if one.text == "" {
					continue
				}
				n, err := strconv.ParseUint(one.text, 10, 16)
				if err != nil {
					return nil, failed(Invalid, "invalid host port %q", b.HostPort)
				}
				*one.to = uint16(n)
			}
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Proto, b.Proto),
			cmp.Compare(a.HostPort, b.HostPort))
	})
	return all, nil
}

// attachNetworks gives the container's new network namespace its links, while its init does the
// rest.
func (s *starting) attachNetworks(pid int) error {
	if len(s.endpoints) == 0 {
		return nil
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // init has failed already: its shim knows why, and says so
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := s.e.networks.Attach(ns, s.endpoints...); err != nil {
		return err
	}
	return s.e.forward(s.ID, s.endpoints)
}

// Connect puts a container in one more network: at once if it runs, and whenever it starts.
func (e *Engine) Connect(_ context.Context, ref string, r apinet.ConnectRequest) error {
	if err := e.open(); err != nil {
		return err
	}
	n, err := e.networks.Network(ref)
	if err != nil {
		return netError(err)
	}
	l, err := e.lock(r.Container)
	if err != nil {
		return err
	}
	defer l.unlock()
	mode := l.HostConfig.NetworkMode
	if mode.IsHost() || mode.IsContainer() || n.Name == network.Host || n.Name == network.None {
		return failed(Conflict, "container sharing network namespace with another container or host "+
			"cannot be connected to any other network")
	}
	if l.Networks[n.Name] != nil {
		return failed(Conflict, "endpoint with name %s already exists in network %s", l.Name, n.Name)
	}
	settings := r.EndpointConfig
	if settings == nil {
		settings = &apinet.EndpointSettings{}
	}
	if shim.Alive(l.runDir()) {
		if err := e.connectRunning(l, n.Name, settings); err != nil {
			return netError(err)
		}
	}
	if l.Networks == nil {
		l.Networks = map[string]*apinet.EndpointSettings{}
	}
	l.Networks[n.Name] = settings
	if err := e.write(l.record); err != nil {
		return err
	}
	e.happened(events.NetworkEventType, "connect", n.ID,
		map[string]string{"container": l.ID, "name": n.Name, "type": n.Driver})
	return nil
}

func (e *Engine) connectRunning(l *locked, name string, s *apinet.EndpointSettings) error {
	state, err := e.state(l.ID)
	if err != nil || state.Pid == 0 {
		return err
	}
	others, err := e.networks.Of(l.ID)
	if err != nil {
		return err
	}
	request := l.request(s)
	request.DefaultRoute = len(others) == 0
	ep, err := e.networks.Reserve(name, request)
	if err != nil {
		return err
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", state.Pid))
	if err == nil {
		defer ns.Close()
		err = e.networks.Attach(ns, ep)
	}
	if err == nil {
		err = e.resolve(l, others, ep)
	}
	if err != nil {
		_ = e.networks.Disconnect(ns, name, l.ID)
	}
	return err
}

// resolve lets a running container find its neighbours by name, if this is its first network where
// it can: its shim begins to answer, and its resolv.conf says so.
func (e *Engine) resolve(l *locked, others []*network.Endpoint, ep *network.Endpoint) error {
	if slices.ContainsFunc(others,
		func(o *network.Endpoint) bool { return o.NetworkName != network.Bridge }) {
		return nil
	}
	s := &starting{locked: l, endpoints: append(slices.Clone(others), ep)}
	text, err := s.resolvConf()
	if err != nil || s.dns == nil {
		return err
	}
	conn, _, err := e.ask(l.ID, shim.Request{Do: "dns", DNS: s.dns})
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	// Into the file that is there, which is bound into the container.
	return os.WriteFile(filepath.Join(l.dir(), "resolv.conf"), text, 0o644)
}

// Disconnect takes a container out of a network.
func (e *Engine) Disconnect(_ context.Context, ref string, r apinet.DisconnectRequest) error {
	if err := e.open(); err != nil {
		return err
	}
	n, err := e.networks.Network(ref)
	if err != nil {
		return netError(err)
	}
	l, err := e.lock(r.Container)
	if err != nil {
		return err
	}
	defer l.unlock()
	if l.Networks[n.Name] == nil {
		return failed(Conflict, "container %s is not connected to network %s", l.ID, n.Name)
	}
	if state, err := e.state(l.ID); err == nil && state.Status == "running" && state.Pid > 0 {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", state.Pid))
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := e.networks.Disconnect(ns, n.Name, l.ID); err != nil &&
			!errors.Is(err, network.ErrNoEndpoint) {
			return netError(err)
		}
	}
	delete(l.Networks, n.Name)
	if err := e.write(l.record); err != nil {
		return err
	}
	e.happened(events.NetworkEventType, "disconnect", n.ID,
		map[string]string{"container": l.ID, "name": n.Name, "type": n.Driver})
	return nil
}

// CreateNetwork makes a network.
func (e *Engine) CreateNetwork(
	_ context.Context, r apinet.CreateRequest,
) (apinet.CreateResponse, error) {
	var response apinet.CreateResponse
	if err := e.open(); err != nil {
		return response, err
	}
	c := network.Config{Name: r.Name, Driver: r.Driver, Options: r.Options, Labels: r.Labels,
		Internal: r.Internal, Attachable: r.Attachable}
	c.IPv4 = r.EnableIPv4 == nil || *r.EnableIPv4
	c.IPv6 = r.EnableIPv6 != nil && *r.EnableIPv6
	switch {
	case predefined(r.Name):
		return response, failed(Forbidden, "operation is not permitted on predefined %s network", r.Name)
	case r.ConfigOnly || r.ConfigFrom != nil || r.Ingress:
		return response, failed(Unavailable, "networks of a swarm are not supported")
	case r.Scope != "" && r.Scope != "local":
		return response, failed(Invalid, "network scope %q is not supported: there is local", r.Scope)
	}
	if r.IPAM != nil {
		if d := r.IPAM.Driver; d != "" && d != "default" {
			return response, failed(Invalid, "IPAM driver %q is not here: there is default", d)
		}
		for _, s := range r.IPAM.Config {
			c.Subnets = append(c.Subnets, network.Subnet{
				Subnet: s.Subnet, Gateway: s.Gateway, IPRange: s.IPRange, Aux: s.AuxAddress})
		}
	}
	n, err := e.networks.Create(c)
	if err != nil {
		return response, netError(err)
	}
	e.happened(events.NetworkEventType, "create", n.ID,
		map[string]string{"name": n.Name, "type": n.Driver})
	response.ID = n.ID
	return response, nil
}

// toNetwork is a network as the API has it.
func toNetwork(n *network.Network) apinet.Network {
	out := apinet.Network{Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver,
		EnableIPv4: n.IPv4, EnableIPv6: n.IPv6, Internal: n.Internal, Attachable: n.Attachable,
		IPAM: apinet.IPAM{Driver: "default", Config: []apinet.IPAMConfig{}}, Options: n.Options,
		Labels: n.Labels}
	for _, s := range n.Subnets {
		out.IPAM.Config = append(out.IPAM.Config, apinet.IPAMConfig{
			Subnet: s.Subnet, Gateway: s.Gateway, IPRange: s.IPRange, AuxAddress: s.Aux})
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

// Networks are all networks that pass the filters.
func (e *Engine) Networks(_ context.Context, f Filters) ([]apinet.Summary, error) {
	err := f.check("dangling", "driver", "id", "label", "label!", "name", "scope", "type")
	if err != nil {
		return nil, err
	}
	dangling, set, err := f.dangling()
	if err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	networks, err := e.networks.List()
	if err != nil {
		return nil, err
	}
	var users map[string]bool
	if set {
		if users, err = e.networkUsers(); err != nil {
			return nil, err
		}
	}
	all := []apinet.Summary{}
	for _, n := range networks {
		kind := "custom"
		if predefined(n.Name) {
			kind = "builtin"
		}
		if f.labels(n.Labels) && (!set || dangling == (kind == "custom" && !users[n.Name])) &&
			f.any("driver", func(v string) bool { return v == n.Driver }) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
			f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) &&
			f.any("scope", func(v string) bool { return v == "local" }) &&
			f.any("type", func(v string) bool { return v == kind }) {
			all = append(all, apinet.Summary{Network: toNetwork(n)})
		}
	}
	return all, nil
}

func predefined(name string) bool {
	return name == network.Bridge || name == network.Host || name == network.None
}

// networkUsers are the networks that a container is in, also one that does not run.
func (e *Engine) networkUsers() (map[string]bool, error) {
	records, err := e.records()
	if err != nil {
		return nil, err
	}
	users := map[string]bool{}
	for _, r := range records {
		for name := range r.Networks {
			users[name] = true
		}
	}
	return users, nil
}

// InspectNetwork is a network, with the running containers in it.
func (e *Engine) InspectNetwork(_ context.Context, ref string) (*apinet.Inspect, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	n, err := e.networks.Network(ref)
	if err != nil {
		return nil, netError(err)
	}
	out := &apinet.Inspect{Network: toNetwork(n), Containers: map[string]apinet.EndpointResource{}}
	endpoints, err := e.networks.Endpoints(n.ID)
	if err != nil {
		return nil, netError(err)
	}
	for _, ep := range endpoints {
		r, err := e.read(ep.Container)
		if err != nil {
			continue
		}
		out.Containers[ep.Container] = apinet.EndpointResource{Name: r.Name, EndpointID: ep.ID,
			MacAddress: hardware(ep.MAC), IPv4Address: ep.IPv4, IPv6Address: ep.IPv6}
	}
	return out, nil
}

func hardware(text string) apinet.HardwareAddr {
	mac, err := net.ParseMAC(text)
	if err != nil {
		return nil
	}
	return apinet.HardwareAddr(mac)
}

// RemoveNetwork removes a network that nobody is in.
func (e *Engine) RemoveNetwork(_ context.Context, ref string) error {
	if err := e.open(); err != nil {
		return err
	}
	n, err := e.networks.Network(ref)
	if err != nil {
		return netError(err)
	}
	if err := e.networks.Remove(n.ID); err != nil {
		return netError(err)
	}
	e.happened(events.NetworkEventType, "destroy", n.ID,
		map[string]string{"name": n.Name, "type": n.Driver})
	return nil
}

// PruneNetworks removes the networks that no container is in, not even one that does not run.
func (e *Engine) PruneNetworks(ctx context.Context, f Filters) (apinet.PruneReport, error) {
	report := apinet.PruneReport{NetworksDeleted: []string{}}
	if err := f.check("label", "label!", "until"); err != nil {
		return report, err
	}
	until, err := f.until()
	if err != nil {
		return report, err
	}
	networks, err := e.Networks(ctx, Filters{"label": f["label"], "label!": f["label!"],
		"dangling": {"true"}})
	if err != nil {
		return report, err
	}
	for _, n := range networks {
		if !until.IsZero() && n.Created.After(until) {
			continue
		}
		switch err := e.RemoveNetwork(ctx, n.ID); {
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		case Code(err) != Forbidden && Code(err) != NotFound:
			return report, err
		}
	}
	return report, nil
}

// endpointSettings are what inspect shows of a container's networks.
func (e *Engine) endpointSettings(r *record) (
	map[string]*apinet.EndpointSettings, []*network.Endpoint, error,
) {
	all := map[string]*apinet.EndpointSettings{}
	for name, s := range r.Networks {
		all[name] = s.Copy()
		all[name].NetworkID = ""
	}
	endpoints, err := e.networks.Of(r.ID)
	if err != nil {
		return nil, nil, err
	}
	for _, ep := range endpoints {
		s := all[ep.NetworkName]
		if s == nil {
			s = &apinet.EndpointSettings{}
			all[ep.NetworkName] = s
		}
		s.NetworkID, s.EndpointID, s.Gateway, s.IPv6Gateway = ep.Network, ep.ID, ep.Gateway4, ep.Gateway6
		s.MacAddress, s.DNSNames = hardware(ep.MAC), slices.Concat(ep.Names, ep.Aliases)
		if ep.IPv4.IsValid() {
			s.IPAddress, s.IPPrefixLen = ep.IPv4.Addr(), ep.IPv4.Bits()
		}
		if ep.IPv6.IsValid() {
			s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = ep.IPv6.Addr(), ep.IPv6.Bits()
		}
	}
	for name, s := range all { // where it is not running
		if s.NetworkID == "" {
			if n, err := e.networks.Network(name); err == nil {
				s.NetworkID = n.ID
			}
		}
	}
	return all, endpoints, nil
}

// portMap is what inspect and port show: ports that are exposed, and where they are published.
func portMap(r *record, endpoints []*network.Endpoint) apinet.PortMap {
	all := apinet.PortMap{}
	for port := range r.Config.ExposedPorts {
		all[port] = nil
	}
	for _, ep := range endpoints {
		for _, p := range ep.Ports {
			port, ok := apinet.PortFrom(p.ContainerPort, apinet.IPProtocol(p.Proto))
			if !ok {
				continue
			}
			for _, ip := range hostAddresses(p, ep) {
				all[port] = append(all[port], apinet.PortBinding{
					HostIP: ip, HostPort: strconv.Itoa(int(p.HostPort))})
			}
		}
	}
	return all
}

// hostAddresses are the addresses of the host that a port is published at; all are shown as those
// that mean all.
func hostAddresses(p network.Port, ep *network.Endpoint) []netip.Addr {
	if p.HostIP.IsValid() {
		return []netip.Addr{p.HostIP}
	}
	all := []netip.Addr{netip.IPv4Unspecified()}
	if ep.IPv6.IsValid() {
		all = append(all, netip.IPv6Unspecified())
	}
	return all
}

// portSummaries is what ps shows.
func portSummaries(ports apinet.PortMap) []container.PortSummary {
	all := []container.PortSummary{}
	for port, bindings := range ports {
		one := container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())}
		if len(bindings) == 0 {
			all = append(all, one)
		}
		for _, b := range bindings {
			n, _ := strconv.ParseUint(b.HostPort, 10, 16)
			one.IP, one.PublicPort = b.HostIP, uint16(n)
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type),
			a.IP.Compare(b.IP), cmp.Compare(a.PublicPort, b.PublicPort))
	})
	return all
}
