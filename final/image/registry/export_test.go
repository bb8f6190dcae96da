//go:build linux

package registry

import (
	"context"
	"net"
)

// SetDial lets the test say where a name leads to.
func (c *Client) SetDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	c.dial = dial
}
