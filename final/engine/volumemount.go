//go:build linux

package engine

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"minidocker/final/fsmount"
)

// A volume may be a mount instead of a folder: docker volume create -o type=tmpfs -o device=tmpfs
// -o o=size=64m. It is made when the first container that has it starts, and attached nowhere but
// in containers; the next takes a copy of it from one that runs. So it goes with the last of them,
// whoever is killed, and the host never sees it.

// checkVolumeOptions refuses what the driver local does not know, as Docker's does.
func checkVolumeOptions(options map[string]string) error {
	for name := range options {
		if !slices.Contains([]string{"type", "device", "o", "size"}, name) {
			return failed(Invalid, "invalid option: %q", name)
		}
	}
	if options["size"] != "" {
		return failed(Invalid, "quota size requested but no quota support")
	}
	for _, pair := range [][2]string{{"device", "type"}, {"type", "device"}, {"o", "device"},
		{"o", "type"}} {
		if options[pair[0]] != "" && options[pair[1]] == "" {
			return failed(Invalid, "missing required option: %q", pair[1])
		}
	}
	return nil
}

// isMount says whether a volume is a mount, and no folder of the engine's.
func (r *volumeRecord) isMount() bool { return r.Options["type"] != "" }

// mount makes the volume's mount.
func (r *volumeRecord) mount() (*os.File, error) {
	var options []string
	for o := range strings.SplitSeq(r.Options["o"], ",") {
		// The kernel knows no names: NFS and SMB want a number.
		if host, ok := strings.CutPrefix(o, "addr="); ok && net.ParseIP(host) == nil {
			all, err := net.LookupHost(host)
			if err != nil {
				return nil, fmt.Errorf("error resolving passed in network volume address: %w", err)
			}
			o = "addr=" + all[0]
		}
		if o != "" {
			options = append(options, o)
		}
	}
	tree, err := fsmount.New(r.Options["type"], r.Options["device"], options)
	if err != nil {
		return nil, failed(Invalid, "mount the volume: %w", err)
	}
	return tree, nil
}

// volumeTree is the mount of a volume, or nil if it is a folder. It is taken from a container that
// may write to it: one that may not could have put another folder in its place, by renaming what it
// lies in, and so write what the others read.
func (e *Engine) volumeTree(name string) (*os.File, error) {
	r, err := e.readVolume(name)
	if err != nil || !r.isMount() {
		return nil, err
	}
	records, err := e.records()
	if err != nil {
		return nil, err
	}
	readers := false
	for _, user := range records {
		for _, m := range user.Mounts {
			if m.Type != mount.TypeVolume || m.Name != name || m.subpath() != "." {
				continue
			}
			state, err := e.state(user.ID)
			if err != nil || state.Status != "running" {
				continue
			}
			if !m.RW {
				readers = true
				continue
			}
			tree, err := treeOf(state.Pid, m.Destination)
			if err != nil {
				continue // it has ended, or has unmounted it
			}
			return tree, nil
		}
	}
	if readers && r.Options["type"] == "tmpfs" { // another would have another content
		return nil, failed(Conflict, "volume %s lies in memory, and only containers that may not write "+
			"to it have it: stop them, or start one that may write before them", name)
	}
	return r.mount()
}

// sharedTree is volumeTree for a container that is started. Nobody else starts one with such a
// volume until this one runs, or both would make it.
func (s *starting) sharedTree(name string) (*os.File, error) {
	r, err := s.e.readVolume(name)
	if err != nil || !r.isMount() {
		return nil, err
	}
	if s.volumes == nil {
		if s.volumes, err = s.e.lockVolumes(); err != nil {
			return nil, err
		}
	}
	return s.e.volumeTree(name)
}

// subpath is the part of a volume that is to be mounted, "." if all.
func (m *mountPoint) subpath() string {
	for _, o := range m.Options {
		if sub, ok := strings.CutPrefix(o, "subpath="); ok {
			return sub
		}
	}
	return "."
}

// withVolume calls f with the root folder of a volume, wherever that is.
func (e *Engine) withVolume(name string, f func(root *os.File) error) error {
	tree, err := e.volumeTree(name)
	if err != nil {
		return err
	}
	if tree != nil {
		defer tree.Close()
		return withTree(tree, f)
	}
	root, err := os.Open(e.volumeData(name))
	if err != nil {
		return err
	}
	defer root.Close()
	return f(root)
}
