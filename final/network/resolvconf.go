//go:build linux

package network

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// ResolvConf makes a container's /etc/resolv.conf of the host's. dns, search and options are the
// user's, and replace the host's if there are any; a search of "." is none. On a network that a
// user made (user) the one server is 127.0.0.11, and the true ones, which that asks, are upstream;
// else they are in the file. A server at a loopback address of the host, as systemd-resolved's
// 127.0.0.53, can only be asked from the host's namespace: in the file, those that systemd-resolved
// itself asks replace it. See resolv.conf(5).
func ResolvConf(host []byte, user bool, dns, search, options []string) (
	conf []byte, upstream []string,
) {
	servers, hostSearch, hostOptions := parseResolvConf(host)
	if len(dns) > 0 {
		servers = dns
	}
	if len(search) == 0 {
		search = hostSearch
	}
	if slices.Equal(search, []string{"."}) {
		search = nil
	}
	if len(options) == 0 {
		options = hostOptions
	}
	upstream = servers
	if user {
		servers = []string{"127.0.0.11"}
		if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			options = append(slices.Clone(options), "ndots:0")
		}
	} else if len(dns) == 0 {
		servers = reachable(servers)
	}
	var text strings.Builder
	for _, s := range servers {
		text.WriteString("nameserver " + s + "\n")
	}
	if len(search) > 0 {
		text.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(options) > 0 {
		text.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return []byte(text.String()), upstream
}

func parseResolvConf(text []byte) (servers, search, options []string) {
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			servers = append(servers, words[1])
		case "search", "domain":
			search = words[1:] // the last one counts
		case "options":
			options = append(options, words[1:]...)
		}
	}
	return servers, search, options
}

// resolvedConf is where systemd-resolved says whom it asks.
var resolvedConf = "/run/systemd/resolve/resolv.conf"

// reachable leaves out the servers that only the host reaches. With none left it is those that
// systemd-resolved asks.
func reachable(servers []string) []string {
	local := func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.IsLoopback()
	}
	left := slices.DeleteFunc(slices.Clone(servers), local)
	if len(left) > 0 || len(servers) == 0 {
		return left
	}
	text, err := os.ReadFile(resolvedConf)
	if err != nil {
		return nil
	}
	left, _, _ = parseResolvConf(text)
	return slices.DeleteFunc(left, local)
}
