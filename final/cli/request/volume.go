package request

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// volumes reads --volume: TARGET alone is a volume without a name; SOURCE:TARGET[:OPTIONS] is a
// bind, whose options the engine judges. A source that begins with a dot is made absolute.
func volumes(values []string) (anonymous map[string]struct{}, binds []string, err error) {
	anonymous = map[string]struct{}{}
	for _, value := range values {
		parts := strings.Split(value, ":")
		if err := checkVolume(parts); err != nil {
			return nil, nil, fmt.Errorf("invalid spec: %s: %w", value, err)
		}
		if len(parts) == 1 {
			anonymous[value] = struct{}{}
			continue
		}
		if strings.HasPrefix(parts[0], ".") {
			if parts[0], err = filepath.Abs(parts[0]); err != nil {
				return nil, nil, fmt.Errorf("make %q absolute: %w", parts[0], err)
			}
		}
		if bind := strings.Join(parts, ":"); !slices.Contains(binds, bind) {
			binds = append(binds, bind)
		}
	}
	return anonymous, binds, nil
}

func checkVolume(parts []string) error {
	for _, part := range parts {
		if part == "" {
			return errors.New("empty section between colons")
		}
	}
	if len(parts) > 3 {
		return errors.New("too many colons")
	}
	return nil
}
