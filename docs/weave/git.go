package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// gitCommand prepares git with settings of its own, so that the reader's do not
// change what it prints.
func gitCommand(dir string, args ...string) *exec.Cmd {
	settings := []string{
		"-c", "core.quotePath=false",
		"-c", "diff.indentHeuristic=true",
		"-c", "merge.conflictStyle=merge",
		// Under sudo the repository is another user's.
		"-c", "safe.directory=*",
	}
	cmd := exec.Command("git", append(settings, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0")
	return cmd
}

// git runs git and returns what it printed. An exit status up to most is a result.
func git(dir string, most int, args ...string) (out string, status int, err error) {
	cmd := gitCommand(dir, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 && exit.ExitCode() <= most {
		return string(data), exit.ExitCode(), nil
	}
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		return "", 0, fmt.Errorf("git %s: %w: %s", args[0], err, said)
	}
	return string(data), 0, nil
}
