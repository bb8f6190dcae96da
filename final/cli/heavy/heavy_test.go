//go:build linux

package heavy

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/creack/pty"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	mdcli "minidocker/final/cli"
	"minidocker/final/engine"
	"minidocker/final/image/imagetest"
)

// session is a command line on an engine of its own.
type session struct {
	t        *testing.T
	root     string
	in       io.Reader
	terminal io.Writer // in the place of the outputs
	out, err bytes.Buffer
	status   int
}

func newSession(t *testing.T) *session { return &session{t: t, root: t.TempDir()} }

func (s *session) run(args ...string) *session {
	s.out.Reset()
	s.err.Reset()
	c := &mdcli.CLI{
		Name: "minidocker", Version: "1", In: s.in, Out: &s.out, Err: &s.err, Heavy: Commands(),
		Open: func(mdcli.Globals) (mdcli.Engine, error) {
			e, err := engine.Open(engine.Options{
				Root: s.root + "/lib", Run: s.root + "/run", Driver: "vfs",
			})
			return mdcli.Local{Engine: e}, err
		},
		Globals: mdcli.Globals{Config: s.root + "/config"},
	}
	if s.terminal != nil {
		c.Out = s.terminal
	}
	s.status = c.Main(context.Background(), args)
	return s
}

// want compares the exit status, and the output and the standard error with patterns.
func (s *session) want(status int, out, err string) {
	s.t.Helper()
	if s.status != status || !regexp.MustCompile("^(?:"+out+")$").MatchString(s.out.String()) ||
		!regexp.MustCompile(err).MatchString(s.err.String()) {
		s.t.Errorf("got status %d, output %q, error %q; want %d, %q, %q", s.status, s.out.String(),
			s.err.String(), status, out, err)
	}
}

// serve serves a registry; with a password, only to who knows it.
func serve(t *testing.T, password string) (host string) {
	t.Helper()
	registry := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// imported is an engine with one image.
func imported(t *testing.T, name string) *session {
	t.Helper()
	s := newSession(t)
	s.in = bytes.NewReader(imagetest.Tar(t, "name", "x"))
	s.run("import", "-m", "message", "-c", `CMD ["sh", "-c"]`, "--change", "ENV A=b", "-", name).
		want(0, "sha256:[0-9a-f]{64}\n", "")
	return s
}

func TestImportSaveLoad(t *testing.T) {
	s := imported(t, "mine:1")
	s.run("image", "inspect", "-f", "{{.Config.Cmd}} {{.Config.Env}} {{.Comment}}", "mine:1").want(0, `\[sh -c\] \[A=b.*\] message`+"\n", "")
	file := filepath.Join(s.root, "mine.tar")
	s.run("save", "-o", file, "mine:1").want(0, "", "")
	s.run("save", "mine:1")
	piped := s.out.Bytes()
	if written, err := os.ReadFile(file); err != nil || !bytes.Equal(written, piped) {
		t.Errorf("to a file %d bytes, %v; to a pipe %d", len(written), err, len(piped))
	}
	other := newSession(t)
	other.run("load", "-i", file).want(0, "Loaded image: mine:1\n", "^$")
	other.in = bytes.NewReader(piped)
	other.run("rmi", "mine:1").want(0, "(?s)Untagged: mine:1\n.*", "")
	other.run("load", "-q").want(0, "Loaded image: mine:1\n", "^$")
	s.run("save", "--format", "oci", "-o", file, "mine:1").want(0, "", "")
	other.run("load", "--input="+file).want(0, "Loaded image: mine:1\n", "")
	s.run("save", "nix").want(1, "", "(?i)no such image: nix")
	s.run("save", "-o", file+"2", "nix").want(1, "", "(?i)no such image: nix")
	if left, _ := filepath.Glob(file + "2*"); left != nil {
		t.Errorf("a failed save leaves %q", left)
	}
	s.run("save", "--format", "x", "mine:1").want(1, "", "want docker or oci")
	s.run("load", "-i", "/nix").want(1, "", "no such file")
	s.run("import", "-c", "RUN x", file, "x").want(1, "", "RUN")
	s.run("import", file, "UPPER:1").want(1, "", "invalid reference format|uppercase")
	s.run("import").want(1, "", "requires")
}

func TestImport_URL(t *testing.T) {
	content := imagetest.Gzip(t, imagetest.Tar(t, "a", "b"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/x.tgz" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(server.Close)
	s := newSession(t)
	s.run("import", "--platform", "linux/arm/v7", server.URL+"/x.tgz", "x").want(0, "sha256:[0-9a-f]{64}\n", "Downloading from http")
	s.run("image", "inspect", "-f", "{{.Architecture}}{{.Variant}}", "x").want(0, "armv7\n", "")
	s.run("import", server.URL+"/y", "x").want(1, "", "404")
}

func TestPushPull(t *testing.T) {
	host := serve(t, "")
	name := host + "/team/mine"
	s := imported(t, name+":1")
	s.run("tag", name+":1", name+":2")
	s.run("push", name+":1").want(0, "The push refers to repository \\["+name+"\\]\n([0-9a-f]{12}: (Waiting|Pushing|Pushed)\n)+"+
		"1: digest: sha256:[0-9a-f]{64} size: [0-9]+\n", "^$")
	s.run("push", "-a", "-q", name).want(0, name+":1\n"+name+":2\n", "")
	s.run("push", name).want(1, "(?s)Using default tag: latest\n.*", "an image does not exist locally with the tag: "+name)
	other := newSession(t)
	other.run("pull", name+":1").want(0, "1: Pulling from "+name+"\n([0-9a-f]{12}: (Waiting|Downloading|Pull complete)\n)+"+
		"Digest: sha256:[0-9a-f]{64}\nStatus: Downloaded newer image for "+name+":1\n"+name+":1\n", "^$")
	other.run("pull", name+":1").want(0, "(?s).*Status: Image is up to date for "+name+":1\n"+name+":1\n", "")
	other.run("pull", "-q", name+":2").want(0, name+":2\n", "")
	other.run("pull", "-a", name).want(0, "(?s)1: Pulling .*2: Pulling .*", "")
	other.run("pull", name).want(1, "(?s)Using default tag: latest\n.*", "pull access denied for "+name+", .* 'minidocker login'")
	other.run("pull", "-a", name+":1").want(1, "", "tag can't be used with --all-tags")
	other.run("pull", "a b").want(1, "", "invalid reference format")
	other.run("images", "--format", "{{.Tag}}").want(0, "1\n2\n", "")
}

func TestPull_Terminal(t *testing.T) {
	name := serve(t, "") + "/mine:1"
	imported(t, name).run("push", "-q", name).want(0, ".*\n", "")
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 25, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		data, _ := io.ReadAll(master) // its end is an error
		shown <- string(data)
	}()
	s := newSession(t)
	s.terminal = slave
	s.run("pull", name).want(0, "", "")
	slave.Close()
	got := <-shown
	for _, part := range []string{"1: Pulling from ", ": Pull complete", "Status: Downloaded newer image"} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in %q", part, got)
		}
	}
}

func TestLogin(t *testing.T) {
	host := serve(t, "secret")
	name := host + "/mine:1"
	s := imported(t, name)
	s.run("push", name).want(1, "(?s).*", "(?i)denied|unauthorized")
	s.in = strings.NewReader("wrong\n")
	s.run("login", "-u", "me", "--password-stdin", host).want(1, "", "(?i)denied|unauthorized")
	s.in = strings.NewReader("secret\n")
	s.run("login", "-u", "me", "--password-stdin", "http://"+host+"/v2/").want(0, "Login Succeeded\n", "^$")
	s.run("push", "-q", name).want(0, name+"\n", "")
	s.run("logout", host).want(0, "Removing login credentials for "+host+"\n", "^$")
	s.run("push", "-q", name).want(1, "", "(?i)denied|unauthorized")
	s.run("login", "-u", "me", "-p", "secret", host).want(0, "Login Succeeded\n", "WARNING! Using --password")
	s.in = strings.NewReader("")
	s.run("login", host).want(1, "", "non TTY")
	s.run("login", "--password-stdin", host).want(1, "", "requires --username")
	s.run("login", "-u", "me", "-p", "x", "--password-stdin", host).want(1, "", "mutually exclusive")
}

func TestHelp(t *testing.T) {
	s := newSession(t)
	for path := range Commands() {
		s.run(append(strings.Fields(path), "--help")...)
		if s.status != 0 || !strings.Contains(s.out.String(), "\nExample:\n  minidocker ") {
			t.Errorf("%s --help: %d %s", path, s.status, s.out.String())
		}
	}
	s.run("nosuch", ".").want(1, "", "unknown command: minidocker nosuch")
	s.run("__complete", "pull", "--pl").want(0, "--platform\n", "")
}
