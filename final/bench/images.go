//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the large image has in it.
const (
	largeFolders = 20
	largeFiles   = 100 // in each folder
	largeBytes   = 100 << 10
	largeRounds  = 5
	registry     = "127.0.0.1:5000"
)

// imageCases are what is done with an image of 200 MB. Each engine has it by the name of large.
func imageCases(
	s *settings, work string, all []*engineProgram,
) ([]*benchmark, *registryServer, error) {
	tar, err := largeArchive(s, work)
	if err != nil {
		return nil, nil, err
	}
	const large = "large:latest"
	context, err := buildContext(work)
	if err != nil {
		return nil, nil, err
	}
	b := map[string][]contender{}
	for _, p := range all {
		if err := p.call("import", tar, large); err != nil {
			return nil, nil, err
		}
		saved := filepath.Join(work, p.name+"-saved.tar")
		if err := errors.Join(p.call("save", "-o", saved, large),
			p.call(p.runs("-d", "--network", "none", "--name", "writer", large, "sh", "-c",
				"head -c 20000000 /dev/urandom >/new; sleep 1000000")...)); err != nil {
			return nil, nil, err
		}
		gone := func(names ...string) func() error {
			return func() error {
				_ = p.call(append([]string{"rmi", "-f"}, names...)...) // it may not be there
				return nil
			}
		}
		add := func(name string, before func() error, args ...string) {
			c := p.calls(args...)
			c.before = before
			b[name] = append(b[name], c)
		}
		add("import", gone("imported:latest"), "import", tar, "imported:latest")
		out := filepath.Join(work, p.name+"-out.tar")
		add("save", func() error { return os.RemoveAll(out) }, "save", "-o", out, large)
		add("commit", gone("committed:latest"), "commit", "writer", "committed:latest")
		build := []string{"build", "-q", "--network", "none", "-t", "built:latest"}
		add("build, cold", nil, append(build, "--no-cache", context)...)
		add("build, cached", nil, append(build, context)...)
	}
	server := &registryServer{dir: filepath.Join(work, "registry")}
	others, err := findStrangers(work, filepath.Join(work, all[0].name+"-saved.tar"),
		filepath.Join(work, "rootfs.tar"), context, server)
	if err != nil {
		return nil, nil, err
	}
	b["build, cold"] = append(b["build, cold"], others.cold...)
	b["build, cached"] = append(b["build, cached"], others.cached...)
	var benchmarks []*benchmark
	for _, name := range []string{"import", "save", "commit", "build, cold", "build, cached"} {
		benchmarks = append(benchmarks, &benchmark{name: "image of 200 MB: " + name,
			base: all[0].name, contenders: b[name], rounds: largeRounds})
	}
	if !has("docker-registry") {
		return benchmarks, nil, nil
	}
	push, pull, load := transfers(work, all, server)
	push, pull = append(push, others.push...), append(pull, others.pull...)
	for _, b := range []*benchmark{{name: "push", contenders: push}, {name: "pull",
		contenders: pull}, {name: "load", contenders: load}} {
		b.name, b.base, b.rounds = "image of 200 MB: "+b.name, all[0].name, largeRounds
		benchmarks = append(benchmarks, b)
	}
	return benchmarks, server, nil
}

// transfers are pushes to a registry that has nothing, pulls from one that has all, and loads of
// what was saved.
func transfers(
	work string, all []*engineProgram, server *registryServer,
) (push, pull, load []contender) {
	for _, p := range all {
		name := registry + "/moved:latest"
		insecure := []string{}
		if p.name == "podman" {
			insecure = []string{"--tls-verify=false"}
		}
		empty := func() error {
			return errors.Join(p.call("tag", "large:latest", name), server.restart())
		}
		sent := p.calls(append(append([]string{"push", "-q"}, insecure...), name)...)
		sent.before = empty
		push = append(push, sent)
		// A container keeps the layers that it is on: it goes before they are fetched again.
		without := func() error {
			_ = p.call("rm", "-f", "writer")                                 // it may be gone
			_ = p.call("rmi", "-f", name, "large:latest", "imported:latest", // the same layers
				"committed:latest", "built:latest", "localhost/built:latest")
			return nil
		}
		got := p.calls(append(append([]string{"pull", "-q"}, insecure...), name)...)
		got.before = without
		pull = append(pull, got)
		loaded := p.calls("load", "-q", "-i", filepath.Join(work, p.name+"-saved.tar"))
		loaded.before = without
		load = append(load, loaded)
	}
	return push, pull, load
}

// largeArchive makes an archive of a root file system with 200 MB of files beside it: half of
// each is noise, so that compressing it is some work.
func largeArchive(s *settings, work string) (string, error) {
	dir, tar := filepath.Join(work, "large"), filepath.Join(work, "large.tar")
	if err := do("cp", "-a", s.rootfs, dir); err != nil {
		return "", err
	}
	noise := rand.NewChaCha8([32]byte{})
	text := []byte(strings.Repeat("all work and no play makes jack a dull boy\n", largeBytes/80))
	data := make([]byte, largeBytes/2)
	for i := range largeFolders {
		folder := filepath.Join(dir, "data", fmt.Sprint(i))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", err
		}
		for j := range largeFiles {
			_, _ = noise.Read(data) // never fails
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(j)), append(data, text...),
				0o644); err != nil {
				return "", err
			}
		}
	}
	if err := do("tar", "-C", dir, "-cf", tar, "."); err != nil {
		return "", err
	}
	return tar, os.RemoveAll(dir)
}

// buildContext makes a folder to build an image from, in five steps.
func buildContext(work string) (string, error) {
	dir := filepath.Join(work, "context")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, errors.Join(os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o644),
		os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+engineImage+`
WORKDIR /app
COPY file /app/
RUN mkdir a && cp file a/
RUN rm file && echo done >b
CMD ["cat", "b"]
`), 0o644))
}

// registryServer is Debian's docker-registry, in this process's network namespace.
type registryServer struct {
	dir string
	cmd *exec.Cmd
}

// restart starts it anew, with nothing in it.
func (r *registryServer) restart() error {
	r.stop()
	if err := errors.Join(os.RemoveAll(r.dir), os.MkdirAll(r.dir, 0o755)); err != nil {
		return err
	}
	config := r.dir + ".yml"
	if err := os.WriteFile(config, []byte("version: 0.1\nlog: {level: error, accesslog: {disabled: "+
		"true}}\nstorage:\n  filesystem: {rootdirectory: "+r.dir+"}\nhttp: {addr: "+registry+"}\n"),
		0o644); err != nil {
		return err
	}
	r.cmd = exec.Command("docker-registry", "serve", config)
	if err := r.cmd.Start(); err != nil {
		return err
	}
	for range 200 {
		c, err := net.Dial("tcp", registry)
		if err == nil {
			return c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("docker-registry does not listen")
}

func (r *registryServer) stop() {
	if r != nil && r.cmd != nil {
		_ = r.cmd.Process.Signal(unix.SIGTERM)
		_ = r.cmd.Wait() // with whatever status
		r.cmd = nil
	}
}
