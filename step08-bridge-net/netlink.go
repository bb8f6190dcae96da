//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// A netlink message, netlink(7) and rtnetlink(7), all numbers in the machine's order:
//
//	struct nlmsghdr    length 4 | type 2 | flags 2 | sequence 4 | port 4
//	a family header    struct ifinfomsg, ifaddrmsg or rtmsg, by the type
//	struct rtattr …    length 2 | type 2 | data, padded to 4; may be nested
type message struct {
	kind, flags uint16
	body        []byte // the family header and the attributes
}

// vethPeer is VETH_INFO_PEER of linux/veth.h.
const vethPeer = 1

// linkMessage begins a message about a link: struct ifinfomsg of linux/rtnetlink.h.
func linkMessage(kind, flags uint16, index int) *message {
	m := &message{kind: kind, flags: flags}
	m.linkHeader(index, 0)
	return m
}

// linkHeader appends a struct ifinfomsg: family 1, padding 1, type 2, index 4, flags 4,
// and a mask 4 of the flags that are meant.
func (m *message) linkHeader(index int, flags uint32) {
	m.body = append(m.body, unix.AF_UNSPEC, 0, 0, 0)
	m.body = binary.NativeEndian.AppendUint32(m.body, uint32(index))
	m.body = binary.NativeEndian.AppendUint32(m.body, flags)
	m.body = binary.NativeEndian.AppendUint32(m.body, flags)
}

// attribute appends a struct rtattr.
func (m *message) attribute(kind uint16, data []byte) {
	m.nested(kind, func() { m.body = append(m.body, data...) })
}

func (m *message) number(kind uint16, n int) {
	m.attribute(kind, binary.NativeEndian.AppendUint32(nil, uint32(n)))
}

// text appends a string, which the kernel wants to end with a zero byte.
func (m *message) text(kind uint16, s string) { m.attribute(kind, append([]byte(s), 0)) }

// nested appends an attribute whose data is what add appends.
func (m *message) nested(kind uint16, add func()) {
	start := len(m.body)
	m.body = append(m.body, 0, 0, 0, 0)
	add()
	binary.NativeEndian.PutUint16(m.body[start:], uint16(len(m.body)-start))
	binary.NativeEndian.PutUint16(m.body[start+2:], kind)
	for len(m.body)%unix.NLA_ALIGNTO != 0 {
		m.body = append(m.body, 0)
	}
}

// send sends the message to the kernel, for the network namespace of this thread, and
// waits for the answer: a struct nlmsgerr, whose error 0 means done.
func (m *message) send() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	defer unix.Close(fd)
	packet := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(m.body)))
	packet = binary.NativeEndian.AppendUint16(packet, m.kind)
	packet = binary.NativeEndian.AppendUint16(packet, m.flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	packet = append(packet, make([]byte, 8)...) // one message a socket: no sequence needed
	packet = append(packet, m.body...)
	if err := unix.Sendto(fd, packet, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink send: %w", err)
	}
	answer := make([]byte, unix.Getpagesize())
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("netlink receive: %w", err)
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("netlink: an answer that is none")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// addBridge is "ip link add NAME address MAC type bridge".
func addBridge(name string, mac net.HardwareAddr) error {
	logrus.Debugf("netlink: add bridge %s", name)
	m := linkMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0)
	m.text(unix.IFLA_IFNAME, name)
	m.attribute(unix.IFLA_ADDRESS, mac)
	m.nested(unix.IFLA_LINKINFO, func() { m.text(unix.IFLA_INFO_KIND, "bridge") })
	if err := m.send(); err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	return nil
}

// addVeth makes a pair of links, a cable with two ends: "ip link add NAME type veth peer
// name PEER address MAC netns PID". The far end is born in the namespace of the process.
func addVeth(name, peer string, mac net.HardwareAddr, pid int) error {
	logrus.Debugf("netlink: add veth %s, its peer %s in process %d", name, peer, pid)
	m := linkMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0)
	m.text(unix.IFLA_IFNAME, name)
	m.nested(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, "veth")
		m.nested(unix.IFLA_INFO_DATA, func() {
			m.nested(vethPeer, func() {
				m.linkHeader(0, 0)
				m.text(unix.IFLA_IFNAME, peer)
				m.attribute(unix.IFLA_ADDRESS, mac)
				m.number(unix.IFLA_NET_NS_PID, pid)
			})
		})
	})
	if err := m.send(); err != nil {
		return fmt.Errorf("add veth %s: %w", name, err)
	}
	return nil
}

// changeLink sends a change of the link of that name.
func changeLink(name string, flags uint32, change func(*message)) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	m := &message{kind: unix.RTM_NEWLINK}
	m.linkHeader(link.Index, flags)
	change(m)
	if err := m.send(); err != nil {
		return fmt.Errorf("change link %s: %w", name, err)
	}
	return nil
}

// setUp is "ip link set NAME up".
func setUp(name string) error { return changeLink(name, unix.IFF_UP, func(*message) {}) }

// setMaster is "ip link set NAME master BRIDGE": plug the cable in.
func setMaster(name, bridge string) error {
	master, err := net.InterfaceByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	return changeLink(name, 0, func(m *message) { m.number(unix.IFLA_MASTER, master.Index) })
}

// setHairpin is "bridge link set dev NAME hairpin on": the bridge may send a packet back
// through the port that it came from, to a container that calls its own published port.
func setHairpin(name string) error {
	return changeLink(name, 0, func(m *message) {
		m.nested(unix.IFLA_LINKINFO, func() {
			m.text(unix.IFLA_INFO_SLAVE_KIND, "bridge")
			m.nested(unix.IFLA_INFO_SLAVE_DATA, func() {
				m.attribute(unix.IFLA_BRPORT_MODE, []byte{1})
			})
		})
	})
}

// deleteLink is "ip link del NAME"; it is no error if there is none. With one end of a
// veth goes the other.
func deleteLink(name string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil // gone: with its namespace, as a rule
	}
	err = linkMessage(unix.RTM_DELLINK, 0, link.Index).send()
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// addAddress is "ip addr add ADDRESS/BITS dev NAME": struct ifaddrmsg of
// linux/if_addr.h is family 1, prefix length 1, flags 1, scope 1, index 4.
func addAddress(name string, address netip.Prefix) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	m := &message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL}
	m.body = []byte{unix.AF_INET, byte(address.Bits()), 0, unix.RT_SCOPE_UNIVERSE}
	m.body = binary.NativeEndian.AppendUint32(m.body, uint32(link.Index))
	m.attribute(unix.IFA_LOCAL, address.Addr().AsSlice())
	m.attribute(unix.IFA_ADDRESS, address.Addr().AsSlice())
	if err := m.send(); err != nil {
		return fmt.Errorf("add address %s to %s: %w", address, name, err)
	}
	return nil
}

// addDefaultRoute is "ip route add default via GATEWAY": struct rtmsg of
// linux/rtnetlink.h is family 1, destination bits 1, source bits 1, tos 1, table 1,
// protocol 1, scope 1, type 1, flags 4.
func addDefaultRoute(gateway netip.Addr) error {
	m := &message{kind: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL}
	m.body = []byte{
		unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN,
		unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0,
	}
	m.attribute(unix.RTA_GATEWAY, gateway.AsSlice())
	if err := m.send(); err != nil {
		return fmt.Errorf("add default route via %s: %w", gateway, err)
	}
	return nil
}
