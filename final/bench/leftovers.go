//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// leftovers creates and deletes containers, and says what there is more of afterwards.
func leftovers(s *settings, work string) error {
	bundle, err := makeBundle(s, filepath.Join(work, "plain"), func(spec *specs.Spec) error {
		spec.Process.Args = []string{"/bin/sleep", "1000000"}
		return nil
	})
	if err != nil {
		return err
	}
	p := programs(s, work)[0]
	before := count(p.root)
	begin := time.Now()
	for range s.leftovers {
		id := p.id()
		if err := p.call("create", "--bundle", bundle, id); err != nil {
			return err
		}
		if err := p.call("delete", "--force", id); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	after := count(p.root)
	fmt.Printf("%d times create and delete, %.1f ms each\n", s.leftovers,
		took.Seconds()*1000/float64(s.leftovers))
	for _, name := range []string{"containers", "mounts", "control groups", "processes"} {
		fmt.Printf("%s: %d before, %d after\n", name, before[name], after[name])
	}
	return nil
}

// count counts what a container could leave behind.
func count(root string) map[string]int {
	all := map[string]int{}
	entries, _ := os.ReadDir(root) // there is none before the first container
	all["containers"] = len(entries)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	all["mounts"] = strings.Count(string(mounts), "\n")
	for _, pattern := range []string{"/sys/fs/cgroup/*/bench-*", "/sys/fs/cgroup/bench-*"} {
		found, _ := filepath.Glob(pattern)
		all["control groups"] += len(found)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		data, _ := os.ReadFile(line)
		if text := string(data); strings.HasPrefix(text, "minirunc\x00init") ||
			strings.HasPrefix(text, "/bin/sleep\x001000000") {
			all["processes"]++
		}
	}
	return all
}
