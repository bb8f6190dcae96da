package request

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// mounts is --mount and --tmpfs.
func mounts(h *container.HostConfig, f Flags) (err error) {
	for _, value := range f.StringSlice("tmpfs") {
		if h.Tmpfs == nil {
			h.Tmpfs = map[string]string{}
		}
		target, options, _ := strings.Cut(value, ":")
		h.Tmpfs[target] = options
	}
	h.Mounts, err = each(f, "mount", Mount)
	return err
}

// Mount reads --mount: comma-separated KEY=VALUE, quoted as in CSV; a switch needs no value.
func Mount(s string) (mount.Mount, error) {
	m := mount.Mount{Type: mount.TypeVolume}
	fields, err := fieldsOf(s)
	if err != nil {
		return m, err
	}
	for _, field := range fields {
		key, value, hasValue := strings.Cut(field, "=")
		if k := strings.TrimSpace(key); k != key {
			return m, fmt.Errorf(
				"invalid option '%s' in '%s': option should not have whitespace", k, field)
		}
		if hasValue && strings.TrimSpace(value) == "" {
			return m, fmt.Errorf("invalid value for '%s': value is empty", key)
		}
		if strings.TrimSpace(value) != value {
			return m, fmt.Errorf(
				"invalid value for '%s' in '%s': value should not have whitespace", key, field)
		}
		key = strings.ToLower(key)
		if !hasValue {
			if !mountSwitch(key) {
				return m, fmt.Errorf("invalid field '%s' must be a key=value pair", field)
			}
			value = "true"
		}
		if err := mountOption(&m, key, value, field); err != nil {
			return m, err
		}
	}
	return m, checkMount(&m)
}

// fieldsOf are the fields of a line of CSV.
func fieldsOf(s string) ([]string, error) {
	if s = strings.TrimSpace(s); s == "" {
		return nil, errors.New("value is empty")
	}
	return csv.NewReader(strings.NewReader(s)).Read()
}

func mountSwitch(key string) bool {
	switch key {
	case "readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src":
		return true
	}
	return false
}

func mountOption(m *mount.Mount, key, value, field string) error {
	switch key {
	case "type":
		m.Type = mount.Type(strings.ToLower(value))
	case "source", "src":
		m.Source = value
		if strings.HasPrefix(value, ".") {
			abs, err := filepath.Abs(value)
			if err != nil {
				return fmt.Errorf("make %q absolute: %w", value, err)
			}
			m.Source = abs
		}
	case "target", "dst", "destination":
		m.Target = value
	case "readonly", "ro":
		return truth(&m.ReadOnly, key, value)
	case "consistency":
		m.Consistency = mount.Consistency(strings.ToLower(value))
	default:
		group, option, _ := strings.Cut(key, "-")
		switch group {
		case "bind":
			return bindOption(m, option, value, field)
		case "volume":
			return volumeOption(m, option, value, field)
		case "tmpfs":
			return tmpfsOption(m, option, value, field)
		case "image":
			if option == "subpath" {
				m.ImageOptions = &mount.ImageOptions{Subpath: value}
				return nil
			}
		}
		return unknownOption(field)
	}
	return nil
}

func unknownOption(field string) error {
	key, _, _ := strings.Cut(field, "=")
	return fmt.Errorf("unknown option '%s' in '%s'", strings.ToLower(key), field)
}

func truth(p *bool, key, value string) (err error) {
	if *p, err = strconv.ParseBool(value); err != nil {
		return fmt.Errorf("invalid value for '%s': invalid boolean value (%q): "+
			`must be one of "true", "1", "false", or "0" (default "true")`, key, value)
	}
	return nil
}

func bindOption(m *mount.Mount, option, value, field string) error {
	if m.BindOptions == nil {
		m.BindOptions = &mount.BindOptions{}
	}
	o := m.BindOptions
	switch option {
	case "propagation":
		o.Propagation = mount.Propagation(strings.ToLower(value))
	case "create-src":
		return truth(&o.CreateMountpoint, "bind-"+option, value)
	case "nonrecursive":
		return errors.New(
			"bind-nonrecursive is deprecated, use bind-recursive=disabled instead")
	case "recursive":
		switch value {
		case "enabled":
		case "disabled":
			o.NonRecursive = true
		case "writable":
			o.ReadOnlyNonRecursive = true
		case "readonly":
			o.ReadOnlyForceRecursive = true
		default:
			return fmt.Errorf("invalid value for bind-recursive: %s "+
				`(must be "enabled", "disabled", "writable", or "readonly")`, value)
		}
	default:
		return unknownOption(field)
	}
	return nil
}

func volumeOption(m *mount.Mount, option, value, field string) error {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{}
	}
	o := m.VolumeOptions
	if (option == "driver" || option == "opt") && o.DriverConfig == nil {
		o.DriverConfig = &mount.Driver{}
	}
	key, v, _ := strings.Cut(value, "=")
	switch option {
	case "subpath":
		o.Subpath = value
	case "nocopy":
		return truth(&o.NoCopy, "volume-"+option, value)
	case "label":
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[key] = v
	case "driver":
		o.DriverConfig.Name = value
	case "opt":
		if o.DriverConfig.Options == nil {
			o.DriverConfig.Options = map[string]string{}
		}
		o.DriverConfig.Options[key] = v
	default:
		return unknownOption(field)
	}
	return nil
}

func tmpfsOption(m *mount.Mount, option, value, field string) error {
	if m.TmpfsOptions == nil {
		m.TmpfsOptions = &mount.TmpfsOptions{}
	}
	switch option {
	case "size":
		n, err := units.RAMInBytes(value)
		if err != nil {
			return fmt.Errorf("invalid value for tmpfs-size: %s", value)
		}
		m.TmpfsOptions.SizeBytes = n
	case "mode":
		mode, err := strconv.ParseUint(value, 8, 32)
		if err != nil {
			return fmt.Errorf("invalid value for tmpfs-mode: %s", value)
		}
		m.TmpfsOptions.Mode = os.FileMode(mode)
	default:
		return unknownOption(field)
	}
	return nil
}

// checkMount sees that the options fit the type, and each other.
func checkMount(m *mount.Mount) error {
	if m.Type == "" {
		return errors.New("type is required")
	}
	if m.Target == "" {
		return errors.New("target is required")
	}
	for _, group := range []struct {
		of    mount.Type
		given bool
	}{
		{mount.TypeVolume, m.VolumeOptions != nil},
		{mount.TypeBind, m.BindOptions != nil},
		{mount.TypeTmpfs, m.TmpfsOptions != nil},
		{mount.TypeImage, m.ImageOptions != nil},
	} {
		if group.given && m.Type != group.of {
			return fmt.Errorf("cannot mix '%s-*' options with mount type '%s'", group.of, m.Type)
		}
	}
	if o := m.BindOptions; o != nil {
		if o.ReadOnlyNonRecursive && !m.ReadOnly {
			return errors.New("option 'bind-recursive=writable' requires 'readonly' " +
				"to be specified in conjunction")
		}
		if o.ReadOnlyForceRecursive && !m.ReadOnly {
			return errors.New("option 'bind-recursive=readonly' requires 'readonly' " +
				"to be specified in conjunction")
		}
		if o.ReadOnlyForceRecursive && o.Propagation != mount.PropagationRPrivate {
			return errors.New("option 'bind-recursive=readonly' requires " +
				"'bind-propagation=rprivate' to be specified in conjunction")
		}
	}
	return nil
}
