//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// engineProgram is an engine with a command line like docker's, and a state of its own.
type engineProgram struct {
	name    string
	args    []string // the program, with where its state is
	socket  string   // of its API, "" if it has none
	daemons []*exec.Cmd
	port    int      // the last that was published
	run     []string // what run takes more: podman would raise limits, which root may not everywhere
	logs    []string // what it takes to keep what a container says, as docker's json-file does
}

const engineImage = "bench:latest" // an image of the busybox root file system

func (p *engineProgram) command(args ...string) *exec.Cmd {
	all := append(append([]string{}, p.args...), args...)
	return exec.Command(all[0], all[1:]...)
}

func (p *engineProgram) call(args ...string) error {
	var said bytes.Buffer
	cmd := p.command(args...)
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", p.name, args, err, said.Bytes())
	}
	return nil
}

// calls is a contender of that command.
func (p *engineProgram) calls(args ...string) contender {
	return contender{name: p.name, start: func() error { return p.call(args...) }}
}

// runs are the arguments for a run.
func (p *engineProgram) runs(args ...string) []string {
	return append(append([]string{"run"}, p.run...), args...)
}

// publishes is one that runs a container with a port, another each time.
func (p *engineProgram) publishes() contender {
	return contender{name: p.name, start: func() error {
		p.port = 20000 + (p.port+1)%20000
		return p.call(p.runs("--rm", "-p", strconv.Itoa(p.port)+":80", engineImage, "true")...)
	}}
}

// daemon starts a process that stays, and waits until its socket answers.
func (p *engineProgram) daemon(log string, args ...string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	p.daemons = append(p.daemons, cmd)
	for range 600 {
		if err = p.ask(http.MethodGet, "/_ping", "", nil); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s does not answer: %w (see %s)", args[0], err, log)
}

// stop ends what runs of the engine.
func (p *engineProgram) stop() {
	if out, err := p.command("ps", "-aq").Output(); err == nil {
		for id := range strings.FieldsSeq(string(out)) {
			if err := p.call("rm", "-f", id); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		}
	}
	for _, d := range p.daemons {
		_ = d.Process.Signal(unix.SIGTERM)
		_ = d.Wait() // with whatever status
	}
}

// engines are those that there are, minidocker first; all in a network namespace that this
// process has to itself. podman's and docker's API are asked as well.
func engines(s *settings, work string) ([]*engineProgram, error) {
	bin := filepath.Dir(s.minirunc)
	dir := func(name string) string { return filepath.Join(work, name) }
	sock := func(name string) string { return filepath.Join(work, name+".sock") }
	ours := &engineProgram{name: "minidocker", socket: sock("minidocker"), args: []string{
		bin + "/minidocker", "--root", dir("minidocker"), "--run", dir("minidocker-run")}}
	all := []*engineProgram{ours}
	err := ours.daemon(dir("minidocker.log"), append(append([]string{}, ours.args...), "daemon", "-H",
		"unix://"+ours.socket)...)
	if err != nil {
		return all, err
	}
	if has("docker") && has("dockerd") && has("containerd") {
		p := &engineProgram{name: "docker", socket: sock("docker"),
			args: []string{"docker", "-H", "unix://" + sock("docker")}}
		all = append(all, p)
		if err := p.daemon(dir("docker.log"), "dockerd", "--data-root", dir("docker"), "--exec-root",
			dir("docker-run"), "--pidfile", dir("docker.pid"), "-H", "unix://"+p.socket); err != nil {
			return all, err
		}
	}
	if has("podman") {
		args := []string{"podman", "--root", dir("podman"), "--runroot", dir("podman-run"), "--tmpdir",
			dir("podman-tmp"), "--cgroup-manager", "cgroupfs", "--events-backend", "none",
			"--storage-driver", "overlay"}
		p := &engineProgram{name: "podman", args: args, socket: sock("podman"),
			run:  []string{"--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"},
			logs: []string{"--log-driver", "k8s-file"}}
		all = append(all, p)
		if err := p.daemon(dir("podman.log"), append(append([]string{}, args...), "system", "service",
			"--time", "0", "unix://"+p.socket)...); err != nil {
			return all, err
		}
	}
	tar := dir("rootfs.tar")
	if err := do("tar", "-C", s.rootfs, "-cf", tar, "."); err != nil {
		return all, err
	}
	for _, p := range all {
		if err := p.call("import", tar, engineImage); err != nil {
			return all, err
		}
	}
	return all, nil
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// ask makes a request of the engine's API, and throws away the answer.
func (p *engineProgram) ask(method, path, body string, c *http.Client) error {
	if c == nil {
		c = p.client()
		defer c.CloseIdleConnections()
	}
	r, err := http.NewRequestWithContext(context.Background(), method, "http://localhost"+path,
		strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := c.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		answer, err := io.ReadAll(response.Body)
		return errors.Join(fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer), err)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func (p *engineProgram) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", p.socket)
		},
	}}
}

// asks is a contender that makes the same request so many times, over one connection.
func (p *engineProgram) asks(count int, path string) contender {
	c := p.client()
	return contender{name: p.name, start: func() error {
		for range count {
			if err := p.ask(http.MethodGet, path, "", c); err != nil {
				return err
			}
		}
		return nil
	}}
}

// lives is a contender that creates a container by the API, starts it, waits for it, and
// removes it.
func (p *engineProgram) lives() contender {
	c := p.client()
	const v = "/v1.40"
	return contender{name: p.name, start: func() error {
		create := `{"Image": "` + engineImage + `", "Cmd": ["true"],
			"HostConfig": {"NetworkMode": "none", "Ulimits": [
				{"Name": "nofile", "Soft": 1000, "Hard": 1000},
				{"Name": "nproc", "Soft": 1000, "Hard": 1000}]}}`
		return errors.Join(p.ask("POST", v+"/containers/create?name=life", create, c),
			p.ask("POST", v+"/containers/life/start", "", c),
			p.ask("POST", v+"/containers/life/wait", "", c),
			p.ask("DELETE", v+"/containers/life", "", c))
	}}
}

// manyRuns runs count containers, some at a time.
func manyRuns(name string, count, atOnce int, run func() error) contender {
	return contender{name: name, start: func() error {
		var group sync.WaitGroup
		errs := make([]error, count)
		next := atomic.Int64{}
		for range atOnce {
			group.Go(func() {
				for i := next.Add(1); i <= int64(count); i = next.Add(1) {
					errs[i-1] = run()
				}
			})
		}
		group.Wait()
		return errors.Join(errs...)
	}}
}

// engineCases are the engines beside each other, and beside crun's run of a bundle.
func engineCases(
	all []*engineProgram, bundles *runtimeProgram, plain string,
) ([]*benchmark, error) {
	var published, alone, execs, batch, list, ps, inspect, life, logs []contender
	for _, p := range all {
		stays := p.runs("-d", "--name", "stays", engineImage, "sleep", "1000000")
		if err := p.call(stays...); err != nil {
			return nil, err
		}
		published = append(published, p.publishes())
		without := p.calls(p.runs("--rm", "--network", "none", engineImage, "true")...)
		alone = append(alone, without)
		execs = append(execs, p.calls("exec", "stays", "true"))
		batch = append(batch, manyRuns(p.name, 50, 8, without.start))
		list = append(list, p.calls("ps"))
		ps = append(ps, p.asks(100, "/v1.40/containers/json"))
		inspect = append(inspect, p.asks(100, "/v1.40/containers/stays/json"))
		life = append(life, p.lives())
		speaker, err := p.speaks()
		if err != nil {
			return nil, err
		}
		logs = append(logs, speaker)
	}
	if bundles != nil {
		bare := bundles.runs(plain)
		bare.name += ", a bundle without network"
		published, alone = append(published, bare), append(alone, bare)
		batch = append(batch, manyRuns(bare.name, 50, 8, bare.start))
	}
	const base = "minidocker"
	return []*benchmark{
		{name: "engine: run --rm -p, on a bridge", cold: true, base: base, contenders: published},
		{name: "engine: run --rm --network none", cold: true, base: base, contenders: alone},
		{name: "engine: exec", cold: true, base: base, contenders: execs},
		{name: "engine: 50 runs, 8 at a time, without network", base: base, contenders: batch,
			rounds: 5},
		{name: "engine: ps", cold: true, base: base, contenders: list},
		{name: "API: list the containers, 100 times", base: base, contenders: ps, rounds: 10},
		{name: "API: inspect, 100 times", base: base, contenders: inspect, rounds: 10},
		{name: "API: create, start, wait, remove", cold: true, base: base, contenders: life},
		{name: "API: logs of 100 MB", base: base, contenders: logs, rounds: 5},
	}, nil
}

// memory says what each engine's resident processes take, in MiB: VmRSS of the daemons and of
// what they have started and that is no container.
func memory(out *strings.Builder, all []*engineProgram) {
	fmt.Fprint(out, "## Resident memory of the API's daemon, after all this\n\n| | MiB |\n|---|---|\n")
	for _, p := range all {
		total := 0
		for _, d := range p.daemons {
			total += resident(d.Process.Pid)
		}
		fmt.Fprintf(out, "| %s | %.1f |\n", p.name, float64(total)/1024)
	}
	fmt.Fprintln(out)
}

// resident is VmRSS in KiB of a process and of those below it that are daemons, too.
func resident(pid int) int {
	total := 0
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			total, _ = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for word := range strings.FieldsSeq(string(children)) {
		child, _ := strconv.Atoi(word)
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
		if name := strings.TrimSpace(string(comm)); name == "containerd" || name == "dockerd" {
			total += resident(child)
		}
	}
	return total
}
