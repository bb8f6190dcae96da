//go:build linux

package rootless

import (
	"os"
	"strings"
)

// offline is set for the program in the place, where there is a route always, if the host has none.
const offline = "MINIDOCKER_OFFLINE"

// Offline says whether the machine has no way out: no route to anywhere but its own networks.
func Offline() bool {
	if Dir() != "" {
		return os.Getenv(offline) != ""
	}
	return !hasDefaultRoute("/proc/net/route", 1, "00000000") &&
		!hasDefaultRoute("/proc/net/ipv6_route", 0, strings.Repeat("0", 32))
}

// hasDefaultRoute looks for a line whose field is the address 0, and whose route leads out: of a
// route that refuses, the interface is lo. See proc_pid_net(5).
func hasDefaultRoute(file string, field int, zero string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[field] != zero {
			continue
		}
		if fields[0] != "lo" && fields[len(fields)-1] != "lo" {
			return true
		}
	}
	return false
}
