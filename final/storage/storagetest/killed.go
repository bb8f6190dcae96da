//go:build linux

package storagetest

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/driver"
)

// Main is for a driver's TestMain: the test program is also the process that is to be killed. It
// runs in a mount namespace of its own.
func Main(m *testing.M, open Open) {
	if os.Getenv(apartVar) == "" {
		os.Exit(apart())
	}
	dir := os.Getenv("STORAGETEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	d, err := open(dir)
	if err == nil {
		err = work(d, os.Getenv("STORAGETEST_WORK"))
	}
	fmt.Println("error:", err)
	os.Exit(1)
}

// work does one thing over and over, until it is killed.
func work(d driver.Driver, what string) error {
	fmt.Println("begin")
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", what, i)
		switch what {
		case "apply": // one that never ends
			r, w := io.Pipe()
			go func() {
				tw := newEndless(w)
				for n := 0; ; n++ {
					tw.file(fmt.Sprintf("d%d/f%d", n%10, n), 5000)
				}
			}()
			_, err := d.Apply(context.Background(), id, "base", r)
			return err
		case "create":
			if err := d.Create(id, "base", driver.Options{}); err != nil {
				return err
			}
		case "remove":
			if err := d.Create(id, "base", driver.Options{}); err != nil {
				return err
			}
			if err := d.Remove(id); err != nil {
				return err
			}
		}
	}
}

// testKilled kills a process at some moment of its work: what is there afterwards is whole, and
// nothing else is, when the driver has been opened again.
func testKilled(t *testing.T, b *bench) {
	b.apply("base", "", folder("a"), file("a/x", "1"), file("a/y", "1"), file("z", "1"))
	want := b.look("base")
	must(t, b.Close())
	b.Driver = nil
	for i, what := range []string{"apply", "create", "remove", "apply", "create", "remove"} {
		program, err := os.Executable()
		must(t, err)
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), "STORAGETEST_DIR="+b.dir, "STORAGETEST_WORK="+what)
		out, err := cmd.StdoutPipe()
		must(t, err, cmd.Start())
		line := make([]byte, 100)
		n, err := out.Read(line)
		if err != nil || !bytes.HasPrefix(line, []byte("begin")) {
			t.Fatalf("the process that is to be killed: %q, %v", line[:n], err)
		}
		time.Sleep(time.Duration(30+17*i) * time.Millisecond)
		must(t, cmd.Process.Signal(unix.SIGKILL))
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); !signaled(cmd) {
			t.Fatalf("%s ended by itself: %v %s", what, err, rest)
		}
		b.reopen()
		b.noLeftovers()
		all, err := b.List()
		must(t, err)
		for i, id := range all {
			if what == "apply" && id != "base" {
				t.Errorf("%q is there, which never ended", id)
			}
			if i < 5 && id != "base" {
				same(t, "a layer after a kill", b.look(id), want)
			}
			if id != "base" {
				must(t, b.Remove(id))
			}
		}
		same(t, "the parent", b.look("base"), want)
	}
}

func signaled(cmd *exec.Cmd) bool {
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// endless writes an archive that has no end.
type endless struct {
	tar  *tar.Writer
	data []byte
}

func newEndless(w io.Writer) *endless {
	return &endless{tar.NewWriter(w), bytes.Repeat([]byte("x"), 5000)}
}

func (e *endless) file(name string, size int64) {
	h := &tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: stamp}
	if err := e.tar.WriteHeader(h); err != nil {
		return
	}
	_, _ = e.tar.Write(e.data[:size]) // who reads it is going to be killed
}
