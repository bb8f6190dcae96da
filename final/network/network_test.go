//go:build linux

package network_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/network"
	"minidocker/final/network/netns"
)

// TestMain runs the tests in a network namespace of their own, which is "the host" to them: nothing
// of the machine's is touched, and all goes with it.
func TestMain(m *testing.M) {
	const mark = "NETWORK_TEST_INSIDE"
	if os.Getenv(mark) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the death signal is the thread's
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// world is a store, and who is alive.
type world struct {
	testing.TB
	*network.Store
	dir, run string
	mu       sync.Mutex
	dead     map[string]bool
	ns       map[string]*os.File // of containers
}

// newWorld makes an empty store on a host with a LAN: the interface lan0 with 10.99.0.1/24.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, dir: t.TempDir(), run: t.TempDir(), dead: map[string]bool{},
		ns: map[string]*os.File{}}
	var err error
	w.Store, err = network.Open(w.dir, w.run, func(container string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.dead[container]
	})
	w.check(err)
	w.namespace("lan")
	w.sh("ip link set lo up")
	w.sh("ip link add lan0 type veth peer name eth0 netns /proc/self/fd/3", w.ns["lan"])
	w.sh("ip addr add 10.99.0.1/24 dev lan0; ip -6 addr add fd99::1/64 dev lan0 nodad")
	w.sh("ip link set lan0 up")
	w.in("lan", "ip addr add 10.99.0.2/24 dev eth0; ip -6 addr add fd99::2/64 dev eth0 nodad; "+
		"ip link set eth0 up; ip link set lo up")
	t.Cleanup(w.clean)
	return w
}

// clean empties the host, for the next test.
func (w *world) clean() {
	for _, ns := range w.ns {
		ns.Close()
	}
	w.sh("for l in $(ls /sys/class/net); do case $l in lo) ;; *) ip link del $l 2>/dev/null; esac; " +
		"done; nft flush ruleset")
	out := w.sh("ip -o link show | grep -v ' lo:' | cut -d: -f2 | cut -d@ -f1")
	for _, link := range strings.Fields(out) {
		w.sh("ip link del " + link + " 2>/dev/null || true")
	}
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// sh runs a command on the host; files are its descriptors from 3 on.
func (w *world) sh(script string, files ...*os.File) string {
	w.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// in runs a command in the namespace of a container, or of the LAN.
func (w *world) in(name, script string) string {
	w.Helper()
	return w.sh("nsenter --net=/proc/self/fd/3 sh -c '"+script+"'", w.ns[name])
}

// namespace makes an empty network namespace.
func (w *world) namespace(name string) *os.File {
	w.Helper()
	made := make(chan error, 1)
	var ns *os.File
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	w.check(<-made)
	w.ns[name] = ns
	return ns
}

// id is a container's of that name.
func id(name string) string {
	return (fmt.Sprintf("%x", name) + strings.Repeat("0", 64))[:64]
}

// start attaches a container to a network, with an echo at ports 80, TCP and UDP.
func (w *world) start(name, net string, r network.Request) *network.Endpoint {
	w.Helper()
	r.Container, r.DefaultRoute = id(name), true
	r.Names = append(r.Names, name)
	ns := w.ns[name]
	if ns == nil {
		ns = w.namespace(name)
		w.check(network.Loopback(ns))
	}
	e, err := w.Reserve(net, r)
	w.check(err)
	w.check(w.Attach(ns, e))
	w.echo(name)
	return e
}

// echo serves at port 80 of all addresses: a line "NAME CLIENT".
func (w *world) echo(name string) {
	w.Helper()
	w.check(netns.Do(w.ns[name], func() error {
		l, err := net.Listen("tcp", ":80")
		if errors.Is(err, unix.EADDRINUSE) {
			return nil
		}
		if err != nil {
			return err
		}
		p, err := net.ListenPacket("udp", ":80")
		if err != nil {
			return err
		}
		w.Cleanup(func() { l.Close(); _ = p.Close() })
		go serve(name, l)
		go serveUDP(name, p)
		return nil
	}))
}

func serve(name string, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		fmt.Fprintf(c, "%s %s", name, host)
		_ = c.Close()
	}
}

func serveUDP(name string, p net.PacketConn) {
	for {
		_, from, err := p.ReadFrom(make([]byte, 100))
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(from.String())
		_, _ = p.WriteTo(fmt.Appendf(nil, "%s %s", name, host), from)
	}
}

// ask calls an address from a namespace ("" is the host) and returns the answer.
func (w *world) ask(from, proto, address string) (string, error) {
	var answer []byte
	call := func() error {
		patience := 700 * time.Millisecond
		if strings.Contains(address, "[") {
			patience *= 4 // neighbours of a new address are asked twice, a second apart
		}
		c, err := (&net.Dialer{Timeout: patience}).Dial(proto, address)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if proto == "tcp" {
			answer, err = io.ReadAll(c)
			return err
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		answer = make([]byte, 100)
		n, err := c.Read(answer)
		answer = answer[:n]
		return err
	}
	var err error
	if from == "" {
		err = call()
	} else {
		err = netns.Do(w.ns[from], call)
	}
	return string(answer), err
}

// wantAnswer sees that NAME answers, and, unless client is empty, whom it saw.
func (w *world) wantAnswer(from, proto, address, name, client string) {
	w.Helper()
	got, err := w.ask(from, proto, address)
	server, seen, _ := strings.Cut(got, " ")
	if err != nil || server != name || (client != "" && seen != client) {
		w.Errorf("%q to %s/%s: got %q, %v, want the answer of %s to %s",
			from, address, proto, got, err, name, client)
	}
}

// wantSilence sees that nobody answers.
func (w *world) wantSilence(from, proto, address string) {
	w.Helper()
	if got, err := w.ask(from, proto, address); err == nil {
		w.Errorf("%q to %s/%s: got %q, want no answer", from, address, proto, got)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestPorts_FourDirections(t *testing.T) {
	w := newWorld(t)
	for _, proto := range []string{"tcp", "udp"} {
		for _, where := range []string{"", "127.0.0.1", "10.99.0.1"} {
			p := network.Port{HostPort: 8080, ContainerPort: 80, Proto: proto}
			if where != "" {
				p.HostIP = addr(where)
			}
			server := "s" + proto + where[:min(2, len(where))]
			e := w.start(server, "bridge", network.Request{Ports: []network.Port{p}})
			client := w.start("client", "bridge", network.Request{})
			other, err := w.Create(network.Config{Name: "other"})
			w.check(err)
			w.start("far", "other", network.Request{})
			t.Run(proto+"-"+where, func(t *testing.T) {
				w := &world{TB: t, ns: w.ns}
				if where != "10.99.0.1" {
					w.wantAnswer("", proto, "127.0.0.1:8080", server, e.Gateway4.String())
				} else {
					w.wantSilence("", proto, "127.0.0.1:8080")
				}
				if where != "127.0.0.1" {
					w.wantAnswer("lan", proto, "10.99.0.1:8080", server, "10.99.0.2")
					w.wantAnswer("", proto, "10.99.0.1:8080", server, "")
					w.wantAnswer("client", proto, "10.99.0.1:8080", server, e.Gateway4.String())
					w.wantAnswer(server, proto, "10.99.0.1:8080", server, e.Gateway4.String())
					w.wantAnswer("far", proto, "10.99.0.1:8080", server, "")
				} else {
					w.wantSilence("lan", proto, "10.99.0.1:8080")
					w.wantSilence("client", proto, "10.99.0.1:8080")
				}
				w.wantAnswer("client", proto, e.IPv4.Addr().String()+":80", server,
					client.IPv4.Addr().String())
			})
			for _, c := range []string{server, "client", "far"} {
				w.check(w.Release(id(c)))
				w.ns[c].Close()
				delete(w.ns, c)
			}
			w.check(w.Remove(other.ID))
		}
	}
	if out := w.sh("nft list table inet minidocker"); strings.Contains(out, "8080") {
		t.Errorf("rules left behind: %s", out)
	}
}

func TestLoopback_OfTheHostIsItsOwn(t *testing.T) {
	w := newWorld(t)
	w.start("c", "bridge", network.Request{Ports: []network.Port{
		{HostIP: addr("127.0.0.1"), HostPort: 8080, ContainerPort: 80, Proto: "tcp"},
	}})
	// A neighbour who sends to 127.0.0.1 by way of the host, and a container too.
	for _, who := range []string{"lan", "c"} {
		hop := "10.99.0.1"
		if who == "c" {
			hop = "172.17.0.1"
		}
		w.in(who, "sysctl -qw net.ipv4.conf.eth0.route_localnet=1; ip addr del 127.0.0.1/8 dev lo; "+
			"ip route add 127.0.0.1 via "+hop+" dev eth0 src $(ip -4 -o addr show eth0 | "+
			"tr -s \" \" | cut -d \" \" -f 4 | cut -d / -f 1); ip rule add pref 0 to 127.0.0.1 lookup main;"+
			" ip rule add pref 1 lookup local; ip rule del pref 0 lookup local")
		w.wantSilence(who, "tcp", "127.0.0.1:8080")
	}
	w.sh("nft flush chain inet minidocker localhost")
	w.wantAnswer("lan", "tcp", "127.0.0.1:8080", "c", "")
}

func TestOutside_MasqueradeAndRoutes(t *testing.T) {
	w := newWorld(t)
	w.echo("lan")
	w.start("c", "bridge", network.Request{})
	w.wantAnswer("c", "tcp", "10.99.0.2:80", "lan", "10.99.0.1")
	_, err := w.Create(network.Config{Name: "routed", Options: map[string]string{
		network.OptionMasquerade: "false",
	}})
	w.check(err)
	d := w.start("d", "routed", network.Request{})
	w.in("lan", "ip route add 172.16.0.0/12 via 10.99.0.1")
	w.wantAnswer("d", "tcp", "10.99.0.2:80", "lan", d.IPv4.Addr().String())
	// From outside nothing gets in that is not published.
	w.wantSilence("lan", "tcp", d.IPv4.Addr().String()+":80")
	w.wantAnswer("", "tcp", d.IPv4.Addr().String()+":80", "d", "")
}

func TestInternal(t *testing.T) {
	w := newWorld(t)
	w.echo("lan")
	_, err := w.Create(network.Config{Name: "inner", Internal: true})
	w.check(err)
	a := w.start("a", "inner", network.Request{})
	w.start("b", "inner", network.Request{})
	w.start("c", "bridge", network.Request{Ports: []network.Port{
		{HostPort: 8080, ContainerPort: 80},
	}})
	w.wantAnswer("b", "tcp", a.IPv4.Addr().String()+":80", "a", "")
	w.wantSilence("a", "tcp", "10.99.0.2:80")
	if out := w.in("a", "ip route"); strings.Contains(out, "default") {
		t.Errorf("a default route: %s", out)
	}
	// Nor if it makes itself a route.
	w.in("a", "ip route add default via 172.18.0.1")
	w.wantSilence("a", "tcp", "10.99.0.2:80")
	w.wantSilence("a", "tcp", "10.99.0.1:8080")
	w.wantSilence("c", "tcp", a.IPv4.Addr().String()+":80")
}

func TestIsolation(t *testing.T) {
	w := newWorld(t)
	for _, c := range []network.Config{
		{Name: "one"}, {Name: "two"},
		{Name: "apart", Options: map[string]string{network.OptionICC: "false"}},
	} {
		_, err := w.Create(c)
		w.check(err)
	}
	a := w.start("a", "one", network.Request{})
	w.start("b", "two", network.Request{})
	c := w.start("c", "apart", network.Request{})
	w.start("d", "apart", network.Request{})
	w.wantSilence("b", "tcp", a.IPv4.Addr().String()+":80")
	w.wantSilence("d", "tcp", c.IPv4.Addr().String()+":80")
	w.wantAnswer("", "tcp", c.IPv4.Addr().String()+":80", "c", "")
	// Connected, it reaches the other; its default route stays where it was.
	e, err := w.Reserve("one", network.Request{Container: id("b")})
	w.check(err)
	w.check(w.Attach(w.ns["b"], e))
	if e.Interface != "eth1" {
		t.Errorf("got interface %s, want eth1", e.Interface)
	}
	w.wantAnswer("b", "tcp", a.IPv4.Addr().String()+":80", "a", e.IPv4.Addr().String())
	w.check(w.Disconnect(w.ns["b"], "two", id("b")))
	if out := w.in("b", "ip route"); !strings.Contains(out, "default via "+e.Gateway4.String()) {
		t.Errorf("after disconnect no default route through the other network: %s", out)
	}
	if err := w.Disconnect(w.ns["b"], "two", id("b")); !errors.Is(err, network.ErrNoEndpoint) {
		t.Errorf("disconnect again: got %v, want ErrNoEndpoint", err)
	}
}

func TestHairpin_WithBridgeNetfilter(t *testing.T) {
	w := newWorld(t)
	w.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1")
	t.Cleanup(func() { w.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0") })
	e := w.start("a", "bridge", network.Request{Ports: []network.Port{
		{HostPort: 8080, ContainerPort: 80},
	}})
	w.start("b", "bridge", network.Request{})
	for _, who := range []string{"a", "b"} {
		w.wantAnswer(who, "tcp", "10.99.0.1:8080", "a", e.Gateway4.String())
		w.wantAnswer(who, "tcp", e.Gateway4.String()+":8080", "a", e.Gateway4.String())
	}
	w.wantAnswer("b", "tcp", e.IPv4.Addr().String()+":80", "a", "")
	w.wantAnswer("lan", "tcp", "10.99.0.1:8080", "a", "10.99.0.2")
}

func TestIPv6(t *testing.T) {
	w := newWorld(t)
	n, err := w.Create(network.Config{Name: "six", IPv4: true, IPv6: true})
	w.check(err)
	if len(n.Subnets) != 2 || !strings.HasPrefix(n.Subnets[1].Subnet.String(), "fd") {
		t.Fatalf("got %v, want a subnet of each kind", n.Subnets)
	}
	w.echo("lan")
	a := w.start("a", "six", network.Request{Ports: []network.Port{
		{HostPort: 8080, ContainerPort: 80},
	}})
	w.start("b", "six", network.Request{})
	w.wantAnswer("b", "tcp", "["+a.IPv6.Addr().String()+"]:80", "a", "")
	w.wantAnswer("a", "tcp", "[fd99::2]:80", "lan", "fd99::1")
	w.wantAnswer("lan", "tcp", "[fd99::1]:8080", "a", "fd99::2")
	w.wantAnswer("", "tcp", "[fd99::1]:8080", "a", "")
	w.wantAnswer("", "tcp", "127.0.0.1:8080", "a", "")
	w.wantAnswer("b", "tcp", "[fd99::1]:8080", "a", a.Gateway6.String())
	w.wantAnswer("a", "udp", "[fd99::2]:80", "lan", "fd99::1")
	if _, err := w.ask("", "tcp", "[::1]:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("at ::1: got %v, want to be refused at once", err)
	}
	only, err := w.Create(network.Config{Name: "only", IPv6: true})
	w.check(err)
	if only.IPv4 {
		t.Error("IPv6 alone brought IPv4")
	}
	c := w.start("c", "only", network.Request{})
	if c.IPv4.IsValid() {
		t.Errorf("got address %s on a network without IPv4", c.IPv4)
	}
	w.wantAnswer("c", "tcp", "[fd99::2]:80", "lan", "fd99::1")
	// Without IPv6 an interface has none, not even of the link.
	w.start("d", "bridge", network.Request{})
	if out := w.in("d", "ip -6 addr show eth0"); out != "" {
		t.Errorf("IPv6 on a network without it: %s", out)
	}
}

func TestMacvlan(t *testing.T) {
	w := newWorld(t)
	w.echo("lan")
	_, err := w.Create(network.Config{
		Name: "lan", Driver: "macvlan", Options: map[string]string{"parent": "lan0"},
		Subnets: []network.Subnet{{
			Subnet: netip.MustParsePrefix("10.99.0.0/24"), Gateway: addr("10.99.0.2"),
			IPRange: netip.MustParsePrefix("10.99.0.128/25"),
		}},
	})
	w.check(err)
	e := w.start("c", "lan", network.Request{})
	if got := e.IPv4.String(); got != "10.99.0.128/24" {
		t.Errorf("got %s, want the first of the range", got)
	}
	w.wantAnswer("c", "tcp", "10.99.0.2:80", "lan", "10.99.0.128")
	w.wantAnswer("lan", "tcp", "10.99.0.128:80", "c", "")
	if out := w.in("c", "ip route"); !strings.Contains(out, "default via 10.99.0.2") {
		t.Errorf("no default route: %s", out)
	}
	w.check(w.Release(e.Container))
	w.check(w.Remove("lan"))
}

func TestIpvlan(t *testing.T) {
	w := newWorld(t)
	w.echo("lan")
	_, err := w.Create(network.Config{
		Name: "lan", Driver: "ipvlan", Options: map[string]string{"parent": "lan0"},
		Subnets: []network.Subnet{{Subnet: netip.MustParsePrefix("10.99.0.0/24")}},
	})
	w.check(err)
	ns := w.namespace("c")
	e, err := w.Reserve("lan", network.Request{Container: id("c"), IPv4: addr("10.99.0.7")})
	w.check(err)
	err = w.Attach(ns, e)
	if out, _ := exec.Command("ip", "link", "add", "probe", "link", "lan0", "type", "ipvlan").
		CombinedOutput(); bytes.Contains(out, []byte("Unknown device type")) {
		// A kernel without it: then the error has to say so.
		if err == nil || !strings.Contains(err.Error(), "modprobe ipvlan") {
			t.Errorf("got %v, want an error that says what the kernel lacks", err)
		}
		return
	}
	w.sh("ip link del probe")
	w.check(err)
	w.wantAnswer("c", "tcp", "10.99.0.2:80", "lan", "10.99.0.7")
}

func TestReserve_UniqueUnderParallelStarts(t *testing.T) {
	w := newWorld(t)
	_, err := w.List()
	w.check(err)
	const many = 50
	endpoints := make([]*network.Endpoint, many)
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() {
			// Each its own store, as each process has.
			s, err := network.Open(w.dir, w.run, func(string) bool { return true })
			if err == nil {
				endpoints[i], err = s.Reserve("bridge", network.Request{
					Container: id(fmt.Sprint("c", i)),
					Ports: []network.Port{
						{ContainerPort: 80, Proto: "tcp"},
						{HostPort: 20000, HostPortEnd: 20000 + many - 1, ContainerPort: 81, Proto: "tcp"},
					},
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	seen := map[string]int{}
	for _, e := range endpoints {
		if e == nil {
			continue
		}
		seen[e.IPv4.String()]++
		seen[e.MAC]++
		for _, p := range e.Ports {
			seen[fmt.Sprint("port ", p.HostPort)]++
		}
	}
	for what, n := range seen {
		if n > 1 {
			t.Errorf("%s was given to %d", what, n)
		}
	}
	if len(seen) != many*4 {
		t.Errorf("got %d different things, want %d", len(seen), many*4)
	}
	_, err = w.Reserve("bridge", network.Request{Container: id("late"), Ports: []network.Port{
		{HostPort: 20000, HostPortEnd: 20000 + many - 1, ContainerPort: 81},
	}})
	if !errors.Is(err, network.ErrPort) {
		t.Errorf("got %v, want ErrPort", err)
	}
}

func TestReserve_Collisions(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:7070")
	w.check(err)
	defer l.Close()
	w.start("a", "bridge", network.Request{IPv4: addr("172.17.0.9"), Ports: []network.Port{
		{HostIP: addr("10.99.0.1"), HostPort: 8080, ContainerPort: 80},
	}})
	for name, test := range map[string]struct {
		r    network.Request
		want error
	}{
		"address":     {network.Request{IPv4: addr("172.17.0.9")}, network.ErrAddress},
		"gateway":     {network.Request{IPv4: addr("172.17.0.1")}, network.ErrAddress},
		"broadcast":   {network.Request{IPv4: addr("172.17.255.255")}, network.ErrAddress},
		"elsewhere":   {network.Request{IPv4: addr("10.0.0.9")}, network.ErrAddress},
		"IPv6":        {network.Request{IPv6: addr("fd00::1")}, network.ErrInvalid},
		"port":        {portRequest("10.99.0.1", 8080), network.ErrPort},
		"all ports":   {portRequest("", 8080), network.ErrPort},
		"program":     {portRequest("127.0.0.1", 7070), network.ErrPort},
		"all program": {portRequest("", 7070), network.ErrPort},
		"::1":         {portRequest("::1", 8081), network.ErrInvalid},
		"other":       {portRequest("127.0.0.1", 8080), nil},
		"far name":    {network.Request{Names: []string{"../x"}}, network.ErrInvalid},
		"dots":        {network.Request{Names: []string{".."}}, network.ErrInvalid},
	} {
		test.r.Container = id("b")
		_, err := w.Reserve("bridge", test.r)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		w.check(w.Release(id("b")))
	}
	_, err = w.Reserve("bridge", network.Request{Container: id("a")})
	if !errors.Is(err, network.ErrConnected) {
		t.Errorf("twice: got %v, want ErrConnected", err)
	}
	if _, err = w.Reserve("nowhere", network.Request{Container: id("c")}); !errors.Is(err,
		network.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}

func portRequest(ip string, port uint16) network.Request {
	p := network.Port{HostPort: port, ContainerPort: 80, Proto: "tcp"}
	if ip != "" {
		p.HostIP = addr(ip)
	}
	return network.Request{Ports: []network.Port{p}}
}

func TestVoid_IsTakenOverAndSwept(t *testing.T) {
	w := newWorld(t)
	ports := []network.Port{{HostPort: 8080, ContainerPort: 80, Proto: "tcp"}}
	w.start("a", "bridge", network.Request{IPv4: addr("172.17.0.9"), Ports: ports})
	w.start("c", "bridge", network.Request{Aliases: []string{"web"}})
	w.mu.Lock()
	w.dead[id("a")], w.dead[id("c")] = true, true
	w.mu.Unlock()
	w.ns["a"].Close() // the container is gone, its records are not
	delete(w.ns, "a")
	b := w.start("b", "bridge", network.Request{IPv4: addr("172.17.0.9"), Ports: ports})
	w.wantAnswer("lan", "tcp", "10.99.0.1:8080", "b", "")
	if left, err := w.Of(id("a")); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v, want nothing of what was taken over", left, err)
	}
	w.check(w.Sweep())
	all, err := w.Endpoints("bridge")
	if err != nil || len(all) != 1 || all[0].ID != b.ID {
		t.Errorf("after the sweep: got %v, %v, want that of b alone", all, err)
	}
	// c's namespace is held open: its link had to be deleted.
	if out := w.sh("ip -o link show master minidocker0"); strings.Count(out, "veth") != 1 {
		t.Errorf("want one port of the bridge: %s", out)
	}
	w.check(w.Release(id("b")))
	w.check(w.Release(id("b")))
	left := w.sh("find " + w.run + " ! -type d ! -name lock ! -name rules ! -name collect")
	if left != "" {
		t.Errorf("left behind: %s", left)
	}
	if out := w.sh("nft list map inet minidocker everywhere4"); strings.Contains(out, "8080") {
		t.Errorf("left behind: %s", out)
	}
}

func TestAttach_AfterTheFirewallWasEmptied(t *testing.T) {
	w := newWorld(t)
	w.start("a", "bridge", portRequest("", 8080))
	w.sh("nft flush ruleset")
	w.start("b", "bridge", portRequest("", 8081))
	w.wantAnswer("lan", "tcp", "10.99.0.1:8080", "a", "")
	w.wantAnswer("lan", "tcp", "10.99.0.1:8081", "b", "")
	w.sh("nft add element inet minidocker everywhere4 '{ tcp . 8082 : 172.17.0.77 . 80 }'")
	w.start("c", "bridge", portRequest("", 8082))
	w.wantAnswer("lan", "tcp", "10.99.0.1:8082", "c", "")
	w.sh("nft delete element inet minidocker everywhere4 '{ tcp . 8081 }'")
	w.check(w.Release(id("b")))
}

func TestForward_BesideAPolicyOfDrop(t *testing.T) {
	w := newWorld(t)
	w.sh("nft 'table ip filter { chain FORWARD { type filter hook forward priority filter; " +
		"policy drop; }; }'")
	w.echo("lan")
	n, err := w.Create(network.Config{Name: "net"})
	w.check(err)
	w.start("a", "net", portRequest("", 8080))
	w.wantAnswer("a", "tcp", "10.99.0.2:80", "lan", "")
	w.wantAnswer("lan", "tcp", "10.99.0.1:8080", "a", "10.99.0.2")
	w.check(w.Release(id("a")))
	w.check(w.Remove(n.ID))
	if out := w.sh("nft list chain ip filter FORWARD"); strings.Contains(out, "accept") {
		t.Errorf("left behind: %s", out)
	}
}

func TestUDP_AFlowFindsTheNewContainer(t *testing.T) {
	w := newWorld(t)
	r := portRequest("", 8080)
	r.Ports[0].Proto = "udp"
	var c net.Conn
	w.check(netns.Do(w.ns["lan"], func() (err error) {
		c, err = net.Dial("udp", "10.99.0.1:8080")
		return err
	}))
	defer func() { _ = c.Close() }()
	for _, name := range []string{"a", "b"} {
		w.start(name, "bridge", r)
		_, err := c.Write([]byte("x"))
		if errors.Is(err, unix.ECONNREFUSED) { // of before
			_, err = c.Write([]byte("x"))
		}
		w.check(err)
		w.check(c.SetReadDeadline(time.Now().Add(5 * time.Second)))
		answer := make([]byte, 100)
		n, err := c.Read(answer)
		if err != nil || string(answer[:n]) != name+" 10.99.0.2" {
			t.Errorf("got %q, %v, want the answer of %s", answer[:n], err, name)
		}
		w.check(w.Release(id(name)))
	}
}

func TestRecords_ReadableAlways(t *testing.T) {
	w := newWorld(t)
	_, err := w.Reserve("bridge", network.Request{Container: id("a")})
	w.check(err)
	// One was killed while it wrote.
	w.check(os.WriteFile(filepath.Join(w.run, "endpoints", id("a"), "x.json.new"), []byte("{"), 0o600))
	w.check(os.WriteFile(filepath.Join(w.dir, "y.json.new"), []byte("{"), 0o600))
	_, err = w.List()
	w.check(err)
	_, err = w.Of(id("a"))
	w.check(err)
	w.check(w.Release(id("a")))
	if _, err := os.Stat(filepath.Join(w.run, "endpoints", id("a"))); err == nil {
		t.Error("its folder is still there")
	}
}
