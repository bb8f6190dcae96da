//go:build linux

package server

import (
	"context"
	"fmt"
	"os"

	"minidocker/final/network/names"
	"minidocker/final/network/resolver"
	"minidocker/final/shim"
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
	udp, tcp := os.NewFile(uintptr(s.DNS[0]), "udp"), os.NewFile(uintptr(s.DNS[1]), "tcp")
	s.serveDNS(ctx, udp, tcp, s.Config.DNS)
}

func (s *server) serveDNS(ctx context.Context, udp, tcp *os.File, dns *shim.DNS) {
	neighbours := names.Of(dns.Run, s.Config.ID)
	if err := resolver.Serve(ctx, udp, tcp, neighbours, dns.Upstream); err != nil {
		s.warn("resolver: %v", err)
	}
}

// beginDNS begins to answer in a container that runs, if nobody does yet.
func (s *server) beginDNS(dns *shim.DNS) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Config.DNS != nil || dns == nil || s.told {
		return nil
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.State.Pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	udp, tcp, err := resolver.Open(ns)
	if err != nil {
		return err
	}
	s.Config.DNS = dns
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-s.over; cancel() }()
	go s.serveDNS(ctx, udp, tcp, dns)
	return nil
}
