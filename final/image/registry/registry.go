//go:build linux

// Package registry gets images from registries and puts them there: the OCI distribution
// specification, which grew out of Docker's registry API, version 2.
//
//	pull   GET  /v2/NAME/manifests/TAG      an index or a manifest: its digest is the image's name
//	       GET  /v2/NAME/blobs/DIGEST       its configuration and layers; Range: where it broke off
//	push   HEAD /v2/NAME/blobs/DIGEST       is it there already?
//	       POST /v2/NAME/blobs/uploads/     a place to upload to; or ?mount=DIGEST&from=NAME
//	       PATCH, PUT                       there, the bytes, and ?digest=DIGEST at the end
//	       PUT  /v2/NAME/manifests/TAG      last, so that what it names is there
//
// Nothing that a registry says is believed: all has a digest, up to the one that the user named or,
// with a tag, that came over a connection with a certificate. Plain HTTP, or a certificate that
// nobody vouches for, is taken from this machine's own addresses (as Docker does), and else only
// where the user asks for it.
//
// The handshake of authentication is go-containerregistry's. Fetching is not: it gives a layer as
// a whole or not at all, and here it goes on where it broke off, while it is being unpacked.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"minidocker/final/image"
)

// Errors of registries that callers tell apart.
var (
	// ErrNotFound: there is no such image, or one must log in to see it.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the credentials are not enough, or wrong.
	ErrDenied = errors.New("denied")
)

// Client speaks to registries. Its zero value does so as Docker does by default.
type Client struct {
	// Credentials are a registry's. nil: those in Docker's config.json, see DockerConfig.
	Credentials func(host string) (Credentials, error)
	// Insecure allows plain HTTP and certificates that nobody vouches for.
	Insecure bool
	// CertDirs have a folder HOST[:PORT] with certificates for a registry: *.crt of authorities,
	// and pairs of *.cert and *.key for the client. nil: those of Docker and of podman.
	CertDirs []string
	// UserAgent is what it calls itself; "" is minidocker.
	UserAgent string
	// Backoff is the time before the second try of what failed; it doubles. 0 is half a second.
	Backoff time.Duration
	// Stall is how long nothing may come before a connection is taken for dead. 0 is a minute.
	Stall time.Duration

	dial func(ctx context.Context, network, address string) (net.Conn, error) // of tests
}

// Credentials are a registry's. With a token, it is the one that a login was answered with.
type Credentials struct {
	Username, Password string
	IdentityToken      string // for a token server, in place of the password
	RegistryToken      string // for the registry itself
}

// repository is a repository in a registry, which we are logged in to.
type repository struct {
	client  *Client
	ref     image.Reference
	base    *url.URL // …/v2/NAME/
	http    *http.Client
	backoff time.Duration
	stall   time.Duration
}

// hubHost is where Docker Hub answers.
const hubHost = "registry-1.docker.io"

// host is the registry that a name speaks of.
func host(domain string) string {
	if domain == "docker.io" {
		return hubHost
	}
	return domain
}

// tries is how often something is tried that fails for a reason that may pass.
const tries = 5

// open logs in to a repository, to do there what scopes say: "pull", "push,pull". More are those
// of other repositories, to be mounted from.
func (c *Client) open(
	ctx context.Context, ref image.Reference, actions string, more ...string,
) (*repository, error) {
	scopes := append([]string{"repository:" + ref.Path + ":" + actions}, more...)
	t, base, err := c.login(ctx, ref.Domain, scopes)
	if err != nil {
		return nil, denied(ref, err)
	}
	r := &repository{client: c, ref: ref, base: base.JoinPath(ref.Path, "/")}
	r.http = &http.Client{Transport: t, CheckRedirect: checkRedirect}
	r.backoff, r.stall = c.times()
	return r, nil
}

func (c *Client) times() (backoff, stall time.Duration) {
	backoff, stall = c.Backoff, c.Stall
	if backoff == 0 {
		backoff = 500 * time.Millisecond
	}
	if stall == 0 {
		stall = time.Minute
	}
	return backoff, stall
}

// login does the handshake with a registry. The URL is that of its API, http or https.
func (c *Client) login(
	ctx context.Context, domain string, scopes []string,
) (http.RoundTripper, *url.URL, error) {
	credentials := c.Credentials
	if credentials == nil {
		credentials = DockerConfig("")
	}
	auth, err := credentials(domain)
	if err != nil {
		return nil, nil, fmt.Errorf("credentials for %s: %w", domain, err)
	}
	return c.loginAs(ctx, domain, auth, scopes)
}

func (c *Client) loginAs(
	ctx context.Context, domain string, auth Credentials, scopes []string,
) (http.RoundTripper, *url.URL, error) {
	inner, err := c.transport(host(domain))
	if err != nil {
		return nil, nil, err
	}
	var options []name.Option
	if inner.plain {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host(domain), options...)
	if err != nil {
		return nil, nil, err
	}
	t, err := transport.NewWithContext(ctx, registry, authenticator(auth), inner, scopes)
	if err != nil {
		return nil, nil, err
	}
	// The handshake has found out which it is; its transport sets it right for each request.
	scheme := "https"
	if inner.plain {
		scheme = "http"
	}
	return t, &url.URL{Scheme: scheme, Host: host(domain), Path: "/v2/"}, nil
}

func authenticator(c Credentials) authn.Authenticator {
	if c == (Credentials{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Username, Password: c.Password,
		IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	})
}

// checkRedirect follows a few redirects, none of them from HTTPS to plain HTTP.
func checkRedirect(to *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("the registry redirects in a ring")
	}
	if to.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https" {
		return fmt.Errorf("the registry redirects from HTTPS to %s://%s: refused",
			to.URL.Scheme, to.URL.Host)
	}
	return nil
}

// do sends a request and looks at the status, which must be one of those that are wanted.
func (r *repository) do(request *http.Request, want ...int) (*http.Response, error) {
	response, err := r.http.Do(request)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(response, want...); err != nil {
		response.Body.Close()
		return nil, err
	}
	return response, nil
}

// request is one below the repository's URL.
func (r *repository) request(
	ctx context.Context, method, path string, body io.Reader,
) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, r.base.String()+path, body)
}

// status is the HTTP status that an error is about, or 0.
func status(err error) int {
	var e *transport.Error
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

// denied says what an error about a whole repository means.
func denied(ref image.Reference, err error) error {
	switch status(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("access to %s is %w: there is no such repository, or it needs "+
			"minidocker login %s: %w", ref.FamiliarName(), ErrDenied, loginName(ref.Domain), err)
	case http.StatusNotFound:
		return fmt.Errorf("%s %w: %w", ref.Familiar(), ErrNotFound, err)
	}
	return err
}

// loginName is what the user gives to login: nothing for Docker Hub.
func loginName(domain string) string {
	if domain == "docker.io" {
		return ""
	}
	return domain
}

// location is where a response says that one is to go on. It may be relative.
func location(response *http.Response) (*url.URL, error) {
	text := response.Header.Get("Location")
	if text == "" {
		return nil, fmt.Errorf("%s %s: the registry does not say where to go on",
			response.Request.Method, response.Request.URL.Redacted())
	}
	u, err := response.Request.URL.Parse(text)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(u.Scheme, "http") {
		return nil, fmt.Errorf("the registry sends us to %q", text)
	}
	return u, nil
}
