package request

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// devices reads --device: HOST[:CONTAINER][:PERMISSIONS].
func devices(values []string) ([]container.DeviceMapping, error) {
	var all []container.DeviceMapping
	for _, s := range values {
		parts := strings.Split(s, ":")
		if len(parts) > 3 || parts[0] == "" {
			return nil, fmt.Errorf("bad format for path: %s", s)
		}
		d := container.DeviceMapping{
			PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm",
		}
		rest := parts[1:]
		if len(rest) > 0 && !deviceMode(rest[0]) {
			d.PathInContainer, rest = path.Clean(rest[0]), rest[1:]
		} else if len(rest) == 0 || len(rest) == 1 {
			d.PathOnHost = path.Clean(d.PathOnHost)
			d.PathInContainer = d.PathOnHost
		}
		if len(rest) == 2 {
			return nil, fmt.Errorf("%s is not an absolute path", rest[0])
		}
		if len(rest) == 1 {
			if !deviceMode(rest[0]) {
				return nil, fmt.Errorf("bad mode specified: %s", rest[0])
			}
			d.CgroupPermissions = rest[0]
		}
		if !path.IsAbs(d.PathInContainer) {
			return nil, fmt.Errorf("%s is not an absolute path", d.PathInContainer)
		}
		all = append(all, d)
	}
	return all, nil
}

// deviceMode says whether a text is made of r, w and m, each once at most.
func deviceMode(s string) bool {
	for _, c := range s {
		if !strings.ContainsRune("rwm", c) || strings.Count(s, string(c)) > 1 {
			return false
		}
	}
	return s != ""
}

// deviceRule says whether a text is TYPE MAJOR:MINOR MODE, as in "c 13:* rmw".
func deviceRule(s string) bool {
	fields := strings.Fields(s)
	if len(fields) != 3 || len(fields[0]) != 1 || !strings.Contains("abc", fields[0]) {
		return false
	}
	major, minor, ok := strings.Cut(fields[1], ":")
	return ok && number(major) && number(minor) && deviceMode(fields[2])
}

func number(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return s == "*" || err == nil
}
