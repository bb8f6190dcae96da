//go:build linux

package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The script for bash, on a program that knows a few words with the letters that bash cuts at.
func TestCompletion_Bash(t *testing.T) {
	script, err := filepath.Abs("completions/minidocker.bash")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "minidocker")
	fake := "#!/bin/sh\n[ \"$1\" = __complete ] && shift\necho \"$*\" >&2\nprintf '%s\\n' busybox:latest busybox:1 web --restart\n"
	if err := os.WriteFile(program, []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"run busy": "busybox:latest busybox:1", "run busybox:l": "latest", "stop ": "busybox:latest busybox:1 web --restart",
		"run --re": "--restart", "run x": "",
	} {
		line = program + " " + line
		out, err := exec.Command("bash", "-c", `source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; _minidocker; echo "${COMPREPLY[*]}"`,
			"bash", script, line).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", line, got, err, want)
		}
	}
}
