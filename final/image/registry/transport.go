//go:build linux

package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a connection to a registry, and to where that sends us: it tries again what may pass,
// and refuses plain HTTP.
type wire struct {
	inner     *http.Transport
	plain     bool // HTTP is possible at all
	anywhere  bool // also to other hosts
	host      string
	userAgent string
	backoff   time.Duration
}

func (c *Client) transport(host string) (*wire, error) {
	backoff, _ := c.times()
	dial := c.dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	w := &wire{
		plain: c.Insecure || isLoopback(host), anywhere: c.Insecure, host: host,
		userAgent: cmp.Or(c.UserAgent, "minidocker"), backoff: backoff,
	}
	config, err := c.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	config.InsecureSkipVerify = w.plain
	w.inner = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 5 * time.Minute, // a registry that moves a large layer takes its time
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // digests are of the bytes as they are stored
	}
	return w, nil
}

// isLoopback says whether a host is this machine by its own name for itself.
func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.Trim(hostPort, "[]")
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// certDirs are where Docker and podman have certificates.
var certDirs = []string{"/etc/minidocker/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"}

// tlsConfig has the certificates that are for this registry, besides the system's.
func (c *Client) tlsConfig(host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	dirs := c.CertDirs
	if dirs == nil {
		dirs = certDirs
	}
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if err := addCertificate(config, filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return config, nil
}

func addCertificate(config *tls.Config, path string) error {
	base, isClient := strings.CutSuffix(path, ".cert")
	switch {
	case strings.HasSuffix(path, ".crt"):
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if config.RootCAs == nil {
			if config.RootCAs, err = x509.SystemCertPool(); err != nil {
				config.RootCAs = x509.NewCertPool()
			}
		}
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("certificate %q: there is none in it", path)
		}
	case isClient:
		pair, err := tls.LoadX509KeyPair(path, base+".key")
		if err != nil {
			return fmt.Errorf("certificate %q and key %q: %w", path, base+".key", err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	return nil
}

// RoundTrip sends a request. One that has no body and changes nothing is sent again if it fails
// for a reason that may pass.
func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	if s := request.URL.Scheme; s != "https" && s != "http" {
		return nil, fmt.Errorf("the registry sends us to %q", request.URL)
	}
	if request.URL.Scheme != "https" && !w.mayBePlain(request.URL.Host) {
		return nil, fmt.Errorf("%s speaks plain HTTP, which anybody on the way can read and "+
			"change: --insecure allows that", request.URL.Host)
	}
	if request.GetBody != nil {
		// The handshake above sends a request again whose token has expired, with its body read.
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		request = request.Clone(request.Context())
		request.Body = body
	}
	request.Header.Set("User-Agent", w.userAgent)
	again := request.Body == nil &&
		(request.Method == http.MethodGet || request.Method == http.MethodHead)
	for try := 1; ; try++ {
		response, err := w.inner.RoundTrip(request)
		if !again || try == tries || !mayPass(response, err) {
			return response, err
		}
		wait := w.wait(try)
		if response != nil {
			wait = max(wait, retryAfter(response))
			_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // to use it again
			response.Body.Close()
		}
		if err := sleep(request.Context(), wait); err != nil {
			return nil, err
		}
	}
}

func (w *wire) mayBePlain(host string) bool {
	return w.anywhere || w.plain && (host == w.host || isLoopback(host))
}

// mayPass says whether it may go well when it is tried again.
func mayPass(response *http.Response, err error) bool {
	if err != nil {
		return mayPassError(err)
	}
	switch response.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// mayPassError knows the errors of connections that break. Not those of one that there is none
// of: nobody waits for a name that does not exist, or for a certificate to become right.
func mayPassError(err error) bool {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE),
		errors.Is(err, net.ErrClosed), errors.Is(err, errStalled):
		return true
	case errors.As(err, &timeout) && timeout.Timeout():
		return true
	}
	text := err.Error() // which net/http has no type for
	return strings.Contains(text, "http2: ") || strings.Contains(text, "server closed idle") ||
		strings.Contains(text, "stream error")
}

// errForGood is an error that another try cannot mend.
var errForGood = errors.New("giving up")

// worth says whether it may go well when it is tried again, by somebody who has spoken to the
// registry before: then every broken connection may be made anew, and a token that has expired
// is.
func worth(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, errForGood) {
		return false
	}
	s := status(err)
	return s == 0 || s == http.StatusUnauthorized || mayPass(&http.Response{StatusCode: s}, nil)
}

// wait is the time before the next try: it doubles, and is not the same for all who wait.
func (w *wire) wait(try int) time.Duration { return backoff(w.backoff, try) }

func backoff(first time.Duration, try int) time.Duration {
	d := first << (try - 1)
	return d + rand.N(d/2+1)
}

// retryAfter is what the registry asks for, within reason.
func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Minute)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
