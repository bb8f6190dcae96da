//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

func pauseCommand(name string, frozen bool) *cli.Command {
	return &cli.Command{
		Name:         name,
		Usage:        name + " all processes of containers",
		ArgsUsage:    "ID...",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return fmt.Errorf("no container given: minidocker %s ID [ID...]", name)
			}
			for _, id := range c.Args().Slice() {
				g, err := openCgroup(id)
				if err != nil {
					return err
				}
				if err := g.freeze(frozen); err != nil {
					return fmt.Errorf("%s %s: %w", name, id, err)
				}
			}
			return nil
		},
	}
}

// openCgroup finds a running container's group by the beginning of its ID.
func openCgroup(prefix string) (*cgroup, error) {
	names, err := cgroupNames()
	if err != nil {
		return nil, err
	}
	id, err := matchID(names, prefix)
	if err != nil {
		return nil, err
	}
	return findCgroup(id)
}

// matchID returns the only one of ids that begins with prefix, which may not be empty:
// a variable that is not set names no container.
func matchID(ids []string, prefix string) (string, error) {
	var found []string
	for _, id := range ids {
		if prefix != "" && strings.HasPrefix(id, prefix) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d containers have an ID that begins with %q", len(found), prefix)
	}
	return found[0], nil
}

// freeze stops all processes of the group, or lets them go on, and waits until it is so.
func (g *cgroup) freeze(frozen bool) error {
	// Version 2 says how far it is in another file than the one that it is told in.
	file, value, status, done := g.find("cgroup.freeze"), "0", g.find("cgroup.events"), "frozen 0"
	if frozen {
		value, done = "1", "frozen 1"
	}
	if file == "" {
		file, value = g.find("freezer.state"), "THAWED"
		if frozen {
			value = "FROZEN"
		}
		status, done = file, value
	}
	if file == "" {
		return errors.New("no control group has a file cgroup.freeze or freezer.state")
	}
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		return err
	}
	for range 500 {
		now, err := os.ReadFile(status)
		if err != nil || strings.Contains(string(now), done) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s does not become %q", status, done)
}

func statsCommand() *cli.Command {
	return &cli.Command{
		Name:         "stats",
		Usage:        "what containers use, measured for a second (default: all)",
		ArgsUsage:    "[ID...]",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			ids := c.Args().Slice()
			if len(ids) == 0 {
				var err error
				if ids, err = cgroupNames(); err != nil {
					return err
				}
			}
			return printStats(ids)
		},
	}
}

func printStats(ids []string) error {
	groups := map[string]*cgroup{}
	before := map[string]int64{}
	for _, id := range ids {
		g, err := openCgroup(id)
		if err != nil {
			return err
		}
		groups[id], before[id] = g, g.cpuMicroseconds()
	}
	start := time.Now()
	time.Sleep(time.Second)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CONTAINER ID\tCPU %\tMEMORY\tLIMIT\tPIDS")
	for _, id := range ids {
		g := groups[id]
		cpu := float64(g.cpuMicroseconds()-before[id]) / float64(time.Since(start).Microseconds())
		fmt.Fprintf(w, "%s\t%.1f %%\t%s\t%s\t%d\n", id, 100*cpu,
			mebibytes(g.number("memory.current", "memory.usage_in_bytes")),
			mebibytes(g.number("memory.max", "memory.limit_in_bytes")),
			g.number("pids.current", "pids.current"))
	}
	return w.Flush()
}

// mebibytes prints bytes, and a limit that is none as none.
func mebibytes(n int64) string {
	if n < 0 || n > 1<<60 {
		return "none"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// number reads a file of version 2, or else of version 1; -1 if it holds no number.
func (g *cgroup) number(v2, v1 string) int64 {
	for _, file := range []string{v2, v1} {
		if path := g.find(file); path != "" {
			text, _ := os.ReadFile(path) // gone: the container has ended
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
				return n
			}
			return -1
		}
	}
	return -1
}

// cpuMicroseconds is the CPU time that the group has used.
func (g *cgroup) cpuMicroseconds() int64 {
	if n := g.number("cpuacct.usage", "cpuacct.usage"); n >= 0 {
		return n / 1000 // version 1: nanoseconds
	}
	return g.counter("cpu.stat", "usage_usec")
}

// counter reads a line "name number" of a file; 0 if there is none.
func (g *cgroup) counter(file, name string) int64 {
	text, _ := os.ReadFile(g.find(file))
	for line := range bytes.Lines(text) {
		var n int64
		if _, err := fmt.Sscanf(string(line), name+" %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// warnIfOutOfMemory says so if the kernel has killed a process at the memory limit:
// an exit status of 137 alone does not tell.
func (g *cgroup) warnIfOutOfMemory() {
	n := g.counter("memory.events", "oom_kill") + g.counter("memory.oom_control", "oom_kill")
	if n > 0 {
		logrus.Warnf("out of memory: the kernel killed %d process(es) at the limit of %s", n,
			mebibytes(g.number("memory.max", "memory.limit_in_bytes")))
	}
}
