package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// firstRootfsStep is the first step that needs a root file system.
const firstRootfsStep = 4

// scratch is a folder in which a session takes place. It lies in the module, so that a
// copy of a step can be built in it, and has a name that "./..." does not match:
//
//	bin/     minidocker
//	work/    where root's shell begins; empty
//	home/    where the ordinary user's begins; empty
//	tmp/     $TMPDIR of a session that has no /tmp of its own
//	rootfs/  root's $ROOTFS
//	userfs/  the ordinary user's $ROOTFS
type scratch struct {
	repo    *repo
	step    *step
	general bool // the page is not about the step, which is the newest
	dir     string
	uid     int // the ordinary user's
	gid     int
}

func (s *scratch) path(name string) string { return filepath.Join(s.dir, name) }

// prepare makes the folder and builds the program. The caller removes it, also after
// an error.
func (s *scratch) prepare(withUser bool) error {
	build := filepath.Join(s.repo.root, "build")
	if err := os.MkdirAll(build, 0o755); err != nil {
		return err
	}
	var err error
	if s.dir, err = os.MkdirTemp(build, "_"+s.step.short()+"-"); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil { // the ordinary user must come in
		return err
	}
	for _, name := range []string{"bin", "work", "home", "tmp"} {
		if err := os.Mkdir(s.path(name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(s.path("tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := s.copyRootfs("rootfs"); err != nil {
		return err
	}
	if withUser && os.Geteuid() == 0 {
		if err := s.giveUser(); err != nil {
			return err
		}
	}
	return s.build()
}

// giveUser makes what the ordinary user has for itself.
func (s *scratch) giveUser() error {
	if err := s.copyRootfs("userfs"); err != nil {
		return err
	}
	owner := fmt.Sprintf("%d:%d", s.uid, s.gid)
	if err := tool(s.dir, nil, "chown", owner, "home"); err != nil || !isFolder(s.path("userfs")) {
		return err
	}
	return tool(s.dir, nil, "chown", "-R", "-h", owner, "userfs")
}

// copyRootfs makes a copy of the root file system that make rootfs has made. Without
// it only what is about the later steps cannot be run.
func (s *scratch) copyRootfs(name string) error {
	from := s.repo.abs("build/rootfs/" + runtime.GOARCH)
	if isFolder(from) {
		return tool(s.dir, nil, "cp", "-a", from, name)
	}
	if !s.general && s.step.number >= firstRootfsStep {
		return fmt.Errorf("there is no root file system in %q: run make rootfs first", from)
	}
	return nil
}

// build builds minidocker. General pages use the engine, once there is one.
func (s *scratch) build() error {
	out, source := s.path("bin/minidocker"), "./"+s.step.name
	inEngine := func(file string) bool { return strings.HasPrefix(file, "final/cmd/minidocker/") }
	if s.general && slices.ContainsFunc(s.repo.files, inEngine) {
		out, source = s.path("bin")+"/", "./final/cmd/..."
	}
	env := s.settings(os.Environ())
	return tool(s.repo.root, env, filepath.Join(goFolder(), "go"), "build", "-o", out, source)
}

// tool runs a program; what it printed is part of its error. A nil env is weave's own.
func tool(dir string, env []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// remove removes the folder. It does not cross a mount: what a container left mounted
// is unmounted first, and where that does not work the folder stays.
func (s *scratch) remove() error {
	if s.dir == "" {
		return nil
	}
	mounts, err := mountsBelow(s.dir)
	if err != nil {
		return err
	}
	for _, target := range slices.Backward(mounts) {
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("umount %q: %w: something uses it still; when that has ended, "+
				"unmount it and remove %q", target, err, s.dir)
		}
	}
	return os.RemoveAll(s.dir)
}

// mountsBelow lists the mount points in the folder, in the order of mounting.
func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var mounts []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			return nil, errors.New("/proc/self/mountinfo: a line without mount point")
		}
		target := unescapeMount(fields[4])
		if target == dir || strings.HasPrefix(target, dir+"/") {
			mounts = append(mounts, target)
		}
	}
	return mounts, nil
}

// unescapeMount reads a path as the kernel writes it: see proc_pid_mountinfo(5).
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
