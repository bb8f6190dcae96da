//go:build linux

package server

import (
	"context"
	"fmt"
	"os"

	"minidocker/final/network/names"
	"minidocker/final/network/resolver"
)

// resolve answers the container's questions for names, at 127.0.0.11 in its network namespace.
func (s *server) resolve(done chan struct{}) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.State.Pid))
	if err != nil {
		return // it has ended already
	}
	defer ns.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-done; cancel() }()
	defer cancel()
	neighbours := names.Of(s.Config.DNS.Run, s.Config.ID)
	if err := resolver.Serve(ctx, ns, neighbours, s.Config.DNS.Upstream); err != nil {
		s.warn("resolver: %v", err)
	}
}
