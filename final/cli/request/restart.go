package request

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

func restart(h *container.HostConfig, f Flags) (err error) {
	h.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyDisabled}
	if f.IsSet("restart") {
		if h.RestartPolicy, err = RestartPolicy(f.String("restart")); err != nil {
			return err
		}
	}
	if h.AutoRemove && h.RestartPolicy.Name != "" && !h.RestartPolicy.IsNone() {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	return nil
}

// RestartPolicy reads NAME or on-failure:COUNT.
func RestartPolicy(s string) (p container.RestartPolicy, err error) {
	name, count, ok := strings.Cut(s, ":")
	if ok && name == "" {
		return p, errors.New("invalid restart policy format: no policy provided before colon")
	}
	p.Name = container.RestartPolicyMode(name)
	if count != "" {
		if p.MaximumRetryCount, err = strconv.Atoi(count); err != nil {
			return p, errors.New("invalid restart policy format: " +
				"maximum retry count must be an integer")
		}
	}
	return p, container.ValidateRestartPolicy(p)
}

// logging is --log-driver and --log-opt.
func logging(h *container.HostConfig, f Flags) error {
	options := f.StringSlice("log-opt")
	h.LogConfig = container.LogConfig{Type: f.String("log-driver"), Config: Pairs(options)}
	if h.LogConfig.Type == "none" && len(options) > 0 {
		return fmt.Errorf("invalid logging opts for driver %s", h.LogConfig.Type)
	}
	return nil
}

func umask(h *container.HostConfig, f Flags) error {
	value := f.String("umask")
	if value == "" {
		return nil
	}
	n, err := strconv.ParseUint(value, 8, 32)
	if err != nil || n > 0o777 {
		return invalid("umask", value, errors.New("want octal digits, as in 0027"))
	}
	mask := uint32(n)
	h.Umask = &mask
	return nil
}
