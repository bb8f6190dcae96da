//go:build linux

package heavy

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"minidocker/final/api"
	"minidocker/final/build"
	mdcli "minidocker/final/cli"
	"minidocker/final/engine/transfer"
	"minidocker/final/image/registry"
)

func daemonCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "daemon", Usage: "Serve the Docker Engine API on a socket",
		Description: "daemon -H unix:///run/minidocker.sock",
		Flags: []cli.Flag{
			mdcli.List("host H", "unix:///PATH, tcp://ADDRESS:PORT or fd:// (default "+
				api.DefaultHost+")"),
			mdcli.Text("group G", "Group that may use the unix socket (default docker, if there is one)"),
			mdcli.Text("tlscacert", "Certificate of who vouches for clients (default ~/.docker/ca.pem)"),
			mdcli.Text("tlscert", "Certificate of this daemon (default ~/.docker/cert.pem)"),
			mdcli.Text("tlskey", "Its key (default ~/.docker/key.pem)"),
			mdcli.Toggle("tlsverify", "For Docker's sake: it is always so"),
			mdcli.Text("metrics", "Address for Prometheus (127.0.0.1:9323)"),
			mdcli.Text("log-format", "text or json (default text)"),
			mdcli.Text("log-level", "debug, info, warn or error (default info)"),
			mdcli.Toggle("insecure", "Allow registries with HTTP, or certificates that nobody vouches for"),
		},
		Action: func(ctx *cli.Context) error { return daemon(c, ctx) },
	}
}

func daemon(c *mdcli.CLI, ctx *cli.Context) error {
	if err := mdcli.Exactly(ctx, 0); err != nil {
		return err
	}
	log, err := logger(c, ctx)
	if err != nil {
		return err
	}
	e, err := open(c)
	if err != nil {
		return err
	}
	// It stays for long, and is idle for most of that.
	debug.SetGCPercent(50)
	until, stop := signal.NotifyContext(ctx.Context, unix.SIGINT, unix.SIGTERM)
	defer stop()
	return api.Run(until, e, api.Config{
		Hosts: ctx.StringSlice("host"), Group: ctx.String("group"), Metrics: ctx.String("metrics"),
		TLS: api.TLS{CA: certificate(c, ctx, "tlscacert", "ca.pem"),
			Cert: certificate(c, ctx, "tlscert", "cert.pem"),
			Key:  certificate(c, ctx, "tlskey", "key.pem")},
		Options: api.Options{Log: log, Insecure: ctx.Bool("insecure"),
			Build: func(credentials func(string) (registry.Credentials, error)) http.Handler {
				return build.Handler(e, transfer.PullOptions{Credentials: credentials,
					Insecure: ctx.Bool("insecure")})
			},
			PruneBuild: func(ctx context.Context) (int64, error) { return build.Prune(ctx, e) }},
	})
}

// certificate is the file of a flag, or where docker looks for it; "" if it is in neither place.
func certificate(c *mdcli.CLI, ctx *cli.Context, flag, name string) string {
	if path := ctx.String(flag); path != "" {
		return path
	}
	dir := c.Globals.Config
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func logger(c *mdcli.CLI, ctx *cli.Context) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(c.Err)
	if ctx.String("log-format") == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	if level := ctx.String("log-level"); level != "" {
		l, err := logrus.ParseLevel(level)
		if err != nil {
			return nil, err
		}
		log.SetLevel(l)
	}
	if c.Globals.Debug {
		log.SetLevel(logrus.DebugLevel)
	}
	return log, nil
}
