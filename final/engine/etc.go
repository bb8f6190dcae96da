//go:build linux

package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"minidocker/final/network"
	"minidocker/final/shim"
)

// writeEtc writes the container's hostname, hosts and resolv.conf.
func (s *starting) writeEtc() error {
	if s.HostConfig.NetworkMode.IsContainer() {
		return nil // it has the other one's
	}
	write := func(name string, text []byte) error {
		return os.WriteFile(filepath.Join(s.dir(), name), text, 0o644)
	}
	if err := write("hostname", []byte(s.Config.Hostname+"\n")); err != nil {
		return err
	}
	hosts, err := s.hosts()
	if err != nil {
		return err
	}
	if err := write("hosts", hosts); err != nil {
		return err
	}
	resolv, err := s.resolvConf()
	if err != nil {
		return err
	}
	return write("resolv.conf", resolv)
}

// hosts is /etc/hosts: the host's own for a container in its network.
func (s *starting) hosts() ([]byte, error) {
	var text bytes.Buffer
	if s.HostConfig.NetworkMode.IsHost() {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		text.Write(own)
		if len(own) > 0 && own[len(own)-1] != '\n' {
			text.WriteByte('\n')
		}
	} else {
		text.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n" +
			"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, extra := range s.HostConfig.ExtraHosts {
		name, address, ok := strings.Cut(extra, ":")
		if !ok {
			name, address, ok = strings.Cut(extra, "=")
		}
		if !ok {
			return nil, failed(Invalid, "bad format for add-host: %s", quoted(extra))
		}
		if address == "host-gateway" {
			for _, ep := range s.endpoints {
				if ep.Gateway4.IsValid() {
					address = ep.Gateway4.String()
				}
			}
		}
		if _, err := netip.ParseAddr(address); err != nil {
			return nil, failed(Invalid, "invalid IP address in add-host: %s", quoted(address))
		}
		fmt.Fprintf(&text, "%s\t%s\n", address, name)
	}
	linkHosts(&text, s.links)
	names := s.Config.Hostname
	if s.Config.Domainname != "" {
		names = names + "." + s.Config.Domainname + " " + names
	}
	for _, ep := range s.endpoints {
		if ep.IPv4.IsValid() {
			fmt.Fprintf(&text, "%s\t%s\n", ep.IPv4.Addr(), names)
		}
		if ep.IPv6.IsValid() {
			fmt.Fprintf(&text, "%s\t%s\n", ep.IPv6.Addr(), names)
		}
	}
	return text.Bytes(), nil
}

// resolvConf is /etc/resolv.conf; in networks of the user's, names of neighbours resolve, by way
// of the container's shim.
func (s *starting) resolvConf() ([]byte, error) {
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var dns []string
	for _, a := range s.HostConfig.DNS {
		dns = append(dns, a.String())
	}
	if s.HostConfig.NetworkMode.IsHost() && len(dns)+len(s.HostConfig.DNSSearch)+
		len(s.HostConfig.DNSOptions) == 0 {
		return host, nil
	}
	users := slices.ContainsFunc(s.endpoints,
		func(ep *network.Endpoint) bool { return ep.NetworkName != network.Bridge })
	text, upstream := network.ResolvConf(host, users, dns, s.HostConfig.DNSSearch,
		s.HostConfig.DNSOptions)
	if users {
		s.dns = &shim.DNS{Run: s.e.o.Run + "/network", Upstream: upstream}
	}
	return text, nil
}

// etcMounts bind these files into the container, unless the user has mounts there.
func (s *starting) etcMounts(users map[string]bool) ([]specs.Mount, error) {
	dir := s.dir()
	if mode := s.HostConfig.NetworkMode; mode.IsContainer() {
		other, _, err := s.e.get(mode.ConnectedContainer())
		if err != nil {
			return nil, err
		}
		dir = s.e.dir(other.ID)
	}
	var all []specs.Mount
	for _, name := range []string{"resolv.conf", "hostname", "hosts"} {
		if users["/etc/"+name] {
			continue
		}
		mode := "rw"
		if s.HostConfig.ReadonlyRootfs {
			mode = "ro"
		}
		all = append(all, bindMount(filepath.Join(dir, name), "/etc/"+name, mode, "rprivate"))
	}
	return all, nil
}
