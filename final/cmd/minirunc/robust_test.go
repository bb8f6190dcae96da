//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// leftovers is what containers of these tests may leave: mounts, control groups,
// processes, folders.
func leftovers(t *testing.T) string {
	t.Helper()
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/Test*")
	unified, _ := filepath.Glob("/sys/fs/cgroup/Test*")
	groups = append(groups, unified...)
	folders, _ := filepath.Glob(states + "/*")
	temporary, _ := filepath.Glob("/run/tmp/minirunc-*")
	var processes []string
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, _ := os.ReadFile(file)
		if strings.HasPrefix(string(line), "minirunc\x00init") || strings.HasPrefix(string(line), "sleep\x001000") {
			processes = append(processes, file)
		}
	}
	return fmt.Sprintf("%v\n%v\n%v\n%v\n%s", groups, folders, temporary, processes, mounts(t))
}

// rounds is how often something is tried in the hope that it fails: less in a virtual machine
// without hardware for it, where all takes ten times as long.
func rounds(n int) int {
	if testing.Short() || os.Getenv("MINIDOCKER_TIME_SCALE") != "" {
		return n / 5
	}
	return n
}

func busy(s *specs.Spec) {
	mapped(s)
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}
}

func TestCreate_Killed(t *testing.T) {
	for name, edit := range map[string]func(*specs.Spec){"plain": func(*specs.Spec) {}, "busy": busy} {
		t.Run(name, func(t *testing.T) {
			before := leftovers(t)
			b := newBundle(t, "exec sleep 1000", edit)
			start := time.Now()
			b.background("create")
			whole := time.Since(start)
			b.must("delete", "--force", b.id)
			for range rounds(60) {
				cmd := b.cmd("create", b.id)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(rand.N(whole + whole/4))
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				b.must("list")
				b.must("delete", "--force", b.id)
				b.fails([]string{"state", b.id}, "does not exist")
			}
			// What was killed before its record was written ends by itself.
			eventually(t, "nothing is left: "+before, func() bool { return leftovers(t) == before })
		})
	}
}

func TestRun_Killed(t *testing.T) {
	before := leftovers(t)
	b := newBundle(t, "exec sleep 1000")
	start := time.Now()
	b.up()
	whole := time.Since(start)
	b.must("delete", "--force", b.id)
	for range rounds(100) {
		cmd := b.cmd("run", "--detach", b.id)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(whole + whole/4))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b.must("list")
		b.must("delete", "--force", b.id)
	}
	eventually(t, "nothing is left: "+before, func() bool { return leftovers(t) == before })
}

func TestStart_Killed(t *testing.T) {
	before := leftovers(t)
	b := newBundle(t, "exec sleep 1000")
	for range rounds(30) {
		b.background("create")
		cmd := b.cmd("start", b.id)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(8 * time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b.must("state", b.id)
		b.must("delete", "--force", b.id)
	}
	if now := leftovers(t); now != before {
		t.Errorf("left: %s\nbefore: %s", now, before)
	}
}

func TestDelete_Killed(t *testing.T) {
	before := leftovers(t)
	b := newBundle(t, "exec sleep 1000")
	for range rounds(30) {
		b.up()
		cmd := b.cmd("delete", "--force", b.id)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(12 * time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b.must("delete", "--force", b.id)
	}
	if now := leftovers(t); now != before {
		t.Errorf("left: %s\nbefore: %s", now, before)
	}
}

func TestCommands_AtOnce(t *testing.T) {
	before := leftovers(t)
	b := newBundle(t, "exec sleep 1000")
	commands := [][]string{
		{"create"}, {"run", "--detach"}, {"start"}, {"delete", "--force"}, {"delete"}, {"state"}, {"list"},
		{"kill", "ID", "KILL"}, {"pause"}, {"resume"}, {"exec", "ID", "true"}, {"ps", "--format", "json"},
		{"update", "--pids-limit", "50"}, {"events", "--stats"},
	}
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for range 40 {
				args := append([]string{}, commands[rand.N(len(commands))]...)
				named := args[0] == "list"
				for i := range args {
					if args[i] == "ID" {
						args[i], named = b.id, true
					}
				}
				if !named {
					args = append(args, b.id)
				}
				cmd := minirunc(args...)
				cmd.Dir = b.dir
				name := fmt.Sprintf("%s/error%d", b.dir, worker)
				out, err := os.Create(name)
				if err != nil {
					t.Error(err)
					return
				}
				cmd.Stderr = out
				err = cmd.Run()
				out.Close()
				data, _ := os.ReadFile(name)
				said := string(data)
				if args[0] == "exec" && cmd.ProcessState.ExitCode() == 137 {
					continue // killed together with the container
				}
				if cmd.ProcessState.ExitCode() < 0 || err != nil && said == "" || strings.Contains(said, "goroutine") ||
					strings.Count(said, "\n") > 1 {
					t.Errorf("%v: %v: %s", args, err, said)
				}
			}
		})
	}
	group.Wait()
	b.must("delete", "--force", b.id)
	eventually(t, "nothing is left", func() bool { return leftovers(t) == before })
}

func TestCreateDelete_Rounds(t *testing.T) {
	before := leftovers(t)
	b := newBundle(t, "exec sleep 1000")
	for range rounds(500) {
		b.background("create")
		b.must("delete", "--force", b.id)
	}
	if now := leftovers(t); now != before {
		t.Errorf("left: %s\nbefore: %s", now, before)
	}
}

// A file system without room: one error, and all undone.
func TestCreate_NoRoom(t *testing.T) {
	full := t.TempDir()
	mountTmpfs(t, full, "size=4k")
	if err := os.WriteFile(full+"/fill", make([]byte, 4096), 0o600); err != nil {
		t.Log(err) // it is full even so
	}
	b := newBundle(t, "true")
	cmd := minirunc()
	cmd.Args = []string{program, "--root", full + "/states", "create", b.id}
	cmd.Dir = b.dir
	if r := run1(cmd); r.status == 0 || !strings.Contains(r.err, "no space left on device") ||
		strings.Count(r.err, "\n") != 1 {
		t.Error(r)
	}
	if found, _ := filepath.Glob(full + "/states/*"); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}
