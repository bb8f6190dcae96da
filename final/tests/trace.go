//go:build linux

package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// trace is what a container can leave on a machine, one line for each thing.
type trace []string

// takeTrace looks at the machine, which is the sandbox.
func takeTrace() (trace, error) {
	var all trace
	for _, look := range []func() ([]string, error){
		mounts, links, cgroups, firewall, processLines, files, ipcObjects,
	} {
		lines, err := look()
		if err != nil {
			return nil, err
		}
		all = append(all, lines...)
	}
	return all, nil
}

// left returns what is there now and was not before, and the other way round, a line
// each; empty if nothing. What is about to go gets ten seconds: a network namespace goes late.
func (before trace) left() string {
	for limit := time.Now().Add(scale(10 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		now, err := takeTrace()
		if err != nil {
			return err.Error() + "\n"
		}
		var b strings.Builder
		for _, line := range now {
			if !slices.Contains(before, line) {
				fmt.Fprintln(&b, "new:", line)
			}
		}
		for _, line := range before {
			if !slices.Contains(now, line) {
				fmt.Fprintln(&b, "gone:", line)
			}
		}
		if b.Len() == 0 || time.Now().After(limit) {
			return b.String()
		}
	}
}

func mounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	var all []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line) // ID, parent, major:minor, root, mount point, options, …
		all = append(all, "mount "+strings.Join(f[2:], " "))
	}
	return all, err
}

func links() ([]string, error) {
	network, err := filepath.Glob("/sys/class/net/*")
	names, err2 := filepath.Glob("/run/netns/*")
	return append(prefix("link ", network), prefix("netns ", names)...), errors.Join(err, err2)
}

func cgroups() ([]string, error) {
	var all []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			all = append(all, "cgroup "+path)
		}
		return err
	})
	return all, err
}

// firewall asks those of the tools that the machine has. A table with nothing but the
// kernel's own chains, accepting all, is what iptables leaves after any use.
func firewall() ([]string, error) {
	var all []string
	for _, tool := range [][]string{{"nft", "list", "ruleset"}, {"iptables-legacy-save"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			continue
		}
		out, err := exec.Command(tool[0], tool[1:]...).Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tool[0], err)
		}
		table, chain := "", ""
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(line)
			switch first, _, _ := strings.Cut(line, " "); {
			case line == "" || line == "}" || line == "COMMIT" || first == "#":
			case first == "table" || strings.HasPrefix(line, "*"):
				table, chain = line, ""
			case first == "chain":
				chain = line
				all = append(all, "firewall "+table+" "+chain)
			case first == "type" && strings.HasSuffix(line, "policy accept;"):
				all = all[:len(all)-1] // the chain is one of the kernel's
			case strings.HasPrefix(line, ":") && strings.Contains(line, " ACCEPT "):
			default:
				all = append(all, "firewall "+table+" "+chain+" "+line)
			}
		}
	}
	return all, nil
}

// process is one of the sandbox's, which has a pid namespace of its own.
type process struct {
	pid     int
	cmdline string // the arguments, a blank between two
}

// processes are all but this one.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil { // else it has just ended
			args := strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
			all = append(all, process{pid, strings.Join(args, " ")})
		}
	}
	return all, err
}

func processLines() ([]string, error) {
	all, err := processes()
	var lines []string
	for _, p := range all {
		lines = append(lines, fmt.Sprintf("process %d %s", p.pid, p.cmdline))
	}
	return lines, err
}

func files() ([]string, error) {
	var all []string
	for _, root := range []string{"/run", "/var/lib/minidocker", "/dev/shm", "/dev/mqueue"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			switch path {
			case "/run/minidocker", "/var/lib/minidocker/image", "/var/lib/minidocker/storage",
				"/var/lib/minidocker/names", "/var/lib/minidocker/network",
				"/var/lib/minidocker/volumes", // the engine's: see engineFiles
				"/var/lib/minidocker/build/caches", "/var/lib/minidocker/build/sums":
				return filepath.SkipDir
			case "/run/mount": // of the mount command that a script used
				return filepath.SkipDir
			case "/var/lib/minidocker/layers", "/var/lib/minidocker/blobs": // images are there to stay
				return filepath.SkipDir
			case "/var/lib/minidocker", "/var/lib/minidocker/images.json", "/var/lib/minidocker/build",
				"/var/lib/minidocker/containers", "/var/lib/minidocker/tmp",
				"/var/lib/minidocker/networks", "/var/lib/minidocker/sandboxes",
				"/var/lib/minidocker/engine-id":
				return ignoreNotExist(err)
			}
			all = append(all, "file "+path)
			return ignoreNotExist(err)
		})
		if err != nil {
			return nil, err
		}
	}
	engine, err := engineFiles()
	return append(all, engine...), err
}

func ipcObjects() ([]string, error) {
	var all []string
	for _, kind := range []string{"msg", "sem", "shm"} {
		data, err := os.ReadFile("/proc/sysvipc/" + kind)
		if err != nil {
			return nil, err
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		all = append(all, prefix("System V "+kind+" ", lines[1:])...) // the first line is a heading
	}
	return all, nil
}

func prefix(word string, names []string) []string {
	var all []string
	for _, name := range names {
		all = append(all, word+name)
	}
	return all
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// childrenOf returns the IDs of the child processes.
func childrenOf(pid int) ([]int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if ignoreNotExist(err) != nil {
			return nil, err
		}
		for _, field := range strings.Fields(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			all = append(all, child)
		}
	}
	return all, err
}
