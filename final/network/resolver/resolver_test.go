//go:build linux

package resolver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"minidocker/final/network/netns"
	"minidocker/final/network/resolver"
)

// TestMain runs the tests as root of a user namespace, if they are not root's: they make network
// namespaces.
func TestMain(m *testing.M) {
	const mark = "RESOLVER_TEST_INSIDE"
	if os.Getenv(mark) != "" || os.Geteuid() == 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// table is names for tests.
type table map[string][]string

func (t table) Lookup(name string) (found []netip.Addr, known bool) {
	words, known := t[strings.ToLower(name)]
	for _, w := range words {
		found = append(found, netip.MustParseAddr(w))
	}
	return found, known
}

func (t table) Reverse(a netip.Addr) string {
	for name, words := range t {
		if slices.Contains(words, a.String()) {
			return name
		}
	}
	return ""
}

// start serves names in a new network namespace, which it returns.
func start(t *testing.T, names resolver.Names) *os.File {
	t.Helper()
	ns := namespace(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	serve(t, ctx, ns, served, names, nil)
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ns
}

// serve opens the sockets and serves; served gets the result.
func serve(
	t *testing.T, ctx context.Context, ns *os.File, served chan<- error, names resolver.Names,
	upstream []string,
) {
	t.Helper()
	udp, tcp, err := resolver.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	go func() { served <- resolver.Serve(ctx, udp, tcp, names, upstream) }()
}

// namespace makes one with lo up.
func namespace(t *testing.T) *os.File {
	t.Helper()
	made := make(chan error, 1)
	var ns *os.File
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			err = exec.Command("ip", "link", "set", "lo", "up").Run()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// lookup asks from the namespace, as programs do.
func lookup(t *testing.T, ns *os.File, proto, name string) ([]string, error) {
	t.Helper()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, p, _ string) (net.Conn, error) {
		if proto != "" {
			p = proto
		}
		var conn net.Conn
		err := retry(func() error {
			return netns.Do(ns, func() (err error) {
				conn, err = (&net.Dialer{}).DialContext(ctx, p, resolver.Address+":53")
				return err
			})
		})
		return conn, err
	}}
	found, err := r.LookupHost(context.Background(), name+".")
	slices.Sort(found)
	return found, err
}

// retry calls f until the server has opened its sockets.
func retry(f func() error) error {
	var err error
	for range 200 {
		if err = f(); err == nil || !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// await waits until the server has opened its sockets.
func await(t *testing.T, ns *os.File) {
	t.Helper()
	err := retry(func() error {
		return netns.Do(ns, func() error {
			conn, err := net.Dial("tcp", resolver.Address+":53")
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestServe_OwnNames(t *testing.T) {
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.1.%d", i)
	}
	slices.Sort(many)
	ns := start(t, table{"web": {"10.0.0.2", "fd00::2"}, "many": many, "four": {"10.0.0.4"}})
	await(t, ns)
	for _, proto := range []string{"", "tcp"} {
		for name, want := range map[string][]string{
			"web": {"10.0.0.2", "fd00::2"}, "WEB": {"10.0.0.2", "fd00::2"},
			"many": many, // too long for UDP: asked again by TCP
			"four": {"10.0.0.4"},
		} {
			got, err := lookup(t, ns, proto, name)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: got %v, %v, want %v", name, got, err, want)
			}
		}
	}
	if _, err := lookup(t, ns, "", "nobody"); err == nil {
		t.Error("got an answer for a name that nobody knows, and no server to ask")
	}
}

func TestServe_Reverse(t *testing.T) {
	ns := start(t, table{"web.net": {"10.0.0.2", "fd00::2"}})
	await(t, ns)
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, p, _ string) (net.Conn, error) {
		var conn net.Conn
		err := netns.Do(ns, func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, p, resolver.Address+":53")
			return err
		})
		return conn, err
	}}
	for _, address := range []string{"10.0.0.2", "fd00::2"} {
		got, err := r.LookupAddr(context.Background(), address)
		if err != nil || !slices.Equal(got, []string{"web.net."}) {
			t.Errorf("%s: got %q, %v, want web.net.", address, got, err)
		}
	}
}

func TestServe_AsksUpstreamFromTheHost(t *testing.T) {
	// The upstream is a resolver too, behind a relay: only from here can it be asked.
	host := start(t, table{"far": {"10.9.9.9"}})
	await(t, host)
	ns := namespace(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	servers := []string{"127.0.0.1:9", relay(t, host)} // nobody is at the first
	served := make(chan error, 1)
	serve(t, ctx, ns, served, table{"near": {"10.0.0.2"}}, servers)
	await(t, ns)
	for _, proto := range []string{"", "tcp"} {
		for name, want := range map[string]string{"far": "10.9.9.9", "near": "10.0.0.2"} {
			got, err := lookup(t, ns, proto, name)
			if err != nil || !slices.Equal(got, []string{want}) {
				t.Errorf("%s: got %v, %v, want %s", name, got, err, want)
			}
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// relay passes UDP and TCP at an address of the tests' namespace to the resolver of another.
func relay(t *testing.T, ns *os.File) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", p.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); _ = p.Close() })
	exchange := func(proto string, question []byte) []byte {
		buffer := make([]byte, 4096)
		n := 0
		_ = netns.Do(ns, func() error {
			c, err := net.Dial(proto, resolver.Address+":53")
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			if _, err = c.Write(question); err == nil {
				n, err = c.Read(buffer)
			}
			return err
		})
		return buffer[:n]
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := p.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(exchange("udp", buffer[:n]), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			n, _ := c.Read(buffer)
			_, _ = c.Write(exchange("tcp", buffer[:n]))
			_ = c.Close()
		}
	}()
	return p.LocalAddr().String()
}

func TestServe_SurvivesGarbage(t *testing.T) {
	ns := start(t, table{"web": {"10.0.0.2"}})
	await(t, ns)
	for _, proto := range []string{"udp", "tcp"} {
		for _, garbage := range [][]byte{{}, {0}, bytes.Repeat([]byte{0xff}, 700),
			make([]byte, 12), bytes.Repeat([]byte{0xc0, 0x0c}, 20)} {
			err := netns.Do(ns, func() error {
				c, err := net.Dial(proto, resolver.Address+":53")
				if err != nil {
					return err
				}
				_, err = c.Write(garbage)
				return errors.Join(err, c.Close())
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := lookup(t, ns, "", "web"); err != nil || !slices.Equal(got, []string{"10.0.0.2"}) {
		t.Errorf("after garbage: got %v, %v", got, err)
	}
}

func TestOpen_SaysThatItCannotListen(t *testing.T) {
	ns := start(t, table{})
	await(t, ns)
	_, _, err := resolver.Open(ns)
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("got %v, want EADDRINUSE", err)
	}
}

// FuzzAnswer sees that whatever comes, what goes out is nothing or an answer to it.
func FuzzAnswer(f *testing.F) {
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("web."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypePTR} {
		q.Questions[0].Type = kind
		for _, name := range []string{"web.", ".", "2.0.0.10.in-addr.arpa.", "\x00..in-addr.arpa."} {
			q.Questions[0].Name = dnsmessage.MustNewName(name)
			if packed, err := q.Pack(); err == nil {
				f.Add(packed)
			}
		}
	}
	f.Fuzz(func(t *testing.T, question []byte) {
		answer := resolver.Answer(table{"web": {"10.0.0.2", "fd00::2"}}, question)
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil {
			t.Fatalf("got an answer that is none: %v", err)
		}
		if !m.Response || len(question) < 2 || m.ID != uint16(question[0])<<8|uint16(question[1]) {
			t.Fatalf("got an answer to something else: %+v", m)
		}
	})
}
