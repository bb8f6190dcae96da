//go:build linux

package initproc

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/rawfd"
)

// WithHome returns the environment with HOME, if there is none in it or it is empty: the home
// folder of that user in the /etc/passwd below root, or "/". The specification does not ask for
// it, callers do, since runc and crun have it. Of a variable that is there twice the last one
// stays: programs differ in which of them they see.
func WithHome(env []string, root *rawfd.File, uid uint32) []string {
	last := make(map[string]int, len(env))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		last[name] = i
	}
	kept := make([]string, 0, len(env)+1)
	for i, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if last[name] == i && (name != "HOME" || value != "") {
			kept = append(kept, e)
		}
	}
	if i, ok := last["HOME"]; ok && env[i] != "HOME=" && env[i] != "HOME" {
		return kept
	}
	return append(kept, "HOME="+home(root, uid))
}

func home(root *rawfd.File, uid uint32) string {
	r := &rootfs{root}
	// Whatever the image has there: it must not block, nor lead out.
	f, err := r.open("/etc/passwd", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "/"
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "/"
	}
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return "/"
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":") // passwd(5)
		if len(f) >= 6 && f[2] == strconv.FormatUint(uint64(uid), 10) && f[5] != "" {
			return f[5]
		}
	}
	return "/"
}

// addHome is WithHome for this container, from inside.
func (c *container) addHome() error {
	p := c.Spec.Process
	root, err := rawfd.Open("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("look for the user's home folder: %w", err)
	}
	defer root.Close()
	p.Env = WithHome(p.Env, root, p.User.UID)
	return nil
}
