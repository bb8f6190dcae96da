//go:build linux

package resolver_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLean sees that what runs in each container's shim links neither the firewall nor the links.
func TestLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".", "../names").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "golang.org/x/net/dns/dnsmessage") {
		t.Fatalf("that are not the dependencies: %q", deps)
	}
	for _, heavy := range []string{
		"minidocker/final/network", "github.com/vishvananda/netlink", "github.com/google/nftables",
		"net/http", "regexp", "text/template",
	} {
		if slices.Contains(deps, heavy) {
			t.Errorf("it depends on %s", heavy)
		}
	}
}
