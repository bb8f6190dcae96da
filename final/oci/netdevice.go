//go:build linux

package oci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// validateNetDevices sees that linux.netDevices can be what it says.
func validateNetDevices(l *specs.Linux, network bool) error {
	taken := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(l.NetDevices)) {
		inside := l.NetDevices[name].Name
		if inside == "" {
			inside = name
		}
		switch {
		case !network:
			return errors.New("linux.netDevices need a network namespace")
		case !validDeviceName(name):
			return fmt.Errorf("linux.netDevices: invalid network device name %q", name)
		case !validDeviceName(inside):
			return fmt.Errorf("linux.netDevices: invalid network device name %q", inside)
		case taken[inside] && !strings.Contains(inside, "%d"):
			return fmt.Errorf("linux.netDevices: two devices are to be %q", inside)
		}
		taken[inside] = true
	}
	return nil
}

// validDeviceName is the kernel's rule: dev_valid_name in net/core/dev.c.
func validDeviceName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) < unix.IFNAMSIZ &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return r == '/' || r == ':' || unicode.IsSpace(r)
		})
}

// moveDevices moves network devices into the namespace of a process, as linux.netDevices
// wants it: with their permanent addresses, which the kernel takes from a device that it
// moves, and up.
func (b *creation) moveDevices(pid int) error {
	devices := b.spec.Linux.NetDevices
	if len(devices) == 0 {
		return nil
	}
	ns, err := rawfd.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer ns.Close()
	outside, err := openRoutes()
	if err != nil {
		return err
	}
	defer unix.Close(int(outside))
	inside, err := openRoutesIn(ns)
	if err != nil {
		return err
	}
	defer unix.Close(int(inside))
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		to := devices[name].Name
		if to == "" {
			to = name
		}
		if err := moveDevice(outside, inside, ns, name, to); err != nil {
			return fmt.Errorf("linux.netDevices: move %q to be %q: %w", name, to, err)
		}
	}
	return nil
}

func moveDevice(outside, inside routes, ns *rawfd.File, name, to string) error {
	here, err := outside.links()
	if err != nil {
		return err
	}
	index, ok := here[name]
	if !ok {
		return errors.New("there is no such network device")
	}
	there, err := inside.links()
	if err != nil {
		return err
	}
	// The kernel would say so when the device is moved already.
	if _, ok := there[to]; ok {
		return errors.New("there is a device of that name in the container's network namespace")
	}
	addresses, err := outside.addresses(index)
	if err != nil {
		return err
	}
	move := linkMessage(index, 0)
	move = attribute(move, unix.IFLA_NET_NS_FD, binary.NativeEndian.AppendUint32(nil, uint32(ns.Fd())))
	move = attribute(move, unix.IFLA_IFNAME, append([]byte(to), 0))
	if _, err := outside.ask(unix.RTM_NEWLINK, 0, move); err != nil {
		return err
	}
	now, err := inside.links()
	if err != nil {
		return err
	}
	index = now[to]
	for name, i := range now { // it may have another number, and of a template another name
		if _, old := there[name]; !old && index == 0 {
			index = i
		}
	}
	for _, a := range addresses {
		binary.NativeEndian.PutUint32(a[4:], uint32(index)) // struct ifaddrmsg
		_, err := inside.ask(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, a)
		if err != nil {
			return fmt.Errorf("give it its address: %w", err)
		}
	}
	if _, err := inside.ask(unix.RTM_NEWLINK, 0, linkMessage(index, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}

// routes is a socket for rtnetlink(7) in one network namespace. Step 08 has it at length.
type routes int

func openRoutes() (routes, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	return routes(fd), os.NewSyscallError("socket", err)
}

// openRoutesIn opens it in another namespace, in which it stays.
func openRoutesIn(ns *rawfd.File) (routes, error) {
	type opened struct {
		routes
		error
	}
	result := make(chan opened)
	go func() {
		runtime.LockOSThread() // and no unlocking: the thread ends with this function
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- opened{-1, os.NewSyscallError("setns", err)}
			return
		}
		r, err := openRoutes()
		result <- opened{r, err}
	}()
	r := <-result
	return r.routes, r.error
}

// linkMessage is struct ifinfomsg, about a device by its number, which is to have a flag.
func linkMessage(index, flag int) []byte {
	m := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(m[4:], uint32(index))
	binary.NativeEndian.PutUint32(m[8:], uint32(flag))
	binary.NativeEndian.PutUint32(m[12:], uint32(flag)) // the flags that are meant
	return m
}

func attribute(m []byte, kind uint16, data []byte) []byte {
	m = binary.NativeEndian.AppendUint16(m, uint16(unix.SizeofRtAttr+len(data)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = append(m, data...)
	return append(m, make([]byte, -len(m)&3)...)
}

// ask sends a message and returns the answers to it, without their headers.
func (r routes) ask(kind uint16, flags int, body []byte) ([][]byte, error) {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, uint16(unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags))
	m = append(m, make([]byte, 8)...) // sequence, port
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(int(r), append(m, body...), 0, to); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var answers [][]byte
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(int(r), buffer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		for rest := buffer[:n]; len(rest) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.NLMSG_HDRLEN || size > len(rest) {
				return nil, errors.New("rtnetlink: a message is cut off")
			}
			answer := rest[unix.NLMSG_HDRLEN:size]
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_DONE:
				return answers, nil
			case unix.NLMSG_ERROR:
				if code := -int32(binary.NativeEndian.Uint32(answer)); code != 0 {
					return nil, unix.Errno(code)
				}
				return answers, nil
			}
			answers = append(answers, slices.Clone(answer))
			rest = rest[min((size+3)&^3, len(rest)):]
		}
	}
}

// attributes calls f for each attribute.
func attributes(m []byte, f func(kind uint16, data []byte)) {
	for len(m) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(m))
		if size < unix.SizeofRtAttr || size > len(m) {
			return
		}
		f(binary.NativeEndian.Uint16(m[2:]), m[unix.SizeofRtAttr:size])
		m = m[min((size+3)&^3, len(m)):]
	}
}

// links are the numbers of all devices by their names.
func (r routes) links() (map[string]int, error) {
	answers, err := r.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, linkMessage(0, 0))
	if err != nil {
		return nil, err
	}
	all := map[string]int{}
	for _, m := range answers {
		if len(m) < unix.SizeofIfInfomsg {
			continue
		}
		index := int(binary.NativeEndian.Uint32(m[4:]))
		attributes(m[unix.SizeofIfInfomsg:], func(kind uint16, data []byte) {
			if kind == unix.IFLA_IFNAME {
				all[unix.ByteSliceToString(data)] = index
			}
		})
	}
	return all, nil
}

// addresses are a device's permanent addresses for everywhere, as messages that add them.
func (r routes) addresses(index int) ([][]byte, error) {
	answers, err := r.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, m := range answers {
		// struct ifaddrmsg: family, length of the prefix, flags, scope, number of the device
		if len(m) < unix.SizeofIfAddrmsg || int(binary.NativeEndian.Uint32(m[4:])) != index {
			continue
		}
		flags := uint32(m[2])
		add := slices.Clone(m[:unix.SizeofIfAddrmsg])
		attributes(m[unix.SizeofIfAddrmsg:], func(kind uint16, data []byte) {
			switch kind {
			case unix.IFA_FLAGS: // more of them than the header has room for
				flags = binary.NativeEndian.Uint32(data)
			case unix.IFA_LOCAL, unix.IFA_ADDRESS, unix.IFA_BROADCAST:
				add = attribute(add, kind, data)
			}
		})
		if m[3] != unix.RT_SCOPE_UNIVERSE || flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		add[2] = 0 // what it is to be by itself
		flags &= unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
		all = append(all, attribute(add, unix.IFA_FLAGS,
			binary.NativeEndian.AppendUint32(nil, flags)))
	}
	return all, nil
}
