//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// port is one -p [IP:]HOST:CONT[/PROTOCOL].
type port struct {
	IP              netip.Addr // of the host; not valid for all
	Host, Container uint16
	Protocol        string // tcp or udp
}

func parsePort(spec string) (port, error) {
	wrong := fmt.Errorf("-p %q: want HOST:CONT, IP:HOST:CONT, or the same with /udp at the end", spec)
	numbers, protocol, found := strings.Cut(spec, "/")
	if !found {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" {
		return port{}, wrong
	}
	p := port{Protocol: protocol}
	parts := strings.Split(numbers, ":")
	if len(parts) == 3 {
		ip, err := netip.ParseAddr(parts[0])
		if err != nil || !ip.Is4() {
			return port{}, wrong
		}
		p.IP = ip
		parts = parts[1:]
	}
	if len(parts) != 2 {
		return port{}, wrong
	}
	for i, number := range []*uint16{&p.Host, &p.Container} {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil || n == 0 {
			return port{}, wrong
		}
		*number = uint16(n)
	}
	return p, nil
}

// holdPort listens on the host's port without ever accepting: no packet comes that far,
// but no other program and no other container can have the port meanwhile.
func holdPort(p port) (io.Closer, error) {
	ip := "0.0.0.0"
	if p.IP.IsValid() {
		ip = p.IP.String()
	}
	address := net.JoinHostPort(ip, strconv.Itoa(int(p.Host)))
	var listener io.Closer
	var err error
	if p.Protocol == "udp" {
		listener, err = net.ListenPacket("udp4", address)
	} else {
		listener, err = net.Listen("tcp4", address)
	}
	if err != nil {
		return nil, fmt.Errorf("publish port %d: %w", p.Host, err)
	}
	return listener, nil
}

// allowForwarding makes the machine a router, and lets packets from 127.0.0.1 to a
// published port out through the bridge, which the kernel calls martian otherwise.
func allowForwarding(bridge string) error {
	for _, name := range []string{
		"ipv4/ip_forward",
		"ipv4/conf/" + bridge + "/route_localnet",
		// Else a container could send the host router advertisements (CVE-2020-13401).
		"ipv6/conf/" + bridge + "/disable_ipv6",
	} {
		file := "/proc/sys/net/" + name
		value, err := os.ReadFile(file)
		if string(value) == "1\n" || (errors.Is(err, fs.ErrNotExist) && name[:4] == "ipv6") {
			continue // it is so, or this kernel has no IPv6
		}
		if err := os.WriteFile(file, []byte("1"), 0); err != nil {
			return err
		}
	}
	return nil
}

// jumps lead from the kernel's chains into ours, which hold all our rules.
var jumps = []struct{ table, chain, rule string }{
	{"raw", "PREROUTING", "-j MINIDOCKER"},
	{"nat", "PREROUTING", "-m addrtype --dst-type LOCAL -j MINIDOCKER"},
	{"nat", "OUTPUT", "-m addrtype --dst-type LOCAL -j MINIDOCKER"},
	{"nat", "POSTROUTING", "-j MINIDOCKER-OUT"},
	{"filter", "FORWARD", "-j MINIDOCKER"},
}

// writeRules makes the firewall's rules those that the networks and sandboxes on record
// call for: always all of them anew, in one go, so that none is left behind. The
// networks are locked; one that is about to be removed may be left out.
func writeRules(without string) error {
	networks, err := readNetworks()
	if err != nil {
		return err
	}
	delete(networks, without)
	sandboxes, err := readSandboxes()
	if err != nil {
		return err
	}
	saved, err := iptables("iptables-save", "")
	if len(networks) == 0 && errors.Is(err, exec.ErrNotFound) {
		return nil // no tool, no rules
	}
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, table := range []struct{ name, rules, chains string }{
		{"raw", rawRules(networks), "MINIDOCKER"},
		{"nat", natRules(networks, sandboxes), "MINIDOCKER MINIDOCKER-OUT"},
		{"filter", filterRules(networks), "MINIDOCKER"},
	} {
		_, now, _ := strings.Cut(saved, "*"+table.name+"\n")
		now, _, _ = strings.Cut(now, "COMMIT")
		there := strings.Contains(now, ":MINIDOCKER")
		if len(networks) == 0 && !there {
			continue
		}
		fmt.Fprintf(&text, "*%s\n", table.name)
		for _, chain := range strings.Fields(table.chains) {
			fmt.Fprintf(&text, ":%s - [0:0]\n", chain) // makes it, or empties it
		}
		text.WriteString(table.rules)
		for _, j := range jumps {
			has := strings.Contains(now, fmt.Sprintf("-A %s %s\n", j.chain, j.rule))
			if j.table == table.name && len(networks) > 0 && !has {
				fmt.Fprintf(&text, "-I %s %s\n", j.chain, j.rule) // first: before docker's
			}
			if j.table == table.name && len(networks) == 0 && has {
				fmt.Fprintf(&text, "-D %s %s\n", j.chain, j.rule)
			}
		}
		for _, chain := range strings.Fields(table.chains) {
			if len(networks) == 0 {
				fmt.Fprintf(&text, "-X %s\n", chain)
			}
		}
		text.WriteString("COMMIT\n")
	}
	if text.Len() == 0 {
		return nil
	}
	_, err = iptables("iptables-restore", text.String(), "--noflush", "--wait")
	return err
}

// iptables runs a tool of package iptables and returns what it prints.
func iptables(tool, input string, args ...string) (string, error) {
	cmd := exec.Command(tool, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s (package iptables): %w: %s", tool, err, problem.String())
	}
	return out.String(), nil
}

// rawRules keep 127.0.0.1 to the host. With route_localnet a container could reach what
// listens there only (CVE-2020-8558), and a neighbour a port that is published there
// only: its packet would be on its way to the container before anyone looks. Nor may a
// packet pass for one from the host itself.
func rawRules(networks map[string]network) string {
	if len(networks) == 0 {
		return ""
	}
	return "-A MINIDOCKER ! -i lo -d 127.0.0.0/8 -j DROP\n" +
		"-A MINIDOCKER ! -i lo -s 127.0.0.0/8 -j DROP\n"
}

// natRules change addresses: where to, of what comes to a published port; where from, of
// what leaves a container's network.
func natRules(networks map[string]network, sandboxes map[string]*sandbox) string {
	rules := ""
	for _, sb := range sandboxes {
		for _, ep := range sb.Endpoints {
			for _, p := range ep.Ports {
				to := ""
				if p.IP.IsValid() && !p.IP.IsUnspecified() {
					to = "-d " + p.IP.String()
				}
				rules += fmt.Sprintf("-A MINIDOCKER %s -p %s --dport %d -j DNAT --to-destination %s:%d\n",
					to, p.Protocol, p.Host, ep.Address.Addr(), p.Container)
			}
		}
	}
	for _, n := range networks {
		// To the outside, as the host.
		rules += fmt.Sprintf("-A MINIDOCKER-OUT -s %s ! -o %s -j MASQUERADE\n", n.Subnet, n.Bridge)
		// From 127.0.0.1, and from a neighbour, to a published port: the answer must come
		// back through the host, which knows whom it was from.
		rules += fmt.Sprintf("-A MINIDOCKER-OUT -s 127.0.0.0/8 -o %s -j MASQUERADE\n", n.Bridge)
		rules += fmt.Sprintf("-A MINIDOCKER-OUT -s %s -o %s -m conntrack --ctstate DNAT -j MASQUERADE\n",
			n.Subnet, n.Bridge)
	}
	return rules
}

// filterRules say what is forwarded: into a network what belongs to a connection from
// inside or came through a published port, and all that stays in it; out of it all.
func filterRules(networks map[string]network) string {
	in, out := "", ""
	for _, n := range networks {
		in += fmt.Sprintf("-A MINIDOCKER -o %s -m conntrack --ctstate RELATED,ESTABLISHED,DNAT "+
			"-j ACCEPT\n", n.Bridge)
		in += fmt.Sprintf("-A MINIDOCKER -i %s -o %s -j ACCEPT\n", n.Bridge, n.Bridge)
		in += fmt.Sprintf("-A MINIDOCKER -o %s -j DROP\n", n.Bridge)
		out += fmt.Sprintf("-A MINIDOCKER -i %s -j ACCEPT\n", n.Bridge)
	}
	return in + out
}
