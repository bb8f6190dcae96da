//go:build linux

package network_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"minidocker/final/network"
	"minidocker/final/network/names"
)

func TestNetworks_Predefined(t *testing.T) {
	w := newWorld(t)
	all, err := w.List()
	w.check(err)
	var got []string
	for _, n := range all {
		got = append(got, n.Name)
	}
	if want := []string{"bridge", "host", "none"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, n := range all {
		found, err := w.Network(n.ID[:12])
		if err != nil || found.Name != n.Name {
			t.Errorf("%s: by its short ID: got %v, %v", n.Name, found, err)
		}
		if err := w.Remove(n.Name); !errors.Is(err, network.ErrPredefined) {
			t.Errorf("%s: got %v, want ErrPredefined", n.Name, err)
		}
		if _, err := w.Create(network.Config{Name: n.Name}); !errors.Is(err, network.ErrExist) {
			t.Errorf("%s: got %v, want ErrExist", n.Name, err)
		}
	}
	for _, name := range []string{"host", "none"} {
		_, err := w.Reserve(name, network.Request{Container: id("c")})
		if !errors.Is(err, network.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestCreate_ChoosesWhatIsFree(t *testing.T) {
	w := newWorld(t)
	w.sh("ip addr add 172.18.3.1/24 dev lan0")
	for i, want := range []string{"172.19.0.0/16", "172.20.0.0/16"} {
		n, err := w.Create(network.Config{Name: fmt.Sprint("n", i)})
		w.check(err)
		if got := n.Subnets[0].Subnet.String(); got != want {
			t.Errorf("got %s, want %s, the next that no network and no route has", got, want)
		}
	}
	for i := range 27 {
		_, err := w.Create(network.Config{Name: fmt.Sprint("m", i)})
		if i < 11+16 && err != nil {
			t.Fatalf("network %d: %v", i, err)
		}
	}
	if _, err := w.Create(network.Config{Name: "late"}); !errors.Is(err, network.ErrOverlap) {
		t.Errorf("with all in use: got %v, want ErrOverlap", err)
	}
	w.check(w.Remove("n0"))
	n, err := w.Create(network.Config{Name: "again"})
	w.check(err)
	if got := n.Subnets[0].Subnet.String(); got != "172.19.0.0/16" {
		t.Errorf("got %s, want what was given back", got)
	}
}

func TestCreate_Refuses(t *testing.T) {
	w := newWorld(t)
	_, err := w.Create(network.Config{Name: "there", Subnets: subnets("10.7.0.0/16")})
	w.check(err)
	with := func(option, value string) network.Config {
		return network.Config{Name: "n", Options: map[string]string{option: value}}
	}
	for name, test := range map[string]struct {
		c    network.Config
		want error
	}{
		"name":      {network.Config{Name: "there"}, network.ErrExist},
		"no name":   {network.Config{}, network.ErrInvalid},
		"slash":     {network.Config{Name: "../x"}, network.ErrInvalid},
		"driver":    {network.Config{Name: "n", Driver: "overlay"}, network.ErrInvalid},
		"network":   {network.Config{Name: "n", Subnets: subnets("10.7.1.0/24")}, network.ErrOverlap},
		"route":     {network.Config{Name: "n", Subnets: subnets("10.99.0.128/25")}, network.ErrOverlap},
		"two":       {network.Config{Name: "n", Subnets: subnets("10.8.0.0/24", "10.9.0.0/24")}, network.ErrInvalid},
		"small":     {network.Config{Name: "n", Subnets: subnets("10.8.0.0/31")}, network.ErrInvalid},
		"loopback":  {network.Config{Name: "n", Subnets: subnets("127.0.0.0/8")}, network.ErrInvalid},
		"no parent": {network.Config{Name: "n", Driver: "macvlan"}, network.ErrInvalid},
		"MTU":       {with(network.OptionMTU, "big"), network.ErrInvalid},
		"ICC":       {with(network.OptionICC, "perhaps"), network.ErrInvalid},
		"bridge":    {with(network.OptionBridgeName, "more-than-15-bytes"), network.ErrInvalid},
		"same":      {with(network.OptionBridgeName, network.DefaultBridge), network.ErrInvalid},
		"gateway": {network.Config{Name: "n", Subnets: []network.Subnet{{
			Subnet: netip.MustParsePrefix("10.8.0.0/24"), Gateway: addr("10.9.0.1"),
		}}}, network.ErrInvalid},
		"range": {network.Config{Name: "n", Subnets: []network.Subnet{{
			Subnet: netip.MustParsePrefix("10.8.0.0/24"), IPRange: netip.MustParsePrefix("10.0.0.0/8"),
		}}}, network.ErrInvalid},
	} {
		if _, err := w.Create(test.c); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func subnets(all ...string) []network.Subnet {
	var list []network.Subnet
	for _, s := range all {
		list = append(list, network.Subnet{Subnet: netip.MustParsePrefix(s)})
	}
	return list
}

func TestCreate_Options(t *testing.T) {
	w := newWorld(t)
	_, err := w.Create(network.Config{
		Name: "n", Options: map[string]string{
			network.OptionMTU: "1400", network.OptionBridgeName: "mybridge",
			network.OptionHostBinding: "127.0.0.1",
		},
		Subnets: []network.Subnet{{
			Subnet: netip.MustParsePrefix("10.8.0.0/24"), Gateway: addr("10.8.0.254"),
			IPRange: netip.MustParsePrefix("10.8.0.16/28"),
			Aux:     map[string]netip.Addr{"router": addr("10.8.0.16")},
		}},
	})
	w.check(err)
	e := w.start("c", "n", network.Request{
		MAC: "02:00:00:00:00:07", Interface: "net0",
		Sysctls: map[string]string{"net.ipv4.conf.IFNAME.log_martians": "1"},
		Ports:   []network.Port{{HostPort: 8080, ContainerPort: 80}},
	})
	if e.IPv4.String() != "10.8.0.17/24" || e.Gateway4 != addr("10.8.0.254") {
		t.Errorf("got %s by way of %s", e.IPv4, e.Gateway4)
	}
	out := w.in("c", "ip -o link show net0; cat /proc/sys/net/ipv4/conf/net0/log_martians; ip route")
	for _, want := range []string{"mtu 1400", "02:00:00:00:00:07", "\n1\n", "via 10.8.0.254"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	w.sh("ip link show mybridge")
	w.wantAnswer("", "tcp", "127.0.0.1:8080", "c", "")
	w.wantSilence("lan", "tcp", "10.99.0.1:8080")
	if err := w.Remove("n"); !errors.Is(err, network.ErrInUse) || !strings.Contains(err.Error(), "c") {
		t.Errorf("got %v, want ErrInUse that names the container", err)
	}
	w.check(w.Release(id("c")))
	w.check(w.Remove("n"))
	if out := w.sh("ip -o link show; nft list table inet minidocker"); strings.Contains(out, "mybr") {
		t.Errorf("left behind: %s", out)
	}
	left, err := filepath.Glob(filepath.Join(w.run, "networks", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestRetire_LeavesThePortToOthers(t *testing.T) {
	w := newWorld(t)
	element := func() bool {
		return strings.Contains(w.sh("nft list map inet minidocker everywhere4"), "8080")
	}
	w.start("a", "bridge", portRequest("", 8080))
	w.check(w.Retire(id("a")))
	if left, err := w.Endpoints("bridge"); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v, want no endpoint of who is retired", left, err)
	}
	if _, known := names.Of(w.run, id("a")).Lookup("a"); known {
		t.Error("its name is still known")
	}
	w.start("b", "bridge", portRequest("", 8080))
	w.wantAnswer("lan", "tcp", "10.99.0.1:8080", "b", "")
	w.check(w.Retire(id("b")))
	w.ns["b"].Close()
	delete(w.ns, "b")
	w.start("b", "bridge", portRequest("", 8080)) // again, the same container
	w.check(w.Collect())
	if !element() {
		t.Error("the port of one that was attached anew is gone")
	}
	w.check(w.Retire(id("b")))
	if !element() {
		t.Error("no rule was left to collect: what does this test?")
	}
	w.check(w.Collect())
	if element() {
		t.Error("the rule was left behind")
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"front", "back"} {
		_, err := w.Create(network.Config{Name: name, IPv4: true, IPv6: true})
		w.check(err)
	}
	reserve := func(net, name string, aliases ...string) *network.Endpoint {
		e, err := w.Reserve(net, network.Request{
			Container: id(name), Names: []string{name, id(name)[:12]}, Aliases: aliases,
		})
		w.check(err)
		return e
	}
	a := reserve("front", "a", "Web")
	b := reserve("front", "b", "web")
	c := reserve("back", "c", "web")
	both := reserve("back", "b")
	n := names.Of(w.run, id("a"))
	for name, want := range map[string][]*network.Endpoint{
		"a": {a}, "b": {b}, "B": {b}, id("b")[:12]: {b}, "web": {a, b}, "b.front": {b},
		"c": nil, "b.back": nil, "nobody": nil, "": nil, "..": nil, "../names/a": nil,
	} {
		var addresses []netip.Addr
		for _, e := range want {
			addresses = append(addresses, e.IPv4.Addr(), e.IPv6.Addr())
		}
		got, known := n.Lookup(name)
		if !slices.Equal(got, addresses) || known != (want != nil) {
			t.Errorf("%q: got %v, want %v", name, got, addresses)
		}
	}
	got, _ := names.Of(w.run, id("b")).Lookup("web")
	if !slices.Contains(got, a.IPv4.Addr()) || !slices.Contains(got, c.IPv4.Addr()) {
		t.Errorf("from two networks: got %v", got)
	}
	if got := n.Reverse(b.IPv4.Addr()); got != "b.front" {
		t.Errorf("got %q, want b.front", got)
	}
	if got := n.Reverse(both.IPv4.Addr()); got != "" {
		t.Errorf("got %q, want no name of another network", got)
	}
	w.check(w.Release(id("b")))
	if got, known := n.Lookup("b"); known {
		t.Errorf("got %v for a name that is gone", got)
	}
}

func TestResolvConf(t *testing.T) {
	host := "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.53\nsearch example.com\n" +
		"options edns0\n"
	for name, test := range map[string]struct {
		host                 string
		user                 bool
		dns, search, options []string
		want, upstream       string
	}{
		"default": {host: host,
			want:     "nameserver 10.0.0.53\nsearch example.com\noptions edns0\n",
			upstream: "127.0.0.53 10.0.0.53"},
		"user": {host: host, user: true,
			want:     "nameserver 127.0.0.11\nsearch example.com\noptions edns0 ndots:0\n",
			upstream: "127.0.0.53 10.0.0.53"},
		"flags": {host: host, user: true, dns: []string{"1.1.1.1"}, search: []string{"."},
			options: []string{"ndots:2"}, want: "nameserver 127.0.0.11\noptions ndots:2\n",
			upstream: "1.1.1.1"},
		"flags default": {host: host, dns: []string{"127.0.0.1"}, search: []string{"a", "b"},
			want:     "nameserver 127.0.0.1\nsearch a b\noptions edns0\n",
			upstream: "127.0.0.1"},
		"systemd": {host: "nameserver 127.0.0.53\n", want: "nameserver 10.1.1.1\n",
			upstream: "127.0.0.53"},
		"empty": {},
	} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		err := os.WriteFile(file, []byte("nameserver 127.0.0.1\nnameserver 10.1.1.1\n"), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		network.SetResolvedConf(t, file)
		conf, up := network.ResolvConf([]byte(test.host), test.user, test.dns, test.search, test.options)
		if string(conf) != test.want || strings.Join(up, " ") != test.upstream {
			t.Errorf("%s: got %q, %q, want %q, %q", name, conf, up, test.want, test.upstream)
		}
	}
}
