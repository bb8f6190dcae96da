//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"

	"minidocker/final/shim"
)

// Boot starts the containers that are to run whenever a daemon does, as Docker has it: those of
// the policy always; those of unless-stopped that nobody has stopped; and those that the end of
// the machine has interrupted, or of their shim, if they are to be started again after a failure.
// One that cannot be started does not keep the others.
func (e *Engine) Boot(ctx context.Context) error {
	if err := e.open(); err != nil {
		return err
	}
	records, err := e.records()
	if err != nil {
		return err
	}
	var all error
	for _, r := range records {
		state, err := shim.ReadState(e.dir(r.ID))
		if err != nil || shim.Alive(e.runDir(r.ID)) || !atBoot(r, state) {
			continue // what has never run has no state
		}
		if _, err := e.Start(ctx, r.ID, nil); err != nil && Code(err) != NotModified {
			all = errors.Join(all, fmt.Errorf("start container %s: %w", r.Name, err))
		}
	}
	return all
}

func atBoot(r *record, state *shim.State) bool {
	policy := r.HostConfig.RestartPolicy
	interrupted := state.Status == "running" || state.Status == "restarting"
	switch {
	case policy.IsAlways():
		return interrupted || state.Status == "exited"
	case policy.IsUnlessStopped():
		return !state.Stopped && (interrupted || state.Status == "exited")
	case policy.IsOnFailure():
		return !state.Stopped && interrupted
	}
	return false
}
