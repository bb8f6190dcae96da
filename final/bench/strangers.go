//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// strangers are programs for images that run no containers.
type strangers struct{ push, pull, cold, cached []contender }

// findStrangers prepares those that are installed. saved is an archive of the large image;
// tar one of the root file system, and context a folder to build from.
func findStrangers(
	work, saved, tar, context string, server *registryServer,
) (s strangers, err error) {
	if has("skopeo") {
		err = s.skopeo(work, saved, server)
	}
	if has("buildah") {
		err = errors.Join(err, s.buildah(work, tar, context))
	}
	return s, err
}

func (s *strangers) skopeo(work, saved string, server *registryServer) error {
	const remote = "docker://" + registry + "/moved:latest"
	layout := func(name string) string { return "oci:" + filepath.Join(work, name) + ":latest" }
	call := func(args ...string) func() error {
		return func() error { return do("skopeo", append([]string{"copy", "-q"}, args...)...) }
	}
	got := filepath.Join(work, "skopeo-got")
	s.pull = []contender{{name: "skopeo, without unpacking",
		before: func() error { return os.RemoveAll(got) },
		start:  call("--src-tls-verify=false", remote, layout("skopeo-got"))}}
	s.push = []contender{{name: "skopeo, of what is compressed", before: server.restart,
		start: call("--dest-tls-verify=false", layout("skopeo-has"), remote)}}
	return call("docker-archive:"+saved, layout("skopeo-has"))()
}

func (s *strangers) buildah(work, tar, context string) error {
	state := []string{"--root", filepath.Join(work, "buildah"), "--runroot",
		filepath.Join(work, "buildah-run"), "--storage-driver", "overlay"}
	build := func(more ...string) []contender {
		args := append(append([]string{}, state...), "build", "-q", "--layers",
			"--isolation", "chroot", "-t", "built:latest")
		args = append(args, more...)
		return []contender{{name: "buildah, without containers",
			start: func() error { return do("buildah", args...) }}}
	}
	s.cold, s.cached = build("--no-cache", context), build(context)
	from, err := exec.Command("buildah", append(append([]string{}, state...), "from",
		"scratch")...).Output()
	if err != nil {
		return fmt.Errorf("buildah from scratch: %w", err)
	}
	id := strings.TrimSpace(string(from))
	with := func(args ...string) error {
		return do("buildah", append(append([]string{}, state...), args...)...)
	}
	return errors.Join(with("add", "-q", id, tar), with("commit", "-q", id, engineImage))
}

// do runs a program; what it says is its error's.
func do(program string, args ...string) error {
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", program, args, err, out)
	}
	return nil
}
