//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What takes long to initialise is minidockerd's.
func TestLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "urfave_cli_no_docs", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := strings.Fields(string(out))
	for _, heavy := range []string{"net/http", "crypto/tls", "github.com/sirupsen/logrus",
		"minidocker/final/engine/transfer", "github.com/russross/blackfriday/v2",
		"github.com/hanwen/go-fuse/v2/fuse"} {
		if slices.Contains(packages, heavy) {
			t.Errorf("minidocker has %s in it", heavy)
		}
	}
}

// minidocker becomes the minidockerd in its folder, with its own name and all arguments.
func TestBecomes(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "minidocker")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	run := func(args ...string) (string, int) {
		command := exec.Command(program, args...)
		out, _ := command.CombinedOutput()
		return string(out), command.ProcessState.ExitCode()
	}
	if out, status := run("pull", "busybox"); status != 1 || !strings.Contains(out, dir+"/minidockerd") {
		t.Errorf("without a minidockerd: %d %s", status, out)
	}
	script := "#!/bin/sh\nprintf '%s|' \"$@\"\nexit 3\n"
	if err := os.WriteFile(dir+"/minidockerd", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	out, status := run("--root", "/x", "image", "pull", "-q", "a b")
	if want := "--root|/x|image|pull|-q|a b|"; out != want || status != 3 {
		t.Errorf("got %d %q, want 3 %q", status, out, want)
	}
}
