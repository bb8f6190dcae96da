//go:build linux

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// interopTools are the programs of others that the scripts in interop use. Debian has
// each in a package of its name.
var interopTools = []string{"skopeo", "umoci", "podman"}

// TestInterop runs the scripts in interop on the last step's program: what it saves,
// others read, and the other way round. It needs their programs, so it runs where
// MINIDOCKER_INTEROP is set: make interop.
func TestInterop(t *testing.T) {
	if os.Getenv("MINIDOCKER_INTEROP") == "" {
		t.Skip("run make interop")
	}
	for _, tool := range interopTools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Errorf("no %s: apt-get install %s", tool, tool)
		}
	}
	if t.Failed() {
		return
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob(filepath.Join(top, "step*")) // sorted by name
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no steps in %s", top)
	}
	last := dirs[len(dirs)-1]
	step, err := strconv.Atoi(stepDir.FindStringSubmatch(filepath.Base(last))[1])
	if err != nil {
		t.Fatal(err)
	}
	setup := Setup{
		Program: Build(t, last), Step: step, Rootfs: Rootfs(t, top),
		Escape: Lab(t, top, "escape"), Lookup: Lab(t, top, "lookup"), Peer: Lab(t, top, "peer"),
		Patience: LongPatience,
	}
	scripts, err := readScripts("interop")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			if r := s.Run(setup); !r.Passed {
				t.Errorf("%s\n%s", s.Title, r.Log)
			}
		})
	}
}
