//go:build linux

package api

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"minidocker/final/engine"
)

// serve serves an engine of its own on a unix socket, and returns the socket's path.
func serve(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	e, err := engine.Open(engine.Options{Root: dir + "/lib", Run: dir + "/run", Driver: "vfs"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "d.sock")
	listeners, err := Listen("unix://"+path, "", TLS{})
	if err != nil {
		t.Fatal(err)
	}
	s := New(e, Options{})
	server := &http.Server{Handler: s}
	go func() { _ = server.Serve(listeners[0]) }()
	t.Cleanup(func() {
		_ = server.Close()
		s.Close()
		_ = e.Close()
	})
	return path
}

// ask sends a request over a connection of its own, and returns the status and the body.
func ask(t testing.TB, socket, method, path, kind, body string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", socket)
		}}}
	r, err := http.NewRequest(method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, string(data)
}

func TestRefuses(t *testing.T) {
	socket := serve(t)
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	long := `{"Image":"` + strings.Repeat("x", maxBody) + `"}`
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		says                     string
	}{
		{"GET", "/nosuch", "", "", 404, "page not found"},
		{"GET", "/v1.23/info", "", "", 400, "too old"},
		{"GET", "/v1.99/info", "", "", 400, "too new"},
		{"GET", "/v1.x/info", "", "", 400, "invalid version"},
		{"GET", "/v1.41/containers/nosuch/json", "", "", 404, "No such container: nosuch"},
		{"GET", "/containers/a%2f..%2fb/json", "", "", 404, "No such container"},
		{"POST", "/containers/create", "application/json", "{}", 400, "config cannot be empty|no image"},
		{"POST", "/containers/create", "text/plain", "{}", 400, "unsupported Content-Type"},
		{"POST", "/containers/create", "application/json", "{", 400, "invalid JSON"},
		{"POST", "/containers/create", "application/json", `{"Image":7}`, 400, "invalid JSON"},
		{"POST", "/containers/create", "application/json", deep, 400, "nested deeper"},
		{"POST", "/containers/create", "application/json", long, 413, "longer than"},
		{"POST", "/containers/create", "application/json", `{"Image":"nosuch"}`, 404, "No such image"},
		{"GET", "/containers/json?filters=x", "", "", 400, "invalid JSON"},
		{"GET", `/containers/json?filters={"x":{"y":true}}`, "", "", 400, "invalid filter 'x'"},
		{"GET", "/containers/json?limit=x", "", "", 400, "not a number"},
		{"POST", "/containers/x/resize?h=-1&w=5", "", "", 400, `invalid resize height "-1": value out of range`},
		{"POST", "/exec/x/resize?h=5", "", "", 400, `invalid resize width "": invalid syntax`},
		{"POST", "/exec/x/start", "text/plain", "{}", 400, "unsupported Content-Type"},
		{"POST", "/networks/create", "application/json", "{} x", 400, "unexpected content after JSON"},
		{"POST", "/exec/nosuch/start", "application/json", "{}", 404, "No such exec instance"},
		{"POST", "/containers/x/wait?condition=never", "", "", 400, "invalid condition"},
		{"POST", "/images/create", "", "", 400, "which image"},
		{"GET", "/images/no/such/name/json", "", "", 404, "No such image"},
		{"POST", "/session", "", "", 501, "DOCKER_BUILDKIT=0"},
		{"POST", "/build", "", "", 501, "no builder"},
		{"GET", "/swarm", "", "", 503, "not a swarm manager"},
		{"GET", "/system/df?type=x", "", "", 400, "unknown object type"},
		{"POST", "/auth", "application/json", `{"auth":"!"}`, 400, "base64"},
		{"POST", "/images/create?fromImage=x&platform=foobar", "", "", 400, "unknown operating system"},
		{"POST", "/images/create?fromSrc=-&platform=macos/arm64", "", "", 400, "not supported"},
		{"POST", "/containers/create?platform=a/b/c/d", "application/json", `{"Image":"x"}`, 400,
			"unknown operating system"},
		{"GET", "/networks/nosuch", "", "", 404, "network nosuch not found"},
		{"DELETE", "/networks/bridge", "", "", 403, "bridge is a pre-defined network and cannot be removed"},
		{"POST", "/networks/create", "application/json", `{"Name":"host"}`, 403,
			"operation is not permitted on predefined host network"},
		{"POST", "/volumes/create", "application/json", `{"Driver":"nosuch"}`, 404, "not found"},
		{"POST", "/volumes/create", "application/json", `{"DriverOpts":{"x":"y"}}`, 400,
			`invalid option: "x"`},
	} {
		status, body := ask(t, socket, c.method, c.path, c.kind, c.body)
		var answer struct{ Message string }
		err := json.Unmarshal([]byte(body), &answer)
		said := false
		for _, words := range strings.Split(c.says, "|") {
			said = said || strings.Contains(answer.Message, words)
		}
		if status != c.status || err != nil || !said {
			t.Errorf("%s %.60s: got %d %.200s, want %d %q", c.method, c.path, status, body, c.status, c.says)
		}
	}
}

// importImage makes an image with nothing in it, for containers that are not to be started.
func importImage(t testing.TB, socket, name string) {
	t.Helper()
	var archive bytes.Buffer
	if err := tar.NewWriter(&archive).Close(); err != nil {
		t.Fatal(err)
	}
	path := "/images/create?fromSrc=-&changes=CMD+x&repo=" + name
	status, body := ask(t, socket, "POST", path, "application/x-tar", archive.String())
	if status != 200 || !strings.Contains(body, "sha256:") {
		t.Fatalf("import: got %d %s", status, body)
	}
}

// What a container cannot be made with is said when it is made, and is never 404: by that, docker
// knows that it is to pull the image.
func TestRefuses_Create(t *testing.T) {
	socket := serve(t)
	importImage(t, socket, "there")
	for config, says := range map[string]string{
		`"Env":[""]`:                                              "invalid environment variable:",
		`"HostConfig":{"Annotations":{"":"x"}}`:                   "invalid Annotations: the empty string",
		`"HostConfig":{"NetworkMode":"container:nosuch"}`:         "No such container: nosuch",
		`"HostConfig":{"PidMode":"container:nosuch"}`:             "No such container: nosuch",
		`"HostConfig":{"VolumesFrom":["nosuch"]}`:                 "No such container: nosuch",
		`"HostConfig":{"VolumeDriver":"nosuch","Binds":["v:/v"]}`: `plugin "nosuch" not found`,
		`"HostConfig":{"Isolation":"hyperv"}`:                     "invalid isolation 'hyperv' on linux",
		`"HostConfig":{"OomScoreAdj":1001}`:                       "range for oom score adj is [-1000, 1000]",
		`"HostConfig":{"CapAdd":["NOSUCH"]}`:                      `invalid capability: "CAP_NOSUCH"`,
		`"HostConfig":{"SecurityOpt":["no=such"]}`:                `invalid --security-opt: "no=such"`,
		`"Healthcheck":{"Interval":1000}`:                         "Interval in Healthcheck cannot be less than 1ms",
		`"Healthcheck":{"Test":["CMD","x"],"StartPeriod":1}`:      "StartPeriod in Healthcheck cannot",
		`"Healthcheck":{"Retries":-1}`:                            "Retries in Healthcheck cannot be negative",
		`"HostConfig":{"Mounts":[{"Type":"x","Target":"/x"}]}`: `invalid mount config for type "x": ` +
			"mount type unknown",
	} {
		status, body := ask(t, socket, "POST", "/containers/create", "application/json",
			`{"Image":"there",`+config+"}")
		var answer struct{ Message string }
		err := json.Unmarshal([]byte(body), &answer)
		if status != 400 || err != nil || !strings.Contains(answer.Message, says) {
			t.Errorf("%s: got %d %s, want 400 %q", config, status, body, says)
		}
	}
	// A program without a name is found out about at the start, and a commit may need none.
	status, body := ask(t, socket, "POST", "/containers/create?name=none", "application/json",
		`{"Image":"there","Cmd":[""]}`)
	if status != 201 {
		t.Errorf("a program without a name: got %d %s", status, body)
	}
	if status, body := ask(t, socket, "DELETE", "/containers/none", "", ""); status != 204 {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := ask(t, socket, "GET", "/containers/json?all=1", "", ""); body != "[]\n" {
		t.Errorf("containers are left: %d %s", status, body)
	}
}

// What is wrong with an archive to be loaded is said in the stream, where clients look for it.
func TestLoad_Error(t *testing.T) {
	socket := serve(t)
	status, body := ask(t, socket, "POST", "/images/load", "application/x-tar", "abc")
	if status != 200 || !strings.Contains(body, `"errorDetail":{"message":"load: `) {
		t.Errorf("got %d %s", status, body)
	}
	importImage(t, socket, "sha")
	if status, body := ask(t, socket, "POST", "/images/sha/tag?repo=sha256&tag=x", "", ""); status != 400 {
		t.Errorf("a tag that could be a digest: got %d %s", status, body)
	}
}

// The filters of images' times hold together.
func TestImages_Until(t *testing.T) {
	socket := serve(t)
	for _, name := range []string{"a", "b", "c"} {
		importImage(t, socket, name)
		time.Sleep(2 * time.Millisecond)
	}
	var b struct{ Created string }
	_, body := ask(t, socket, "GET", "/images/b/json", "", "")
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	query := url.QueryEscape(`{"until":["` + b.Created + `"],"before":["c"]}`)
	status, body := ask(t, socket, "GET", "/images/json?filters="+query, "", "")
	var all []struct{ RepoTags []string }
	err := json.Unmarshal([]byte(body), &all)
	if status != 200 || err != nil || len(all) != 1 || all[0].RepoTags[0] != "a:latest" {
		t.Errorf("got %d %s", status, body)
	}
}

// One that is being removed has no layer any more, and is not there.
func TestInspect_Removing(t *testing.T) {
	socket := serve(t)
	importImage(t, socket, "there")
	_, body := ask(t, socket, "POST", "/containers/create", "application/json", `{"Image":"there"}`)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Dir(socket) + "/lib/storage/*/layers/" + made.ID)
	if err != nil || len(found) != 1 {
		t.Fatalf("got the layers %q, %v", found, err)
	}
	if err := os.RemoveAll(found[0]); err != nil {
		t.Fatal(err)
	}
	status, body := ask(t, socket, "GET", "/containers/"+made.ID+"/json", "", "")
	if status != 404 || !strings.Contains(body, "No such container") {
		t.Errorf("got %d %s", status, body)
	}
}

func TestPing(t *testing.T) {
	socket := serve(t)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprint(conn, "HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodHead})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	for name, want := range map[string]string{"Api-Version": "1.47", "Ostype": "linux",
		"Docker-Experimental": "false", "Builder-Version": "1"} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if response.Header.Get("X-Request-Id") == "" {
		t.Error("the request has no number")
	}
}

// Hundreds of clients at once, some of whom hang up in the middle.
func TestMany(t *testing.T) {
	socket := serve(t)
	var all sync.WaitGroup
	for i := range 300 {
		all.Add(1)
		go func() {
			defer all.Done()
			if i%3 == 0 {
				conn, err := net.Dial("unix", socket)
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprint(conn, "POST /containers/create HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
				_ = conn.Close()
				return
			}
			if status, body := ask(t, socket, "GET", "/v1.47/containers/json", "", ""); status != 200 || body != "[]\n" {
				t.Errorf("got %d %q", status, body)
			}
		}()
	}
	all.Wait()
}

// Listeners who go away are let go of, although nothing happens.
func TestEvents_Gone(t *testing.T) {
	socket := serve(t)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "200") {
		t.Fatalf("got %q, %v: no head before the first event", line, err)
	}
	_ = conn.Close()
	if status, _ := ask(t, socket, "POST", "/volumes/create", "application/json", `{"Name":"v"}`); status != 201 {
		t.Errorf("got %d", status)
	}
}

// A body may come slowly: the answer's head goes out before its end, and nothing of it is lost.
func TestImport_SlowBody(t *testing.T) {
	socket := serve(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Write(content)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	slow, send := io.Pipe()
	go func() {
		all := archive.Bytes()
		_, err := send.Write(all[:len(all)/2])
		time.Sleep(4 * lazyBegin)
		if err == nil {
			_, err = send.Write(all[len(all)/2:])
		}
		send.CloseWithError(err)
	}()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", socket)
		}}}
	response, err := client.Post("http://d/images/create?fromSrc=-&repo=slow", "application/x-tar", slow)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(said), "sha256:") {
		t.Errorf("%s, %v", said, err)
	}
}

func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	out, errs := outputs(&wire, false)
	for _, w := range []struct {
		to   io.Writer
		text string
	}{{out, "one"}, {errs, "two"}, {out, ""}, {out, strings.Repeat("x", 70000)}} {
		if n, err := io.WriteString(w.to, w.text); n != len(w.text) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	for _, want := range []struct {
		stream byte
		length int
	}{{1, 3}, {2, 3}, {1, 70000}} {
		head := wire.Next(frameHeader)
		if got := int(binary.BigEndian.Uint32(head[4:])); head[0] != want.stream || got != want.length {
			t.Fatalf("got a frame of %d, %d bytes; want %+v", head[0], got, want)
		}
		wire.Next(want.length)
	}
	if wire.Len() > 0 {
		t.Errorf("%d bytes are left", wire.Len())
	}
}

// hijackedPair is a server's side of a hijacked connection, and the client.
func hijackedPair(t *testing.T, terminal bool) (*hijacked, *net.UnixConn) {
	t.Helper()
	got := make(chan *hijacked, 1)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(nil, Options{})
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			h, err := s.hijack(w, r, terminal)
			if err != nil {
				t.Error(err)
			}
			h.begin()
			got <- h
		})}}
	server.Start()
	t.Cleanup(server.Close)
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// What comes with the request is the stream's beginning.
	fmt.Fprint(conn, "POST /x HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ")
	return <-got, conn
}

func TestHijack_HalfClose(t *testing.T) {
	h, conn := hijackedPair(t, false)
	fmt.Fprint(conn, "late")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if in, err := io.ReadAll(h.input(false)); string(in) != "early late" || err != nil {
		t.Fatalf("got %q, %v", in, err)
	}
	// The client listens still.
	if _, err := io.WriteString(h, "answer"); err != nil {
		t.Fatal(err)
	}
	h.close()
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 101 ") || !strings.HasSuffix(string(all), "\r\n\r\nanswer") {
		t.Errorf("got %q, %v", all, err)
	}
}

// Clients that read the head with a buffer get nothing else with it: they would lose that.
func TestHijack_HeadAlone(t *testing.T) {
	h, conn := hijackedPair(t, false)
	go func() { _, _ = io.WriteString(h, "output") }()
	time.Sleep(20 * time.Millisecond)
	buffer := make([]byte, 8192)
	n, err := conn.Read(buffer)
	if head := string(buffer[:n]); err != nil || !strings.HasSuffix(head, "\r\n\r\n") {
		t.Errorf("got %q, %v", head, err)
	}
	if n, err = conn.Read(buffer); string(buffer[:n]) != "output" {
		t.Errorf("got %q, %v", buffer[:n], err)
	}
}

// A client that is gone is noticed although nothing is written; its end is no Ctrl-D.
func TestHijack_Gone(t *testing.T) {
	h, conn := hijackedPair(t, true)
	conn.Close()
	if in, err := io.ReadAll(h.input(true)); string(in) != "early " || !errors.Is(err, errHalf) {
		t.Errorf("got %q, %v", in, err)
	}
	select {
	case <-h.lost:
	case <-time.After(30 * time.Second):
		t.Error("it is not noticed")
	}
	if _, err := io.WriteString(h, "x"); !errors.Is(err, errGone) {
		t.Errorf("writing gives %v", err)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.sock")
	l, err := Listen(path, "", TLS{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path, "", TLS{}); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("twice: %v", err)
	}
	l[0].Close() // as if it was killed: the file stays
	again, err := Listen(path, "", TLS{})
	if err != nil {
		t.Fatalf("after a daemon that was killed: %v", err)
	}
	again[0].Close()
	for _, host := range []string{"tcp://127.0.0.1:0", "unix://relative", "http://x", ""} {
		if _, err := Listen(host, "", TLS{}); err == nil {
			t.Errorf("%q is listened on", host)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for text, want := range map[string]string{"": "\x10\x11", "ctrl-a,x": "\x01x", "ctrl-@": "\x00", "ctrl-_": "\x1f"} {
		if got, err := detachKeys(text); string(got) != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"ctrl-", "ab", "ctrl-1", "a,,b"} {
		if got, err := detachKeys(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// FuzzDecode gives bodies and filters to the decoder: whatever comes, it is a value or the
// client's mistake.
func FuzzDecode(f *testing.F) {
	f.Add(`{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}}}`)
	f.Add(`{"label":{"a=b":true}}`)
	f.Add(`{"label":["a=b"]}`)
	f.Add(`{"HostConfig":{"Mounts":[{"Type":"bind"}]},"NetworkingConfig":{"EndpointsConfig":{"x":null}}}`)
	f.Add(strings.Repeat("[", 100))
	f.Add(`"\"{[`)
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
		r.Header.Set("Content-Type", "application/json")
		var body createRequest
		err := decode(r, &body, false)
		if err == nil && body.Config != nil {
			err = body.moveMac()
		}
		if err != nil && statusOf(err) != http.StatusBadRequest && statusOf(err) != http.StatusRequestEntityTooLarge {
			t.Errorf("%q: %v", text, err)
		}
		r = httptest.NewRequest(http.MethodGet, "/", nil)
		r.Form = map[string][]string{"filters": {text}}
		if _, err := filters(r); err != nil && statusOf(err) != http.StatusBadRequest {
			t.Errorf("%q: %v", text, err)
		}
		var update container.UpdateConfig
		_ = parse([]byte(text), &update)
		if d := depth([]byte(text)); d < 0 || d > len(text) {
			t.Errorf("%q is %d deep", text, d)
		}
	})
}
