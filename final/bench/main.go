//go:build linux

// Command bench measures minirunc beside the other OCI runtimes that are installed, and beside
// the bare system calls that a container takes, and the engine beside docker and podman, in one
// run: every round starts each of them
// once, in a random order, so that what else the machine does meets all alike. It prints
// medians, quartiles and ratios and writes them to docs/benchmarks.md. "make bench" calls it,
// as root.
//
// Times differ from machine to machine and from hour to hour; the ratios are what to look at.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// settings are those of the command line.
type settings struct {
	minirunc, rootfs, out, only string
	rounds, leftovers           int
	engines                     bool
}

func main() {
	s := &settings{}
	arch := "build/rootfs/" + runtime.GOARCH
	flag.StringVar(&s.minirunc, "minirunc", "build/bin/minirunc", "the program to measure")
	flag.StringVar(&s.rootfs, "rootfs", arch, "root file system with /bin/true and /bin/sleep")
	flag.StringVar(&s.out, "o", "", "file for the tables as well, in Markdown")
	flag.StringVar(&s.only, "run", "", "only cases with this in their names")
	flag.IntVar(&s.rounds, "rounds", 30, "how often each is measured")
	flag.BoolVar(&s.engines, "engines", false, "also the engine beside docker and podman")
	flag.IntVar(&s.leftovers, "leftovers", 0,
		"do not measure: create and delete so many containers and say what is left")
	flag.Parse()
	if err := inOwnMounts(s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// inOwnMounts starts this program once more in a mount namespace of its own, without the
// hierarchy of version 2 that a hybrid machine has beside version 1: crun refuses that. And in a
// network namespace of its own, in which engines may do with the firewall what they like.
func inOwnMounts(s *settings) error {
	const mark = "MINIDOCKER_BENCH"
	if os.Getenv(mark) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), mark+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
		return cmd.Run()
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	err := unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("umount", err)
	}
	if s.minirunc, err = filepath.Abs(s.minirunc); err != nil {
		return err
	}
	work, err := os.MkdirTemp("/var/tmp", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := do("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	if s.leftovers > 0 {
		return leftovers(s, work)
	}
	return measureAll(s, work)
}

func measureAll(s *settings, work string) error {
	runtimes := programs(s, work)
	for _, r := range runtimes {
		defer r.stop()
	}
	all, err := cases(s, work, runtimes)
	if err != nil {
		return err
	}
	var there []*engineProgram
	if s.engines {
		there, err = engines(s, work)
		for _, p := range there {
			defer p.stop()
		}
		if err != nil {
			return err
		}
		more, err := engineCases(there, bare(runtimes), filepath.Join(work, "plain"))
		if err != nil {
			return err
		}
		all = append(all, more...)
		more, server, err := imageCases(s, work, there)
		defer server.stop()
		if err != nil {
			return err
		}
		all = append(all, more...)
		all = append(all, crowdCases(there[0], bare(runtimes), filepath.Join(work, "plain"))...)
	}
	var failed error
	text := &strings.Builder{}
	describe(text)
	for _, c := range all {
		if !strings.Contains(c.name, s.only) {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench:", c.name)
		samples, err := c.measure(s.rounds)
		if err != nil { // the others are not in vain
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c.name, err))
			continue
		}
		c.table(text, samples)
	}
	if len(there) > 0 {
		memory(text, there)
		shimMemory(text)
	}
	fmt.Print(text.String())
	if s.out == "" {
		return failed
	}
	return errors.Join(failed, os.WriteFile(s.out, []byte(text.String()), 0o644))
}

// bare is crun, or the runtime in its place; nil if there is none.
func bare(all []*runtimeProgram) *runtimeProgram {
	if len(all) < 2 {
		return nil
	}
	return all[1]
}

// describe says what was measured, and on what.
func describe(out *strings.Builder) {
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail
	groups := "version 1"
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		groups = "version 2"
	}
	fmt.Fprintf(out, `# Benchmarks

Written by `+"`make bench`"+` on Linux %s, %s, %d CPUs, cgroup %s.
Milliseconds. In every table each was started in turn, in a random order each time. *Cold* is
250 ms after the one before, *hot* at once. The ratio is the median of each round's own, to
crun if it is there. Compare ratios: the times are of a machine that does other things, too.

`, unix.ByteSliceToString(u.Release[:]), runtime.GOARCH, runtime.NumCPU(), groups)
	for _, name := range []string{"crun", "runc", "docker", "podman"} {
		if version, err := exec.Command(name, "--version").Output(); err == nil {
			line, _, _ := strings.Cut(string(version), "\n")
			fmt.Fprintf(out, "- %s\n", line)
		}
	}
	fmt.Fprintln(out)
}
