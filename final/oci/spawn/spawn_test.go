//go:build linux

package spawn

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func run(t *testing.T, flags uintptr, prepare func(*Plan), args ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := New(flags, -1)
	prepare(p)
	if err := p.Descriptors([]Descriptor{os.Stdin, w, os.Stderr}); err != nil {
		t.Fatal(err)
	}
	if err := p.Exec([]string{"/nowhere/sh", "/bin/sh"}, args, []string{"A=b"}); err != nil {
		t.Fatal(err)
	}
	c, err := p.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(r)
	c.reap(c.Pid)
	return string(out)
}

func TestPlan(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("namespaces take root: use make test")
	}
	none := func(*Plan) {}
	if got := run(t, 0, none, "sh", "-c", "echo $A"); got != "b\n" {
		t.Errorf("got %q", got)
	}
	if got := run(t, unix.CLONE_NEWPID, none, "sh", "-c", "echo $$"); got != "1\n" {
		t.Errorf("pid in a new namespace: got %q", got)
	}
	again := func(p *Plan) { p.Unshare(unix.CLONE_NEWPID); p.Clone(0) }
	if got := run(t, 0, again, "sh", "-c", "echo $$"); got != "1\n" {
		t.Errorf("pid after a second clone: got %q", got)
	}
}

func TestPlan_Error(t *testing.T) {
	p := New(0, -1)
	p.Call("chdir /nowhere", unix.SYS_CHDIR, p.Pointer("/nowhere"))
	c, err := p.Start()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); !errors.Is(err, syscall.ENOENT) || err.Error() != "chdir /nowhere: no such file or directory" {
		t.Errorf("got %v", err)
	}
}
