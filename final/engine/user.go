//go:build linux

package engine

import (
	"io"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// user finds who a container's process is to be: NAME|UID[:GROUP|GID], looked up in its own
// passwd and group files.
func (s *starting) user(name string, groups []string) (*specs.User, error) {
	return lookUp(s.root, name, groups)
}

// lookUp finds a user in the files of a root.
func lookUp(root *os.File, name string, groups []string) (*specs.User, error) {
	passwd, group := openText(root, "/etc/passwd"), openText(root, "/etc/group")
	defer passwd.Close()
	defer group.Close()
	u, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return nil, &Error{Invalid, err}
	}
	found := &specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	// The first group is among them, or a file's mode could give the others more than the group.
	found.AdditionalGids = append(found.AdditionalGids, found.GID)
	for _, gid := range u.Sgids {
		found.AdditionalGids = append(found.AdditionalGids, uint32(gid))
	}
	if len(groups) > 0 {
		again := openText(root, "/etc/group")
		defer again.Close()
		gids, err := user.GetAdditionalGroups(groups, again)
		if err != nil {
			return nil, failed(Invalid, "--group-add: %w", err)
		}
		for _, gid := range gids {
			if slices.Contains(found.AdditionalGids, uint32(gid)) {
				continue
			}
			found.AdditionalGids = append(found.AdditionalGids, uint32(gid))
		}
	}
	return found, nil
}

// openText opens a file of the container's; one that is not there is empty.
func openText(root *os.File, name string) io.ReadCloser {
	f, err := openIn(root, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return io.NopCloser(strings.NewReader(""))
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > 16<<20 {
		f.Close()
		return io.NopCloser(strings.NewReader(""))
	}
	return f
}
