//go:build linux

package archive

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrsOf reads an open file's extended attributes, but those that belong to the machine and
// not to the file: overlayfs's own, and labels of security modules.
func xattrsOf(fd int, name string) (map[string]string, error) {
	return readXattrs(name,
		func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		func(key string, buf []byte) (int, error) { return unix.Fgetxattr(fd, key, buf) })
}

// xattrsAt is xattrsOf what cannot be opened: the last part of the path is not followed.
func xattrsAt(path string) (map[string]string, error) {
	return readXattrs(path,
		func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) },
		func(key string, buf []byte) (int, error) { return unix.Lgetxattr(path, key, buf) })
}

func readXattrs(
	name string, list func([]byte) (int, error), get func(string, []byte) (int, error),
) (map[string]string, error) {
	var small [256]byte
	names, err := grow(small[:], list)
	if errors.Is(err, unix.EOPNOTSUPP) || len(names) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: name, Err: err}
	}
	all := map[string]string{}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if isOverlayXattr(key) || slices.Contains(machineXattrs, key) {
			continue
		}
		value, err := grow(small[:], func(buf []byte) (int, error) { return get(key, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // it was there a moment ago
		}
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + key, Path: name, Err: err}
		}
		all[key] = string(value)
	}
	return all, nil
}

var machineXattrs = []string{
	"security.selinux", "security.ima", "security.evm", "security.apparmor",
}

// grow calls a function that fills a buffer, with larger ones while it says ERANGE.
func grow(buf []byte, call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(buf)
		if !errors.Is(err, unix.ERANGE) {
			return buf[:max(n, 0)], err
		}
		buf = make([]byte, 8*len(buf)) // an attribute has 64 KiB at most: xattr(7)
	}
}
