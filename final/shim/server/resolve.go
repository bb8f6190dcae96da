//go:build linux

package server

import (
	"context"
	"fmt"
	"os"

	"minidocker/final/network/names"
	"minidocker/final/network/resolver"
)

// openDNS opens the resolver's sockets, before anything of the container's runs.
func (f *first) openDNS(pid int) error {
	if f.w.Config.DNS == nil {
		return nil
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	udp, tcp, err := resolver.Open(ns)
	if err != nil {
		return err
	}
	f.far = append(f.far, udp, tcp) // the second life has copies
	for i, file := range []*os.File{udp, tcp} {
		if f.w.DNS[i], err = dup(file); err != nil {
			return os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
		}
	}
	return nil
}

// resolve answers the container's questions for names, at 127.0.0.11 in its network namespace.
func (s *server) resolve(done chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-done; cancel() }()
	defer cancel()
	neighbours := names.Of(s.Config.DNS.Run, s.Config.ID)
	udp, tcp := os.NewFile(uintptr(s.DNS[0]), "udp"), os.NewFile(uintptr(s.DNS[1]), "tcp")
	if err := resolver.Serve(ctx, udp, tcp, neighbours, s.Config.DNS.Upstream); err != nil {
		s.warn("resolver: %v", err)
	}
}
