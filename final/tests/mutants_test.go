//go:build linux

package tests

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

// mutants are programs with one isolation or one duty taken out. Each must make a
// script of the step that brought it fail, on that step's program and on the last
// one's. A replacement keeps the program compiling.
var mutants = []struct {
	name     string
	since    int
	file     string
	old, new string
}{
	{"child outlives the parent", 1, "run.go", "Pdeathsig: unix.SIGKILL,", "Pdeathsig: unix.SIGKILL * 0,"},
	{"signals not forwarded", 1, "run.go", "go forwardSignals(cmd.Process)", ""},
	{"no process group of its own", 1, "terminal.go", "attr.Setsid = !t.interactive", ""},
	{"terminal not given", 1, "terminal.go", "attr.Foreground = t.interactive", "attr.Setpgid = t.interactive"},
	{"terminal not taken back", 1, "run.go", "defer term.restore()", ""},
	{"terminal taken in a pipeline", 1, "terminal.go", "interactive: err == nil && inForeground()", "interactive: inForeground()"},
	{"minidocker does not stop with the command", 1, "terminal.go", "case status.Stopped() && t.interactive:", "case false:"},
	{"signal numbers lost", 1, "run.go", "return 128 + int(status.Signal()), nil", "return 1, nil"},

	{"no UTS namespace", 2, "run.go", "unix.CLONE_NEWUTS", "0"},
	{"no IPC namespace", 2, "run.go", "unix.CLONE_NEWIPC", "0"},
	{"host name not set", 2, "uts.go", "unix.Sethostname([]byte(name))", `unix.Access("/", 0)`},

	{"no PID namespace", 3, "run.go", "unix.CLONE_NEWPID", "0"},
	{"no mount namespace", 3, "run.go", "unix.CLONE_NEWNS", "0"},
	{"mounts not private", 3, "mount.go", `return mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")`, "return nil"},
	{"only the root mount private", 3, "mount.go", "unix.MS_REC|unix.MS_PRIVATE", "unix.MS_PRIVATE"},
	{"no new /proc", 3, "mount.go", `return mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")`, "return nil"},

	{"no pivot_root", 4, "rootfs.go", `unix.PivotRoot(".", ".")`, "error(nil)"},
	{"chroot in place of pivot_root", 4, "rootfs.go", "changeRoot := pivotRoot", "changeRoot := chroot"},
	{"old root stays mounted", 4, "rootfs.go", `unix.Unmount(".", unix.MNT_DETACH)`, "error(nil)"},
	{"working directory stays outside", 4, "rootfs.go", `return unix.Chdir("/")`, "return nil"},
	{"read-only volume is writable", 4, "volume.go", "if v.ReadOnly {", "if false {"},
	{"read-only volume not recursive", 4, "volume.go", "unix.AT_EMPTY_PATH|unix.AT_RECURSIVE", "unix.AT_EMPTY_PATH"},
	{"volume not recursive", 4, "volume.go", "unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE", "unix.OPEN_TREE_CLOEXEC"},
	{"descriptors leak", 4, "init.go", "unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)", "unix.CloseRange(math.MaxInt32, math.MaxInt32, 0)"},
	{"host's environment", 4, "run.go", "cmd.Env = cfg.Env", ""},
	{"/sys writable", 4, "dev.go", " | unix.MS_RDONLY", ""},
	{"host's umask", 4, "rootfs.go", "unix.Umask(0o022)", ""},
	{"image's /etc files", 4, "etc.go", "source, target := filepath.Join(dir, f.name), filepath.Join(\"/etc\", f.name)", "source, target := filepath.Join(dir, f.name), filepath.Join(\"/tmp\", f.name)"},
}

// TestMutants shows that the scripts notice when something is missing. It takes a
// while, so it runs where MINIDOCKER_MUTANTS is set: make mutants.
func TestMutants(t *testing.T) {
	if os.Getenv("MINIDOCKER_MUTANTS") == "" {
		t.Skip("run make mutants")
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	setup := Setup{Rootfs: Rootfs(t, top), Escape: Lab(t, top, "escape")}
	dirs, err := filepath.Glob(filepath.Join(top, "step*"))
	if err != nil {
		t.Fatal(err)
	}
	// Two at a time on two processors: most of a script's time is waiting.
	slots := make(chan struct{}, 2*runtime.NumCPU())
	for _, dir := range dirs {
		step, err := strconv.Atoi(filepath.Base(dir)[4:6])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mutants {
			if m.since != step && dir != dirs[len(dirs)-1] {
				continue
			}
			t.Run(filepath.Base(dir)+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				setup := setup
				setup.Step = step
				setup.Program = buildMutant(t, dir, m.file, m.old, m.new)
				for _, s := range Scripts(t) {
					if s.Since != m.since {
						continue
					}
					if r := s.Run(setup); !r.Passed {
						t.Logf("noticed by %s: %s", s.Name, r.Reason())
						return
					}
				}
				t.Errorf("no script of step %d notices", m.since)
			})
		}
	}
}

// buildMutant builds the program in dir with one text replaced, without touching dir.
func buildMutant(t *testing.T, dir, file, before, after string) string {
	t.Helper()
	path := filepath.Join(dir, file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), before); n < 1 {
		t.Fatalf("%s has no %q", path, before)
	}
	changed := t.TempDir()
	mutated := strings.ReplaceAll(string(source), before, after)
	if err := os.WriteFile(filepath.Join(changed, file), []byte(mutated), 0o644); err != nil {
		t.Fatal(err)
	}
	return buildOverlay(t, dir, changed)
}
