//go:build linux

package network_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/network"
	"minidocker/final/network/netns"
)

// TestKilled_AtAnyMoment kills a process that starts and ends containers, over and over, and sees
// that the next one finds its way, and that a sweep leaves nothing.
func TestKilled_AtAnyMoment(t *testing.T) {
	if os.Getenv("NETWORK_TEST_CHURN") != "" {
		churn(t)
		return
	}
	w := newWorld(t)
	for i := range 25 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled_AtAnyMoment$")
		cmd.Env = append(os.Environ(), "NETWORK_TEST_CHURN="+w.dir+":"+w.run)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		w.check(cmd.Start())
		time.Sleep(time.Duration(7*i) * time.Millisecond) // whenever: each moment is a good one
		w.check(cmd.Process.Kill())
		_ = cmd.Wait() // says that it was killed
	}
	w.mu.Lock()
	w.dead[id("churn")] = true
	w.mu.Unlock()
	e := w.start("after", "bridge", portRequest("", 8080))
	w.wantAnswer("lan", "tcp", "10.99.0.1:8080", "after", "")
	w.check(w.Sweep())
	w.check(w.Release(e.Container))
	if err := w.Remove("temporary"); err != nil && !errors.Is(err, network.ErrNotExist) {
		t.Error(err)
	}
	w.check(os.WriteFile(w.dir+"/x.json.new", []byte("{"), 0o600)) // what a kill leaves, for sure
	_, err := w.Create(network.Config{Name: "last"})
	w.check(err)
	w.check(w.Remove("last"))
	left := w.sh("find " + w.run + " ! -type d ! -name lock ! -name rules ! -name collect")
	if left != "" {
		t.Errorf("left behind: %s", left)
	}
	if out := w.sh("nft list table inet minidocker"); strings.Contains(out, "8080") ||
		strings.Contains(out, " md-") {
		t.Errorf("left behind: %s", out)
	}
	all, err := w.List()
	if err != nil || len(all) != 3 {
		t.Errorf("got %d networks, %v, want the predefined ones", len(all), err)
	}
	if out := w.sh("ls " + w.dir); strings.Contains(out, ".new") {
		t.Errorf("left behind: %s", out)
	}
}

// churn is the process that is killed.
func churn(t *testing.T) {
	dir, run, _ := strings.Cut(os.Getenv("NETWORK_TEST_CHURN"), ":")
	w := &world{TB: t, ns: map[string]*os.File{}, dir: dir, run: run}
	var err error
	w.Store, err = network.Open(dir, run, func(string) bool { return true })
	w.check(err)
	for i := 0; ; i++ {
		w.check(w.Release(id("churn")))
		name := fmt.Sprint("ns", i)
		ns := w.namespace(name)
		w.check(netns.Do(ns, func() error { return nil }))
		r := portRequest("", 8080)
		r.Container, r.Names = id("churn"), []string{"churn"}
		e, err := w.Reserve("bridge", r)
		w.check(err)
		_ = w.Remove("temporary") // of the one before
		n, err := w.Create(network.Config{Name: "temporary"})
		w.check(err)
		second, err := w.Reserve(n.ID, network.Request{Container: id("churn")})
		w.check(err)
		w.check(w.Attach(ns, e, second))
		w.check(w.Disconnect(ns, n.ID, id("churn")))
		w.check(w.Remove(n.ID))
		ns.Close()
	}
}
