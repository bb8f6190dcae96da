//go:build linux

package engine

import (
	"context"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// Top lists a container's processes, as ps(1) of the host shows them; "" for its options is -ef.
func (e *Engine) Top(ctx context.Context, ref, options string) (container.TopResponse, error) {
	var none container.TopResponse
	r, _, err := e.runningContainer(ref)
	if err != nil {
		return none, err
	}
	pids, err := e.runtime().Pids(r.ID)
	if err != nil {
		return none, err
	}
	args := strings.Fields(options)
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.CommandContext(ctx, "ps", args...).Output()
	if err != nil {
		return none, failed(Invalid, "ps %s: %w (is procps installed?)", strings.Join(args, " "), err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	titles := strings.Fields(lines[0])
	at := slices.Index(titles, "PID")
	if at < 0 {
		return none, failed(Invalid, "Couldn't find PID field in ps output")
	}
	top := container.TopResponse{Titles: titles, Processes: [][]string{}}
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) <= at {
			continue
		}
		pid, err := strconv.Atoi(f[at])
		if err != nil || !slices.Contains(pids, pid) {
			continue
		}
		if n := len(titles); len(f) > n { // the last column has spaces in it
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		top.Processes = append(top.Processes, f)
	}
	return top, nil
}
