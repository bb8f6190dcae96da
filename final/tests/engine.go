//go:build linux

package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// engineStep is the number of the engine's own scripts: what comes after the last step.
const engineStep = 10

// RunEngine tests the engine, in final/cmd/minidocker: the scripts 10-…. They look at it from
// outside, as those of the steps do, in a sandbox each.
func RunEngine(t *testing.T) {
	top := filepath.Join("..", "..", "..")
	setup := Setup{
		Program: buildEngine(t, top), Step: engineStep, Rootfs: Rootfs(t, top),
		Escape: Lab(t, top, "escape"), Lookup: Lab(t, top, "lookup"), Peer: Lab(t, top, "peer"),
		Patience: LongPatience,
	}
	for _, s := range Scripts(t) {
		if s.Since != engineStep {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			if r := s.Run(setup); !r.Passed {
				t.Errorf("%s\n%s", s.Title, r.Log)
			}
		})
	}
}

// buildEngine returns the path of minidocker, beside which the other programs lie, and the image
// that comes with it in ../share.
func buildEngine(t testing.TB, top string) string {
	t.Helper()
	if built := os.Getenv("MINIDOCKER_BIN"); built != "" {
		return filepath.Join(built, "minidocker")
	}
	dir := t.TempDir()
	for _, name := range []string{"minidocker", "minidockerd", "minirunc"} {
		build(t, filepath.Join(top, "final", "cmd", name), filepath.Join(dir, "bin", name))
	}
	share := filepath.Join(dir, "share", "minidocker")
	if err := os.MkdirAll(share, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(share, "busybox-"+runtime.GOARCH+".tar")
	out, err := exec.Command("tar", "-C", Rootfs(t, top), "-cf", archive, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return filepath.Join(dir, "bin", "minidocker")
}

// clearEngine removes what the engine leaves on purpose, as Docker does: the default bridge, its
// rules, and what is stored. What else there is, is left behind by mistake.
func clearEngine() {
	for _, command := range [][]string{
		{"nft", "delete", "table", "inet", "minidocker"}, {"ip", "link", "del", "minidocker0"},
	} {
		// If it is not there, nothing is wrong.
		_ = exec.Command(command[0], command[1:]...).Run()
	}
}

// engineFiles are the files that tell of a container that is gone.
func engineFiles() ([]string, error) {
	var all []string
	for _, pattern := range []string{
		"/var/lib/minidocker/containers/*", "/var/lib/minidocker/names/*",
		"/var/lib/minidocker/volumes/*",
		"/run/minidocker/containers/*", "/run/minidocker/ending/*", "/run/minidocker/runtime/*",
		"/run/minidocker/network/endpoints/*", "/var/lib/minidocker/network/*.json",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		all = append(all, prefix("file ", slices.DeleteFunc(found, isDefault))...)
	}
	return all, nil
}

// isDefault says whether a file is the default network's, which stays.
func isDefault(path string) bool {
	data, err := os.ReadFile(path)
	return err == nil && bytes.Contains(data, []byte(`"Name":"bridge"`))
}
