//go:build linux

package api

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"minidocker/final/engine"
)

// Config is how a daemon is run.
type Config struct {
	Options
	Hosts   []string // none: DefaultHost
	Group   string
	TLS     TLS
	Metrics string // ADDRESS:PORT of /metrics on this machine; "": nowhere
}

// Run serves the API until the context ends.
func Run(ctx context.Context, e *engine.Engine, c Config) error {
	if len(c.Hosts) == 0 {
		c.Hosts = []string{DefaultHost}
	}
	if c.Log == nil {
		c.Log = logrus.New()
	}
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for _, host := range c.Hosts {
		more, err := Listen(host, c.Group, c.TLS)
		if err != nil {
			return err
		}
		listeners = append(listeners, more...)
		c.Log.WithField("host", host).Info("listening")
	}
	s := New(e, c.Options)
	defer s.Close()
	go reap(ctx, e)
	server := newHTTP(s, c.Log)
	failed := make(chan error, len(listeners)+1)
	if c.Metrics != "" {
		l, err := listenMetrics(c.Metrics)
		if err != nil {
			return err
		}
		metrics := newHTTP(s.Metrics(), c.Log)
		defer func() { _ = metrics.Close() }() // nobody is left to be told
		go func() { failed <- metrics.Serve(l) }()
	}
	for _, l := range listeners {
		go func() { failed <- server.Serve(l) }()
	}
	ready()
	go begin(ctx, c.Log, e)
	select {
	case err := <-failed:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	c.Log.Info("ends; containers go on")
	// Those that are being answered have a moment; those that follow a log have no end.
	last, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(last) != nil {
		return server.Close()
	}
	return nil
}

func newHTTP(h http.Handler, l *logrus.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 1 << 20,
		ErrorLog: log.New(l.WriterLevel(logrus.DebugLevel), "", 0),
	}
}

// listenMetrics listens on this machine's own addresses alone, since nobody is asked who he is.
func listenMetrics(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--metrics %s: want an address of this machine alone, as 127.0.0.1:9323",
			address)
	}
	return net.Listen("tcp", address)
}

// reap waits for shims that have ended.
func reap(ctx context.Context, e *engine.Engine) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	for {
		select {
		case <-ctx.Done():
			return
		case <-children:
			e.Reap()
		}
	}
}

// begin puts in order what was left while no daemon was there, and starts what is to run whenever
// one is, beside the first requests.
func begin(ctx context.Context, l *logrus.Logger, e *engine.Engine) {
	if err := e.Sweep(); err != nil {
		l.WithError(err).Warn("tidy up")
	}
	if err := e.Boot(ctx); err != nil {
		l.WithError(err).Warn("start containers that are always to run")
	}
}

// ready tells systemd that the daemon answers: sd_notify(3).
func ready() {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }() // what was written has gone
	_, _ = c.Write([]byte("READY=1"))
	_ = os.Unsetenv("NOTIFY_SOCKET") // it is not for containers' shims
}
