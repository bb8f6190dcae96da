//go:build linux

package archive_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"minidocker/final/image/archive"
	"minidocker/final/image/imagetest"
)

// TestMain is also the program that looks for what came with it.
func TestMain(m *testing.M) {
	if name := os.Getenv("ARCHIVE_TEST_DEFAULT"); name != "" {
		path, err := archive.Default(name)
		if err != nil {
			path = err.Error()
		}
		fmt.Print(path)
		if archive.Offline() {
			fmt.Print(" offline")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestDefault(t *testing.T) {
	dir := t.TempDir()
	share := filepath.Join(dir, "share/minidocker/busybox-"+runtime.GOARCH+".tar")
	program := filepath.Join(dir, "bin/minidocker")
	for _, path := range []string{share, program} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	ask := func(name string) string {
		t.Helper()
		// In a network of its own, which has no routes.
		cmd := exec.Command("unshare", "-n", program)
		cmd.Env = []string{"ARCHIVE_TEST_DEFAULT=" + name}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := ask("busybox"); got != " offline" {
		t.Errorf("when there is no archive: got %q", got)
	}
	if err := os.WriteFile(share, imagetest.Tar(t, "bin/sh", "#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"busybox", "docker.io/library/busybox:latest"} {
		if got := ask(name); got != share+" offline" {
			t.Errorf("%s: got %q, want %q", name, got, share)
		}
	}
	for _, name := range []string{"busybox:1.36", "alpine", "x/busybox"} {
		if got := ask(name); got != " offline" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	s, layers := imagetest.Open(t), &imagetest.Layers{}
	if _, err := archive.ImportDefault(t.Context(), s, layers, share); err != nil {
		t.Fatal(err)
	}
	img, err := s.Lookup("busybox")
	if err != nil || strings.Join(img.Config.Config.Cmd, " ") != "sh" || len(img.ChainIDs) != 1 {
		t.Errorf("got %v, %v", img, err)
	}
}
