package request

import (
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"
)

// health is --health-* and --no-healthcheck; nil if the image's holds.
func health(f Flags) (*container.HealthConfig, error) {
	h := &container.HealthConfig{
		Interval: f.Duration("health-interval"), Timeout: f.Duration("health-timeout"),
		StartPeriod: f.Duration("health-start-period"), Retries: f.Int("health-retries"),
		StartInterval: f.Duration("health-start-interval"),
	}
	command := f.String("health-cmd")
	given := command != "" || h.Interval != 0 || h.Timeout != 0 || h.StartPeriod != 0 ||
		h.StartInterval != 0 || h.Retries != 0
	if f.Bool("no-healthcheck") {
		if given {
			return nil, errors.New("--no-healthcheck conflicts with --health-* options")
		}
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	}
	if !given {
		return nil, nil
	}
	for flag, negative := range map[string]bool{
		"interval": h.Interval < 0, "timeout": h.Timeout < 0, "retries": h.Retries < 0,
		"start-period": h.StartPeriod < 0, "start-interval": h.StartInterval < 0,
	} {
		if negative {
			return nil, fmt.Errorf("--health-%s cannot be negative", flag)
		}
	}
	if command != "" {
		h.Test = []string{"CMD-SHELL", command}
	}
	return h, nil
}
