//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"minidocker/final/cgroup"
	"minidocker/final/oci"
	"minidocker/final/oci/spawn"
)

var rawCount atomic.Int64

// raw does with bare system calls what a runtime has to do at least for such a bundle: a
// control group, namespaces, mounts, a new root, and a process. Nothing is read, checked or
// recorded, and there is no /dev.
func raw(rootfs string) error {
	group, err := cgroup.Open(fmt.Sprintf("/bench-raw-%d", rawCount.Add(1)))
	if err != nil {
		return err
	}
	if err := group.Create(nil, false); err != nil {
		return err
	}
	entrances, err := group.Entrances()
	if err != nil {
		return err
	}
	defer entrances.Close()
	plan := spawn.New(unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWPID|
		unix.CLONE_NEWNET, entrances.Into())
	defer plan.Close()
	for _, tasks := range entrances.Tasks {
		plan.Enter(tasks)
	}
	plan.Unshare(unix.CLONE_NEWCGROUP)
	rawMounts(plan, rootfs)
	files := []spawn.Descriptor{os.Stdin, os.Stdout, os.Stderr}
	if err := plan.Descriptors(files); err != nil {
		return err
	}
	if err := plan.Exec([]string{"/bin/true"}, []string{"true"}, nil); err != nil {
		return err
	}
	child, err := plan.Start()
	if err != nil {
		return err
	}
	if err := child.Wait(); err != nil {
		return err
	}
	if _, err := oci.Wait(child.Pid); err != nil {
		return err
	}
	return group.Remove()
}

func rawMounts(plan *spawn.Plan, rootfs string) {
	mount := func(source, target, kind string, flags uintptr, data string) {
		plan.Call("mount "+target, unix.SYS_MOUNT, plan.Pointer(source), plan.Pointer(target),
			plan.Pointer(kind), flags, plan.Pointer(data))
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	mount(rootfs, rootfs, "", unix.MS_BIND|unix.MS_REC, "")
	mount("proc", filepath.Join(rootfs, "proc"), "proc", 0, "")
	mount("tmpfs", filepath.Join(rootfs, "dev"), "tmpfs", 0, "mode=755")
	mount("sysfs", filepath.Join(rootfs, "sys"), "sysfs", unix.MS_RDONLY, "")
	root := plan.Pointer(rootfs)
	plan.Call("chdir", unix.SYS_CHDIR, root)
	dot := plan.Pointer(".")
	plan.Call("pivot_root", unix.SYS_PIVOT_ROOT, dot, dot)
	plan.Call("umount", unix.SYS_UMOUNT2, dot, unix.MNT_DETACH)
}
