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

// The program of ExecProtected has this one's file nowhere.
func TestPlan_ExecProtected(t *testing.T) {
	if !HasTrampoline {
		return
	}
	for name, c := range map[string]struct {
		paths []string
		args  []string
		want  string
		errno error
	}{
		"found":          {[]string{"/nowhere/sh", "/etc/passwd", "/bin/sh"}, []string{"sh", "-c", `echo "$0|$1|$A"`, "a", ""}, "a||b\n", nil},
		"descriptors":    {[]string{"/bin/ls"}, []string{"ls", "/proc/self/fd"}, "0\n1\n2\n3\n", nil},
		"itself":         {[]string{"/proc/self/exe"}, []string{"x"}, "", syscall.ENOENT},
		"nothing":        {[]string{"/nowhere/sh", "/none"}, []string{"x"}, "", syscall.ENOENT},
		"not executable": {[]string{"/etc/passwd"}, []string{"x"}, "", syscall.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			p := New(0, -1)
			if err := p.Descriptors([]Descriptor{os.Stdin, w, os.Stderr}); err != nil {
				t.Fatal(err)
			}
			if err := p.ExecProtected(c.paths, c.args, []string{"A=b"}); err != nil {
				t.Fatal(err)
			}
			child, err := p.Start()
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			err = child.Wait()
			if name == "itself" { // the trampoline once more, with other arguments, which end it
				return
			}
			if !errors.Is(err, c.errno) {
				t.Fatalf("got %v, want %v", err, c.errno)
			}
			out, err := io.ReadAll(r)
			if err != nil || string(out) != c.want {
				t.Errorf("got %q, %v, want %q", out, err, c.want)
			}
			if c.errno == nil {
				child.reap(child.Pid)
			}
		})
	}
}
