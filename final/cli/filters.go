//go:build linux

package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

// parseFilters reads --filter NAME=VALUE, whose names the engine knows.
func parseFilters(ctx *cli.Context) (engine.Filters, error) {
	filters := engine.Filters{}
	for _, f := range ctx.StringSlice("filter") {
		name, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for \"--filter\" flag: "+
				"invalid filter '%s' (want NAME=VALUE)", f, f)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		filters[name] = append(filters[name], strings.TrimSpace(value))
	}
	return filters, nil
}
