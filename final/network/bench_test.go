//go:build linux

package network_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"minidocker/final/network"
)

// BenchmarkAttach is what a container's start waits for: one endpoint with one port, on a bridge
// that is there.
func BenchmarkAttach(b *testing.B) {
	for _, others := range []int{0, 500} {
		b.Run(fmt.Sprint(others, "-others"), func(b *testing.B) {
			w := newWorld(b)
			for i := range others {
				_, err := w.Reserve("bridge", network.Request{
					Container: id(fmt.Sprint("o", i)), Names: []string{fmt.Sprint("o", i)},
					Ports: []network.Port{{ContainerPort: 80}},
				})
				w.check(err)
			}
			r := network.Request{
				Container: id("a"), Names: []string{"a", "0123456789ab"}, DefaultRoute: true,
				Ports: []network.Port{{HostPort: 8080, ContainerPort: 80}},
			}
			run := func() {
				b.StopTimer()
				ns := w.namespace("a")
				b.StartTimer()
				e, err := w.Reserve("bridge", r)
				w.check(err)
				w.check(w.Attach(ns, e))
				w.check(network.Loopback(ns))
				b.StopTimer()
				w.check(w.Release(r.Container))
				ns.Close()
				b.StartTimer()
			}
			run() // makes the bridge and the rules
			for b.Loop() {
				run()
			}
		})
	}
}

// BenchmarkRelease is what is done after a container's end.
func BenchmarkRelease(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		b.StopTimer()
		ns := w.namespace("a")
		e, err := w.Reserve("bridge", network.Request{
			Container: id("a"), Names: []string{"a"},
			Ports: []network.Port{{HostPort: 8080, ContainerPort: 80}},
		})
		w.check(err)
		w.check(w.Attach(ns, e))
		b.StartTimer()
		w.check(w.Release(id("a")))
		b.StopTimer()
		ns.Close()
		b.StartTimer()
	}
}

// BenchmarkChurn is 50 containers, 8 at a time, each with a port: start and end.
func BenchmarkChurn(b *testing.B) {
	w := newWorld(b)
	free := make(chan int, 8)
	var spaces [8]*os.File
	for i := range 8 {
		free <- i
	}
	for b.Loop() {
		var group sync.WaitGroup
		for range 50 {
			slot := <-free
			group.Go(func() {
				defer func() { free <- slot }()
				name := fmt.Sprint("c", slot)
				w.mu.Lock()
				if spaces[slot] == nil {
					spaces[slot] = w.namespace(name)
				}
				w.mu.Unlock()
				e, err := w.Reserve("bridge", network.Request{
					Container: id(name), Names: []string{name}, Interface: fmt.Sprintf("e%x", rand.Uint32()),
					Ports: []network.Port{{ContainerPort: 80}},
				})
				w.check(err)
				w.check(w.Attach(spaces[slot], e))
				w.check(w.Release(id(name)))
			})
		}
		group.Wait()
	}
}
