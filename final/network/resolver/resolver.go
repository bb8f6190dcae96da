//go:build linux

// Package resolver is the name server at 127.0.0.11 in a container: it answers for the names of
// neighbours, and asks the host's servers for all else (RFC 1035). It knows neither networks nor
// containers, and links little, because it runs in each container's shim.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
)

// Address is where containers find it.
const Address = "127.0.0.11"

// Names is what it answers itself. Both are called for each question, at once from several
// goroutines.
type Names interface {
	// Lookup returns the addresses of a name, IPv4 and IPv6, in lower case and without a dot at
	// its end. known is false for a name to ask the others about.
	Lookup(name string) (addresses []netip.Addr, known bool)
	// Reverse returns the name of an address; empty: ask the others.
	Reverse(address netip.Addr) string
}

// Serve answers at port 53 of Address, UDP and TCP, in the network namespace ns until ctx ends. It
// asks upstream (addresses, port 53 unless they name one) from the caller's namespace.
// The error is that of opening the sockets; with none it returns nil after the end of ctx.
func Serve(ctx context.Context, ns *os.File, names Names, upstream []string) error {
	return errors.New(fmt.Sprint("not there yet", ctx, ns, names, upstream))
}
