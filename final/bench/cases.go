//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// runtimeProgram is an OCI runtime that is installed.
type runtimeProgram struct {
	name, path, root string
	count            atomic.Int64 // for IDs that are not used twice
	running          []string
}

func (r *runtimeProgram) command(args ...string) *exec.Cmd {
	return exec.Command(r.path, append([]string{"--root", r.root}, args...)...)
}

// call runs it; nobody reads what it prints, unless it fails.
func (r *runtimeProgram) call(args ...string) error {
	cmd := r.command(args...)
	if err := cmd.Run(); err != nil {
		out, _ := r.command(args...).CombinedOutput()
		return fmt.Errorf("%s %q: %w: %s", r.name, args, err, out)
	}
	return nil
}

func (r *runtimeProgram) id() string { return fmt.Sprintf("bench-%s-%d", r.name, r.count.Add(1)) }

// runs returns a contender that runs a bundle from its start to its end.
func (r *runtimeProgram) runs(bundle string) contender {
	return contender{name: r.name,
		start: func() error { return r.call("run", "--bundle", bundle, r.id()) }}
}

// many returns one that does so count times, some at a time.
func (r *runtimeProgram) many(bundle string, count, atOnce int) contender {
	return contender{name: r.name, start: func() error {
		var group sync.WaitGroup
		errs := make(chan error, count)
		left := atomic.Int64{}
		left.Store(int64(count))
		for range atOnce {
			group.Go(func() {
				for left.Add(-1) >= 0 {
					errs <- r.call("run", "--bundle", bundle, r.id())
				}
			})
		}
		group.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

// execs returns one that runs a program in a container, which is started now.
func (r *runtimeProgram) execs(bundle string) (contender, error) {
	id := r.id()
	if err := r.call("run", "--detach", "--bundle", bundle, id); err != nil {
		return contender{}, err
	}
	r.running = append(r.running, id)
	return contender{name: r.name, start: func() error { return r.call("exec", id, "/bin/true") }}, nil
}

// stop ends what execs has started.
func (r *runtimeProgram) stop() {
	for _, id := range r.running {
		if err := r.call("delete", "--force", id); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}

// programs are the runtimes that there are, minirunc first.
func programs(s *settings, work string) []*runtimeProgram {
	all := []*runtimeProgram{{name: "minirunc", path: s.minirunc}}
	for _, name := range []string{"crun", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			all = append(all, &runtimeProgram{name: name, path: path})
		}
	}
	for _, p := range all {
		p.root = filepath.Join(work, p.name)
	}
	return all
}

// cases are what is measured.
func cases(s *settings, work string, all []*runtimeProgram) ([]*benchmark, error) {
	plain, err := makeBundle(s, filepath.Join(work, "plain"), func(*specs.Spec) error { return nil })
	if err != nil {
		return nil, err
	}
	filtered, err := makeBundle(s, filepath.Join(work, "filtered"), func(spec *specs.Spec) error {
		spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	sleeper, err := makeBundle(s, filepath.Join(work, "sleeper"), func(spec *specs.Spec) error {
		spec.Process.Args = []string{"/bin/sleep", "1000000"}
		return nil
	})
	if err != nil {
		return nil, err
	}
	base := "minirunc"
	if len(all) > 1 {
		base = all[1].name
	}
	var bare, secure, batch []contender
	alone := func() error { return raw(plain + "/rootfs") }
	bare = append(bare, contender{name: "system calls alone", start: alone})
	for _, p := range all {
		bare = append(bare, p.runs(plain))
		secure = append(secure, p.runs(filtered))
		batch = append(batch, p.many(plain, 50, 8))
	}
	benchmarks := []*benchmark{
		{name: "run, cold", cold: true, base: base, contenders: bare},
		{name: "run, hot", base: base, contenders: bare},
		{name: "run with the default seccomp profile, cold", cold: true, base: base,
			contenders: secure},
		{name: "run with the default seccomp profile, hot", base: base, contenders: secure},
		{name: "50 runs, 8 at a time", base: base, contenders: batch},
	}
	var inside []contender
	for _, p := range all {
		c, err := p.execs(sleeper)
		if err != nil {
			return nil, err
		}
		inside = append(inside, c)
	}
	return append(benchmarks,
		&benchmark{name: "exec, cold", cold: true, base: base, contenders: inside},
		&benchmark{name: "exec, hot", base: base, contenders: inside}), nil
}

// makeBundle makes a bundle of minirunc's own example: all namespaces, a control group, a
// process that ends at once.
func makeBundle(s *settings, dir string, edit func(*specs.Spec) error) (string, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := do("cp", "-a", s.rootfs, dir+"/rootfs"); err != nil {
		return "", fmt.Errorf("make rootfs: %w", err)
	}
	if err := do(s.minirunc, "spec", "--bundle", dir); err != nil {
		return "", fmt.Errorf("make build: %w", err)
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(data, spec); err != nil {
		return "", err
	}
	spec.Version = "1.0.2" // what older ones take
	spec.Process.Terminal, spec.Process.Args = false, []string{"/bin/true"}
	if err := edit(spec); err != nil {
		return "", err
	}
	if data, err = json.MarshalIndent(spec, "", "\t"); err != nil {
		return "", err
	}
	return dir, os.WriteFile(path, data, 0o644)
}
