//go:build linux

package cli

import (
	"archive/tar"
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"minidocker/final/engine"
)

var id = strings.Repeat("ab", 32)

func TestRun(t *testing.T) {
	s := newSession()
	s.fake.output, s.fake.ending = "out", engine.Ending{Status: 3}
	s.run("run", "busybox").want(t, 3, "out", "WARNING: beware\nerr")
	s.in = "typed"
	s.run("run", "-i", "busybox").want(t, 3, "typedout", "err")
	s.run("run", "-d", "busybox").want(t, 0, id+"\n", "")
	if want := []string{"create busybox", "start abab false"}; !reflect.DeepEqual(s.fake.calls, want) {
		t.Errorf("run -d: %q", s.fake.calls)
	}
	s.fake.ending = engine.Ending{Detached: true}
	s.run("run", "busybox").want(t, 0, "out", "")
	s.fake.ending = engine.Ending{Status: 137, Error: "shim died"}
	s.run("run", "busybox").want(t, 137, "out", "minidocker: shim died")
	s.fake.startErr = &engine.StartError{Status: 127, Err: io.ErrUnexpectedEOF}
	s.run("run", "busybox", "nix").want(t, 127, "", "unexpected EOF")
	s.run("run", "-d", "busybox", "nix").want(t, 127, "", "unexpected EOF")
}

func TestRun_Pull(t *testing.T) {
	s := newSession()
	s.run("run", "--rm", "redis").want(t, 0, "", "Unable to find image 'redis:latest' locally\n")
	s.run("run", "--pull", "always", "--platform", "linux/arm64", "-q", "busybox")
	if want := []string{`redis "" false`, `busybox "linux/arm64" true`}; !reflect.DeepEqual(s.pulled, want) {
		t.Errorf("pulled %q", s.pulled)
	}
	s.run("run", "--pull", "never", "nginx").want(t, 125, "", "No such image: nginx")
	s.run("run", "denied").want(t, 125, "", "pull access denied")
	s.run("create", "localhost:5000/x/y:1").want(t, 0, id+"\n", "'localhost:5000/x/y:1' locally")
}

func TestRun_IDFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cid")
	s := newSession()
	s.run("run", "--pull=never", "--cidfile", file, "nix").want(t, 125, "", "No such image")
	if _, err := os.Stat(file); err == nil {
		t.Error("an ID file without a container")
	}
	s.run("run", "--cidfile", file, "busybox").want(t, 0, "", "")
	if data, _ := os.ReadFile(file); string(data) != id {
		t.Errorf("the ID file has %q", data)
	}
	s.run("run", "--cidfile", file, "busybox").want(t, 125, "", "container ID file found")
	if s.fake.calls != nil {
		t.Error("a container was made all the same")
	}
}

func TestRun_Terminal(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 33, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	c := &CLI{In: slave, Out: slave, Err: slave}
	a := attaching{tty: true, in: true, out: true, err: true}
	if err := c.prepare(&a); err != nil {
		t.Fatal(err)
	}
	before := tty(t, slave)
	err = c.session(&a, func(s *engine.Streams) (Attachment, error) {
		if rows, columns := s.Size(); rows != 33 || columns != 99 {
			t.Errorf("size %d x %d", rows, columns)
		}
		if string(s.DetachKeys) != "\x10\x11" || s.Err != nil || s.In == nil {
			t.Errorf("streams %+v", s)
		}
		if tty(t, slave) == before {
			t.Error("the terminal is not raw")
		}
		s.In = nil
		return running{&fake{output: "x"}, s}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if tty(t, slave) != before {
		t.Error("the terminal stays raw")
	}
}

func TestDetachKeys(t *testing.T) {
	for in, want := range map[string]string{
		"ctrl-p,ctrl-q": "\x10\x11", "ctrl-x": "\x18", "a,b": "ab", "ctrl-@": "\x00", "CTRL-[": "\x1b", "ctrl-_": "\x1f",
	} {
		if got, err := detachKeys(in); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "ab", "ctrl-1", "ctrl-", "a,,b"} {
		if got, err := detachKeys(in); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
}

func TestExec(t *testing.T) {
	s := newSession()
	s.fake.ending = engine.Ending{Status: 5}
	s.run("exec", "-e", "A=1,2", "-u", "1", "-w", "/x", "--privileged", "web", "sh", "-c", "ls").want(t, 5, "", "err")
	want := &container.ExecCreateRequest{
		User: "1", Privileged: true, AttachStdout: true, AttachStderr: true, Env: []string{"A=1,2"},
		WorkingDir: "/x", Cmd: []string{"sh", "-c", "ls"},
	}
	if !reflect.DeepEqual(s.fake.execed, want) {
		t.Errorf("%+v", s.fake.execed)
	}
	s.run("exec", "-d", "-i", "web", "true").want(t, 0, "", "")
	if s.fake.execed.AttachStdin || s.fake.calls[0] != "exec web false" {
		t.Errorf("%+v %q", s.fake.execed, s.fake.calls)
	}
	s.run("exec", "web").want(t, 1, "", "requires at least 2 arguments")
	s.run("exec", "-it", "web", "sh").want(t, 1, "", "stdin is not a terminal")
	s.fake.startErr = &engine.StartError{Status: 126, Err: io.EOF}
	s.run("exec", "web", "/etc").want(t, 126, "", "EOF")
}

func TestEach(t *testing.T) {
	s := newSession()
	s.run("stop", "-t", "3", "--signal", "INT", "a", "nix", "b").want(t, 1, "a\nb\n", "No such container: nix")
	if want := []string{`stop a "INT" 3`, `stop b "INT" 3`}; !reflect.DeepEqual(s.fake.calls, want) {
		t.Errorf("%q", s.fake.calls)
	}
	s.run("stop", "a", "--time=0") // flags behind arguments
	s.run("stop", "a")
	if s.fake.calls[0] != `stop a "" nil` {
		t.Errorf("%q", s.fake.calls)
	}
	s.run("kill", "a")
	if s.fake.calls[0] != "kill a SIGKILL" {
		t.Errorf("%q", s.fake.calls)
	}
	s.run("rm", "-fv", "a", "nix").want(t, 0, "a\n", "No such container: nix")
	s.run("rm", "a", "nix").want(t, 1, "a\n", "No such container: nix")
	s.run("wait", "a", "b").want(t, 0, "7\n7\n", "")
	s.run("stop").want(t, 1, "", "requires at least 1 argument")
	s.run("container", "stop", "a").want(t, 0, "a\n", "")
}

func TestUpdate(t *testing.T) {
	s := newSession()
	s.run("update", "-m", "1g", "--pids-limit", "0", "--restart", "always", "a").want(t, 0, "a\n", "")
	if u := s.fake.update; u.Memory != 1<<30 || u.PidsLimit == nil || *u.PidsLimit != 0 || u.RestartPolicy.Name != "always" {
		t.Errorf("%+v", u)
	}
	s.run("update", "a").want(t, 1, "", "one or more flags")
}

func TestAttach(t *testing.T) {
	s := newSession()
	s.run("attach", "web").want(t, 1, "", "No such container: web")
	s.fake.inspected = &container.InspectResponse{State: &container.State{}, Config: &container.Config{OpenStdin: true}}
	s.run("attach", "web").want(t, 1, "", "cannot attach to a stopped container, start it first")
	s.fake.inspected.State.Running = true
	s.in, s.fake.ending = "hello", engine.Ending{Status: 9}
	s.run("attach", "web").want(t, 9, "hello", "err")
	s.run("attach", "--no-stdin", "web").want(t, 9, "", "err")
	s.fake.inspected.State.Running = false
	s.run("start", "-ai", "web").want(t, 9, "hello", "err")
	s.run("start", "-a", "a", "b").want(t, 1, "", "multiple containers")
	s.run("start", "a", "b").want(t, 0, "a\nb\n", "")
}

func TestPs(t *testing.T) {
	s := newSession()
	s.fake.containers = []container.Summary{{
		ID: id, Names: []string{"/web"}, Image: "busybox", Command: "httpd -f -h /www/pages", State: "running",
		Status: "Up 2 hours", Created: time.Now().Add(-2 * time.Hour).Unix(), SizeRw: 5, SizeRootFs: 4_000_000,
		Labels: map[string]string{"a": "b"}, Ports: []container.PortSummary{
			{IP: netip.MustParseAddr("::"), PrivatePort: 80, PublicPort: 8080, Type: "tcp"},
			{IP: netip.MustParseAddr("0.0.0.0"), PrivatePort: 81, PublicPort: 8081, Type: "tcp"},
			{IP: netip.MustParseAddr("0.0.0.0"), PrivatePort: 80, PublicPort: 8080, Type: "tcp"},
			{PrivatePort: 9000, Type: "udp"},
		},
	}}
	s.run("ps", "-a", "--filter", "label=a=b", "--filter", "status=running", "-n", "3").want(t, 0,
		"CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS       PORTS                                                       NAMES\n"+
			"abababababab   busybox   \"httpd -f -h /www/pa…\"   2 hours ago   Up 2 hours   0.0.0.0:8080-8081->80-81/tcp, [::]:8080->80/tcp, 9000/udp   web\n", "")
	want := engine.ListOptions{All: true, Limit: 3, Filters: engine.Filters{"label": {"a=b"}, "status": {"running"}}}
	if !reflect.DeepEqual(s.fake.list, want) {
		t.Errorf("%+v", s.fake.list)
	}
	s.run("ps", "-q", "--no-trunc").want(t, 0, id+"\n", "")
	s.run("container", "ls", "--format", `{{.Names}}\t{{.Label "a"}} {{upper .State}}`).want(t, 0, "web\tb RUNNING\n", "")
	s.run("ps", "--format", `table {{.ID}}\t{{.Label "a"}}`).want(t, 0, "CONTAINER ID   A\nabababababab   b\n", "")
	s.run("ps", "--format", "{{.Nix}}").want(t, 1, "", "Nix")
	s.run("ps", "--format", "{{.ID").want(t, 1, "", "template parsing error")
	s.run("ps", "--filter", "x").want(t, 1, "", "invalid filter 'x'")
	if s.run("ps", "--format", "json"); !strings.Contains(s.out.String(), `"ID":"abababababab","Image":"busybox"`) {
		t.Error(s.out.String())
	}
	if s.run("ps", "-s"); !s.fake.list.Size || !strings.Contains(s.out.String(), "5B (virtual 4MB)") {
		t.Error(s.out.String())
	}
	s.fake.containers = nil
	s.run("ps").want(t, 0, "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n", "")
}

func TestImages(t *testing.T) {
	s := newSession()
	s.run("images", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}").want(t, 0,
		"a/b 1 cccccccccccc 4.32MB\nb 2 cccccccccccc 4.32MB\n<none> <none> eeeeeeeeeeee 0B\n", "")
	s.run("image", "ls", "--digests", "--format", "{{.Repository}} {{.Digest}}").want(t, 0,
		"a/b sha256:"+strings.Repeat("d", 64)+"\nb <none>\n<none> <none>\n", "")
}

func TestInspect(t *testing.T) {
	s := newSession()
	s.run("container", "inspect", "web").want(t, 1, "[]\n", "No such container: web")
	s.run("inspect", "--type", "nix", "web").want(t, 1, "[]\n", `unknown type: "nix"`)
	s.fake.inspected = &container.InspectResponse{
		ID: id, State: &container.State{Pid: 42, Status: "running"},
		Config:          &container.Config{Labels: map[string]string{"a": "<b>"}},
		NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{"bridge": {}}},
	}
	s.run("inspect", "-f", "{{.State.Pid}} {{.Id}} {{json .Config.Labels}}", "web").want(t, 0, "42 "+id+` {"a":"<b>"}`+"\n", "")
	s.run("inspect", "--format={{.NetworkSettings.Networks.bridge.IPAddress}}", "web").want(t, 0, "\n", "")
	s.run("inspect", "-f", "{{.Nix}}", "web").want(t, 1, "", "Nix")
	if s.run("inspect", "web"); !strings.HasPrefix(s.out.String(), "[\n    {\n        \"Id\": \"abab") {
		t.Error(s.out.String())
	}
}

func TestNetworks(t *testing.T) {
	s := newSession()
	s.run("network", "create", "--subnet", "10.7.0.0/24", "--gateway", "10.7.0.1", "--ip-range", "10.7.0.128/25", "--subnet",
		"fd00::/64", "--aux-address", "r=10.7.0.9", "--internal", "--ipv6", "-o", "a=b", "--label", "c=d", "-d", "macvlan", "front").
		want(t, 0, "netid\n", "")
	got := part(t, s.fake.network, "IPAM.Config")
	want := []any{
		map[string]any{"Subnet": "10.7.0.0/24", "Gateway": "10.7.0.1", "IPRange": "10.7.0.128/25", "AuxiliaryAddresses": map[string]any{"r": "10.7.0.9"}},
		map[string]any{"Subnet": "fd00::/64"},
	}
	if r := s.fake.network; !reflect.DeepEqual(got, want) || !r.Internal || !*r.EnableIPv6 || r.EnableIPv4 != nil ||
		r.Options["a"] != "b" || r.Labels["c"] != "d" || r.Driver != "macvlan" || r.Name != "front" {
		t.Errorf("%v %+v", got, r)
	}
	for args, message := range map[string]string{
		"--gateway|10.7.0.1|x":                       "no matching subnet for 10.7.0.1",
		"--subnet|10.0.0.0/8|--subnet|10.1.0.0/16|x": "multiple overlapping subnet",
		"--subnet|x|x":                               "--subnet", "a|b": "requires 1 argument",
		"--subnet|10.0.0.0/8|--gateway|10.0.0.1|--gateway|10.0.0.2|x": "multiple gateways",
	} {
		s.run(append([]string{"network", "create"}, strings.Split(args, "|")...)...)
		if s.status == 0 || !strings.Contains(s.err.String(), message) {
			t.Errorf("%s: %s", args, s.err.String())
		}
	}
	s.run("network", "connect", "--alias", "db", "--ip", "10.7.0.5", "front", "web").want(t, 0, "", "")
	if e := s.fake.connect.EndpointConfig; s.fake.connect.Container != "web" || e.Aliases[0] != "db" || e.IPAMConfig.IPv4Address.String() != "10.7.0.5" {
		t.Errorf("%+v", s.fake.connect)
	}
}

func TestPort(t *testing.T) {
	s := newSession()
	s.fake.inspected = &container.InspectResponse{NetworkSettings: &container.NetworkSettings{Ports: network.PortMap{
		network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: "8080"}, {HostIP: netip.MustParseAddr("::"), HostPort: "8080"}},
		network.MustParsePort("53/udp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "5353"}},
		network.MustParsePort("9/tcp"):  nil,
	}}}
	s.run("port", "web").want(t, 0, "53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n", "")
	s.run("port", "web", "80").want(t, 0, "0.0.0.0:8080\n[::]:8080\n", "")
	s.run("port", "web", "9").want(t, 1, "", "no public port '9/tcp' published for web")
}

func TestPrune(t *testing.T) {
	s := newSession()
	s.run("container", "prune").want(t, 1, "WARNING! This will remove all stopped containers.\n"+
		"Are you sure you want to continue? [y/N] ", "")
	if s.fake.calls != nil {
		t.Error("pruned without an answer")
	}
	s.in = "y\n"
	if s.run("container", "prune"); s.status != 0 || !strings.HasSuffix(s.out.String(), "Deleted Containers:\none\n\nTotal reclaimed space: 2.5kB\n") {
		t.Error(s.out.String())
	}
	s.run("container", "prune", "-f", "--filter", "until=1h")
	if s.fake.calls[0] != "prune map[until:[1h]]" {
		t.Errorf("%q", s.fake.calls)
	}
}

func TestHelp(t *testing.T) {
	for _, e := range entries() {
		if e.make == nil {
			continue
		}
		command := e.make(&CLI{})
		seen := map[string]bool{}
		for _, f := range command.Flags {
			for _, name := range f.Names() {
				if seen[name] {
					t.Errorf("%s has two flags %s", e.path, name)
				}
				seen[name] = true
			}
		}
		if command.Usage == "" || command.Description == "" {
			t.Errorf("%s has no usage or no example", e.path)
		}
		for line := range strings.SplitSeq(command.Description, "\n") {
			found, rest, err := find(strings.Fields(line))
			if err != nil || found.path != e.path {
				t.Errorf("the example of %s is another command's: %s", e.path, line)
				continue
			}
			if _, err := sortOut(command.Flags, rest, e.first); err != nil {
				t.Errorf("the example of %s: %v", e.path, err)
			}
		}
		s := newSession().run(append(strings.Fields(e.path), "--help")...)
		if s.status != 0 || !strings.HasPrefix(s.out.String(), "Usage:  minidocker "+e.called()) {
			t.Errorf("%s --help: %d %s", e.path, s.status, s.out.String())
		}
	}
	s := newSession()
	for _, args := range [][]string{{}, {"help"}, {"--help"}, {"-h"}, {"help", "run"}, {"network"}, {"network", "--help"}} {
		if s.run(args...); s.status != 0 || !strings.HasPrefix(s.out.String(), "Usage:") {
			t.Errorf("%q: %d %s", args, s.status, s.out.String())
		}
	}
	s.run("nix").want(t, 1, "", "unknown command: minidocker nix")
	s.run("network", "nix").want(t, 1, "", "unknown command: minidocker network nix")
	s.run("--nix", "ps").want(t, 125, "", "unknown flag: --nix")
	s.run("--version").want(t, 0, "minidocker version 1\n", "")
	s.run("ps", "--nix").want(t, 125, "", "Run 'minidocker ps --help' for more information")
}

func TestHeavy(t *testing.T) {
	s := newSession()
	s.run("--root", "/x", "image", "pull", "-q", "busybox").want(t, 0, "", "")
	if want := []string{"--root", "/x", "image", "pull", "-q", "busybox"}; !reflect.DeepEqual(s.execed, want) {
		t.Errorf("%q", s.execed)
	}
}

func TestComplete(t *testing.T) {
	s := newSession()
	s.fake.containers = []container.Summary{{Names: []string{"/web"}}, {Names: []string{"/db"}}}
	for args, want := range map[string]string{
		"ru": "run", "network cr": "create", "stop w": "web", "stop web d": "db", "run --rest": "--restart",
		"run --restart un": "unless-stopped", "exec -it w": "web", "rmi a": "a/b:1", "run -it a": "a/b:1", "exec web w": "",
		"ps w": "", "system pr": "prune", "logs --ta": "--tail", "--root /x net": "network",
	} {
		if want != "" {
			want += "\n"
		}
		s.run(append([]string{"__complete"}, strings.Split(args, " ")...)...)
		if s.out.String() != want {
			t.Errorf("%s: %q, want %q", args, s.out.String(), want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if s.run("completion", shell); !strings.Contains(s.out.String(), "__complete") {
			t.Errorf("%s: %s", shell, s.out.String())
		}
	}
	s.run("completion", "csh").want(t, 1, "", "bash, zsh or fish")
}

// names are those of an archive, with contents.
func names(t *testing.T, r io.Reader) (all []string) {
	t.Helper()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(in)
		all = append(all, strings.TrimSuffix(h.Name, "/")+"="+string(data))
	}
}

func TestCp_ToContainer(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.MkdirAll("site", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "site/index"} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("file", "link"); err != nil {
		t.Fatal(err)
	}
	folder := container.PathStat{Mode: os.ModeDir}
	files := map[string]container.PathStat{"/": folder, "/dir": folder, "/dir/": folder, "/old": {},
		"/link": {Mode: os.ModeSymlink, LinkTarget: "dir"}}
	for _, c := range []struct{ source, target, to, names string }{
		{"file", "/dir", "/dir", "file=x"}, {"file", "/dir/", "/dir", "file=x"}, {"file", "dir", "/dir", "file=x"},
		{"file", "/new", "/", "new=x"}, {"file", "/old", "/", "old=x"}, {"./file", "/link", "/dir", "file=x"},
		{"site", "/dir", "/dir", "site= site/index=x"}, {"site/.", "/dir", "/", "dir= dir/index=x"},
		{"site", "/new", "/", "new= new/index=x"}, {"site/", "/", "/", "site= site/index=x"},
		{"link", "/dir", "/dir", "link="}, {"site/.", "/", "/", ".= index=x"},
	} {
		s := newSession()
		s.fake.files = files
		if s.run("cp", c.source, "web:"+c.target); s.status != 0 {
			t.Errorf("cp %s %s: %s", c.source, c.target, s.err.String())
			continue
		}
		got := strings.ReplaceAll(strings.Join(names(t, &s.fake.copied), " "), "./", "")
		if want := "copy to web:" + c.to; s.fake.calls[0] != want || got != c.names {
			t.Errorf("cp %s %s: %q %s, want %s %s", c.source, c.target, s.fake.calls, got, want, c.names)
		}
	}
	s := newSession()
	s.fake.files, s.in = files, "archive"
	s.run("cp", "-L", "link", "web:/dir")
	if got := names(t, &s.fake.copied); !slices.Equal(got, []string{"link=x"}) {
		t.Errorf("cp -L: %q", got)
	}
	s.fake.copied.Reset()
	s.run("cp", "-", "web:/dir").want(t, 0, "", "")
	if s.fake.copied.String() != "archive" {
		t.Errorf("cp -: %q", s.fake.copied.String())
	}
	s.run("cp", "site", "web:/old").want(t, 1, "", "cannot copy to a file")
	s.run("cp", "file", "web:/new/").want(t, 1, "", "no such directory")
	s.run("cp", "nix", "web:/dir").want(t, 1, "", "no such file")
	s.run("cp", "file/", "web:/dir").want(t, 1, "", "not a directory")
	s.run("cp", "a:/x", "b:/y").want(t, 1, "", "copying between containers is not supported")
	s.run("cp", "a", "b").want(t, 1, "", "at least one container source")
}

func TestCp_FromContainer(t *testing.T) {
	var file, folder bytes.Buffer
	for to, entries := range map[*bytes.Buffer][]tar.Header{
		&file:   {{Name: "hosts", Mode: 0o600, Size: 1}},
		&folder: {{Name: "www/", Mode: 0o755, Typeflag: tar.TypeDir}, {Name: "www/index", Mode: 0o644, Size: 1}},
	} {
		w := tar.NewWriter(to)
		for _, h := range entries {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(w, strings.Repeat("x", int(h.Size)))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ source, target, want string }{
		{"/etc/hosts", ".", "hosts"}, {"/etc/hosts", "new", "new"}, {"/etc/hosts", "dir", "dir/hosts"}, {"/etc/hosts", "old", "old"},
		{"/www", ".", "www/index"}, {"/www", "new", "new/index"}, {"/www", "dir", "dir/www/index"}, {"/www/.", "dir", "dir/index"},
	} {
		t.Chdir(t.TempDir())
		if err := os.Mkdir("dir", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("old", []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		s := newSession()
		s.fake.files = map[string]container.PathStat{"/etc/hosts": {}, "/www": {Mode: os.ModeDir}, "/www/.": {Mode: os.ModeDir}}
		s.fake.archive = folder.Bytes()
		if c.source == "/etc/hosts" {
			s.fake.archive = file.Bytes()
		}
		s.run("cp", "web:"+c.source, c.target).want(t, 0, "", "")
		if data, err := os.ReadFile(c.want); string(data) != "x" {
			t.Errorf("cp %s %s: %v", c.source, c.target, err)
		}
		s.run("cp", "web:"+c.source, "-").want(t, 0, string(s.fake.archive), "")
		if c.source == "/www" {
			s.run("cp", "web:/www", "old").want(t, 1, "", "cannot copy to a file")
		}
	}
}

// tty is a terminal's state.
func tty(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *state
}
