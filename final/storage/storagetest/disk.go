//go:build linux

package storagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/storage/loop"
)

// Disk gives a folder on a new file system of that type, in a file as large as is said, which
// takes no more of the disk than is written to it. Main has seen to it that no other process sees
// the mount, and it is gone with the tests at the latest.
func Disk(t testing.TB, kind string, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "disk"))
	must(t, err, file.Truncate(bytes))
	defer file.Close()
	if out, err := exec.Command("mkfs."+kind, "-q", file.Name()).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s (apt-get install btrfs-progs): %v\n%s", kind, err, out)
	}
	device, err := loop.Attach(file)
	must(t, err)
	defer device.Close()
	at := filepath.Join(dir, "mnt")
	must(t, os.Mkdir(at, 0o755), fsmount.Mount(kind, device.Name(), at, nil))
	t.Cleanup(func() { must(t, unix.Unmount(at, 0)) })
	return at
}

// apart runs the test program again in a mount namespace of its own, and gives its exit status.
func apart() int {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), apartVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		panic(err)
	}
	return cmd.ProcessState.ExitCode()
}

const apartVar = "STORAGETEST_APART"
