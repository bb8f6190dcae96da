package main

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// standardPath is the $PATH of a session, in which the user's own must not matter.
const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// set returns env with variables, each NAME=VALUE, in place of those of that name.
func set(env []string, variables ...string) []string {
	env = slices.Clone(env)
	for _, v := range variables {
		name, _, _ := strings.Cut(v, "=")
		env = slices.DeleteFunc(env, func(old string) bool {
			return strings.HasPrefix(old, name+"=")
		})
		env = append(env, v)
	}
	return env
}

func get(env []string, name string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// plainEnv is the same on every machine, but for what go needs.
func (s *scratch) plainEnv() []string {
	env := []string{"PATH=" + standardPath, "HOME=/root", "USER=root", "LOGNAME=root",
		"SHELL=/bin/bash", "LANG=C.UTF-8", "TERM=dumb"}
	if s.inTemp() {
		env = append(env, "TMPDIR="+s.path("tmp"))
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "GO") || strings.HasSuffix(strings.ToLower(name), "_proxy") {
			env = set(env, v)
		}
	}
	return env
}

// settings adds to env what a lesson's commands use.
func (s *scratch) settings(env []string) []string {
	path := s.path("bin") + ":" + goFolder() + ":" + get(env, "PATH")
	env = set(env, "PATH="+path, "CGO_ENABLED=0",
		"STEP="+s.repo.abs(s.step.name), "REPO="+s.repo.root,
		// git does not tell of a repository that is another user's, as under sudo.
		"GOFLAGS="+strings.TrimSpace(get(env, "GOFLAGS")+" -buildvcs=false"))
	env = set(env, s.caches()...)
	if isFolder(s.path("rootfs")) {
		env = set(env, "ROOTFS="+s.path("rootfs"))
	}
	return env
}

// userSettings makes root's environment that of the ordinary user.
func (s *scratch) userSettings(env []string) []string {
	name := strconv.Itoa(s.uid)
	if known, err := user.LookupId(name); err == nil {
		name = known.Username
	}
	env = set(env, "HOME="+s.path("home"), "USER="+name, "LOGNAME="+name,
		"GOCACHE="+s.path("home/.cache/go-build"))
	if isFolder(s.path("userfs")) {
		env = set(env, "ROOTFS="+s.path("userfs"))
	}
	return env
}

// goFolder is where the go command is; sudo may have taken it out of $PATH.
func goFolder() string {
	if path, err := exec.LookPath("go"); err == nil {
		return filepath.Dir(path)
	}
	return "/usr/local/go/bin"
}

// caches says where go keeps what it has built and downloaded. Under sudo these are
// not the caller's own: root's files there would be in the caller's way afterwards.
func (s *scratch) caches() []string {
	if os.Getenv("GOCACHE") != "" && os.Getenv("GOMODCACHE") != "" {
		return nil // weave run has found them, or the user
	}
	caller, err := user.LookupId(os.Getenv("SUDO_UID"))
	if os.Geteuid() == 0 && err == nil && caller.Uid != "0" {
		found := []string{"GOCACHE=" + s.repo.abs("build/gocache")}
		modules := filepath.Join(caller.HomeDir, "go", "pkg", "mod")
		if os.Getenv("GOMODCACHE") == "" && isFolder(modules) {
			found = append(found, "GOMODCACHE="+modules)
		}
		return found
	}
	cmd := exec.Command(filepath.Join(goFolder(), "go"), "env", "GOCACHE", "GOMODCACHE")
	out, err := cmd.Output()
	values := splitLines(string(out))
	if err != nil || len(values) != 2 { // go itself will say what is wrong
		return nil
	}
	return []string{"GOCACHE=" + values[0], "GOMODCACHE=" + values[1]}
}
