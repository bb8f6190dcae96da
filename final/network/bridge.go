//go:build linux

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readyBridge returns the network's bridge. It makes the bridge, and the rules of all networks, if
// they are not there: after a reboot, or after somebody emptied the firewall. The bridge is set up
// last, so one that is up is whole.
func (s *Store) readyBridge(h *netlink.Handle, n *Network) (netlink.Link, error) {
	rules, err := s.lockFile("rules", unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	link, err := ready(h, n)
	rules.Close()
	if link != nil || err != nil {
		return link, err
	}
	rules, err = s.lockFile("rules", unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer rules.Close()
	if link, err := ready(h, n); link != nil || err != nil {
		return link, err // another made it meanwhile
	}
	return s.makeBridge(h, n)
}

// ready returns the bridge; nil if it is not up or there are no rules.
func ready(h *netlink.Handle, n *Network) (netlink.Link, error) {
	link, err := h.LinkByName(n.bridge())
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil, nil
	}
	if err != nil || link.Attrs().Flags&net.FlagUp == 0 {
		return nil, err
	}
	nft, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	defer closeLater(nft)
	_, err = nft.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return link, err
}

// makeBridge makes what of the bridge is not there.
func (s *Store) makeBridge(h *netlink.Handle, n *Network) (netlink.Link, error) {
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name, bridge.MTU = n.bridge(), n.mtu()
	// One that is given no address takes the lowest of its ports', and so another one as
	// containers come and go.
	bridge.HardwareAddr = hardwareAddress(n.Subnets[0].Gateway)
	if err := h.LinkAdd(bridge); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	link, err := h.LinkByName(n.bridge())
	if err != nil {
		return nil, err
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("%w: there is another interface of that name", ErrInvalid)
	}
	if err := n.forwarding(); err != nil {
		return nil, err
	}
	for _, sub := range n.Subnets {
		address := netip.PrefixFrom(sub.Gateway, sub.Subnet.Bits())
		if err := addAddress(h, link, address); err != nil {
			return nil, err
		}
	}
	if err := s.writeRules(""); err != nil {
		return nil, err
	}
	if err := acceptForward(n.bridge()); err != nil {
		return nil, err
	}
	return link, h.LinkSetUp(link)
}

// forwarding makes the machine a router, and lets packets from 127.0.0.1 to a published port out
// through the bridge, which the kernel calls martian otherwise.
func (n *Network) forwarding() error {
	if err := writeSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if err := writeSysctl("net/ipv4/conf/"+n.bridge()+"/route_localnet", "1"); err != nil {
		return err
	}
	// Where there is no IPv6, no container can send router advertisements (CVE-2020-13401).
	if err := setIPv6(n.bridge(), n.IPv6); err != nil || !n.IPv6 {
		return err
	}
	if err := writeSysctl("net/ipv6/conf/"+n.bridge()+"/accept_ra", "0"); err != nil {
		return err
	}
	return routeIPv6()
}

// routeIPv6 makes the machine an IPv6 router. A router heeds no router advertisements, unless an
// interface says 2: where the machine has its own route from one, it would lose it.
func routeIPv6() error {
	const all = "net/ipv6/conf/all/forwarding"
	if value, err := readSysctl(all); err != nil || value == "1" {
		return err
	}
	interfaces, err := readNames("/proc/sys/net/ipv6/conf")
	if err != nil {
		return err
	}
	for _, name := range interfaces {
		file := "net/ipv6/conf/" + name + "/accept_ra"
		if value, err := readSysctl(file); err == nil && value == "1" && name != "all" {
			if err := writeSysctl(file, "2"); err != nil {
				return err
			}
		}
	}
	return writeSysctl(all, "1")
}

// setIPv6 turns IPv6 on or off for an interface of this thread's namespace. A kernel without IPv6
// has it off already.
func setIPv6(name string, on bool) error {
	value := "1"
	if on {
		value = "0"
	}
	err := writeSysctl("net/ipv6/conf/"+name+"/disable_ipv6", value)
	if errors.Is(err, fs.ErrNotExist) && on {
		return fmt.Errorf("this machine has no IPv6: is ipv6.disable=1 on the kernel's command "+
			"line? %w", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func readSysctl(path string) (string, error) {
	value, err := os.ReadFile(filepath.Join("/proc/sys", path))
	return strings.TrimSpace(string(value)), err
}

// writeSysctl writes a value unless it is there: what is right may be read-only.
func writeSysctl(path, value string) error {
	if now, err := readSysctl(path); err == nil && now == value {
		return nil
	}
	return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0o644)
}

// readLines returns the lines of a file, without their ends.
func readLines(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}
