//go:build linux

package registry_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"minidocker/final/image/imagetest"
	"minidocker/final/image/registry"
)

const user, password = "me", "pass:word"

// basic asks for user and password.
func basic(w http.ResponseWriter, r *http.Request) bool {
	if u, p, _ := r.BasicAuth(); u == user && p == password {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="fruits"`)
	http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
	return true
}

// tokens is a token server and the registry's part of it. A token is good for some requests.
type tokens struct {
	realm string // its URL; "" is the registry's own host
	uses  int

	mu     sync.Mutex
	left   map[string]int
	scopes map[string][]string
	issued int
}

func (k *tokens) between(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path == "/token" {
		k.issue(w, r)
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	scope := ""
	if _, path, ok := strings.Cut(r.URL.Path, "/v2/"); ok && path != "" {
		path, _, _ = strings.Cut(path, "/blobs/")
		path, _, _ = strings.Cut(path, "/manifests/")
		scope = "repository:" + path + ":pull"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			scope = "repository:" + path + ":push,pull"
		}
	}
	granted := slices.ContainsFunc(k.scopes[token], func(s string) bool {
		return s == scope || strings.ReplaceAll(s, "push,pull", "pull") == scope
	})
	if k.left[token] > 0 && (scope == "" || granted) {
		k.left[token]--
		return false
	}
	realm := k.realm
	if realm == "" {
		realm = "http://" + r.Host + "/token"
	}
	w.Header().Set("WWW-Authenticate",
		fmt.Sprintf(`Bearer realm=%q,service="fruits",scope=%q`, realm, scope))
	http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
	return true
}

func (k *tokens) issue(w http.ResponseWriter, r *http.Request) {
	if u, p, ok := r.BasicAuth(); ok && (u != user || p != password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	} else if !ok && r.FormValue("grant_type") == "refresh_token" && r.FormValue("refresh_token") != "identity" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = r.ParseForm()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.issued++
	token := fmt.Sprint("token-", k.issued)
	if k.left == nil {
		k.left, k.scopes = map[string]int{}, map[string][]string{}
	}
	k.left[token] = k.uses
	for _, s := range r.Form["scope"] {
		k.scopes[token] = append(k.scopes[token], strings.Fields(s)...)
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func as(c registry.Credentials) *registry.Client {
	k := client()
	k.Credentials = func(string) (registry.Credentials, error) { return c, nil }
	return k
}

func TestAuth(t *testing.T) {
	mine := registry.Credentials{Username: user, Password: password}
	other := httptest.NewServer(http.HandlerFunc((&tokens{uses: 100}).issue))
	defer other.Close()
	for name, test := range map[string]struct {
		between     func(w http.ResponseWriter, r *http.Request) bool
		credentials registry.Credentials
		denied      bool
	}{
		"basic":                  {basic, mine, false},
		"basic, nobody":          {basic, registry.Credentials{}, true},
		"basic, wrong":           {basic, registry.Credentials{Username: user, Password: "x"}, true},
		"token":                  {(&tokens{uses: 100}).between, mine, false},
		"token, anonymous":       {(&tokens{uses: 100}).between, registry.Credentials{}, false},
		"token, wrong":           {(&tokens{uses: 100}).between, registry.Credentials{Username: user, Password: "x"}, true},
		"token, expires":         {(&tokens{uses: 2}).between, mine, false},
		"token, identity":        {(&tokens{uses: 100}).between, registry.Credentials{IdentityToken: "identity"}, false},
		"token, wrong identity":  {(&tokens{uses: 100}).between, registry.Credentials{IdentityToken: "x"}, true},
		"token, from a stranger": {(&tokens{uses: 100, realm: other.URL}).between, mine, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, test.between)
			store, layers := imagetest.Open(t), &imagetest.Layers{}
			img := fruits(t, store, layers, s.host+"/fruits:1")
			c := as(test.credentials)
			_, err := c.Push(t.Context(), store, s.host+"/fruits:1", registry.PushOptions{})
			if test.denied {
				if err == nil || name != "token, from a stranger" && !errors.Is(err, registry.ErrDenied) {
					t.Errorf("push: got %v", err)
				}
				_, err := c.Pull(t.Context(), store, layers, s.host+"/fruits:1", registry.PullOptions{})
				if err == nil {
					t.Error("pull: no error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			to := &imagetest.Layers{}
			p, err := c.Pull(t.Context(), imagetest.Open(t), to, s.host+"/fruits:1", registry.PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			same(t, p.Image, to, img, layers)
		})
	}
}

func TestLogin(t *testing.T) {
	helpers := t.TempDir()
	helper := `#!/bin/sh
# A credential helper: https://github.com/docker/docker-credential-helpers
case $1 in
store) cat > "$0.kept" ;;
get) cat > /dev/null; cat "$0.kept" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
erase) cat > /dev/null; rm "$0.kept" ;;
esac
`
	if err := os.WriteFile(filepath.Join(helpers, "docker-credential-fruits"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", helpers+":"+os.Getenv("PATH"))
	for name, config := range map[string]string{
		"no file": "", "a file": `{"HttpHeaders":{"X":"y"}}`, "a helper": `{"credsStore":"fruits"}`,
	} {
		for kind, between := range map[string]func(http.ResponseWriter, *http.Request) bool{
			"basic": basic, "token": (&tokens{uses: 100}).between,
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				s := serve(t, between)
				dir := t.TempDir()
				path := filepath.Join(dir, "config.json")
				if config != "" {
					if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				c := &registry.Client{Credentials: registry.DockerConfig(dir)}
				wrong := registry.Credentials{Username: user, Password: "wrong"}
				if err := c.Login(t.Context(), dir, s.host, wrong); !errors.Is(err, registry.ErrDenied) {
					t.Errorf("a wrong password: %v", err)
				}
				mine := registry.Credentials{Username: user, Password: password}
				if err := c.Login(t.Context(), dir, s.host, mine); err != nil {
					t.Fatal(err)
				}
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if kept := strings.Contains(string(text), "bWU6cGFzczp3b3Jk"); kept == (name == "a helper") {
					t.Errorf("config.json is %s", text)
				}
				if name == "a file" && !strings.Contains(string(text), `"X": "y"`) {
					t.Errorf("config.json has lost what it had: %s", text)
				}
				if got, err := c.Credentials(s.host); err != nil || got != mine {
					t.Errorf("got credentials %v, %v", got, err)
				}
				if _, err := c.Pull(t.Context(), imagetest.Open(t), nil, s.host+"/x", registry.PullOptions{}); !errors.Is(err, registry.ErrNotFound) {
					t.Errorf("pull with them: %v", err)
				}
				if err := registry.Logout(dir, s.host); err != nil {
					t.Fatal(err)
				}
				if got, err := c.Credentials(s.host); err != nil || got != (registry.Credentials{}) {
					t.Errorf("got credentials %v, %v after logout", got, err)
				}
				if err := registry.Logout(dir, s.host); err == nil {
					t.Error("logout twice: no error")
				}
			})
		}
	}
}

// TestTLS has a registry with a certificate that an authority of our own vouches for.
func TestTLS(t *testing.T) {
	s := &server{}
	s.Server = httptest.NewTLSServer(s.handler())
	t.Cleanup(s.Close)
	plain := serve(t, nil)
	to := func(s *server) *registry.Client {
		c := client()
		c.CertDirs = []string{t.TempDir()}
		c.SetDial(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
		})
		return c
	}
	store, layers := imagetest.Open(t), &imagetest.Layers{}
	const name = "example.com:5000/fruits" // a name that the certificate of httptest is for
	fruits(t, store, layers, name)

	_, err := to(s).Push(t.Context(), store, name, registry.PushOptions{})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an authority that is unknown: %v", err)
	}
	_, err = to(plain).Push(t.Context(), store, name, registry.PushOptions{})
	if err == nil {
		t.Error("plain HTTP: no error")
	}
	c := to(s)
	dir := filepath.Join(c.CertDirs[0], "example.com:5000")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), authority, 0o600); err != nil {
		t.Fatal(err)
	}
	for name2, c := range map[string]*registry.Client{
		"with the authority": c, "insecure": insecure(to(s)), "plain, insecure": insecure(to(plain)),
	} {
		p, err := c.Push(t.Context(), store, name, registry.PushOptions{})
		if err != nil {
			t.Errorf("%s: %v", name2, err)
			continue
		}
		if _, err := c.Pull(t.Context(), imagetest.Open(t), &imagetest.Layers{}, name+"@"+p.Digest, registry.PullOptions{}); err != nil {
			t.Errorf("%s: %v", name2, err)
		}
	}
	// From HTTPS to plain HTTP nobody is sent, not even to where that would be allowed.
	s.put(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	_, err = c.Pull(t.Context(), imagetest.Open(t), &imagetest.Layers{}, name, registry.PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "HTTPS") {
		t.Errorf("redirected to plain HTTP: %v", err)
	}
}

func insecure(c *registry.Client) *registry.Client {
	c.Insecure = true
	return c
}
