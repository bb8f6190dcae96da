//go:build linux

package heavy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	mdcli "minidocker/final/cli"
	"minidocker/final/engine/transfer"
	"minidocker/final/image/registry"
)

func loginCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "login", Usage: "Log in to a registry", ArgsUsage: "[SERVER]",
		Description: "login -u me registry.example",
		Flags: []cli.Flag{
			mdcli.Text("password p", "Password; others can see it in the list of processes"),
			mdcli.Toggle("password-stdin", "Take the password from STDIN"),
			mdcli.Text("username u", "User name"),
		},
		Action: func(ctx *cli.Context) error { return login(c, ctx) },
	}
}

func login(c *mdcli.CLI, ctx *cli.Context) error {
	if ctx.NArg() > 1 {
		return mdcli.Exactly(ctx, 1)
	}
	server := transfer.Domain(ctx.Args().First())
	auth := registry.Credentials{Username: ctx.String("username"), Password: ctx.String("password")}
	switch {
	case ctx.Bool("password-stdin") && auth.Password != "":
		return errors.New("--password and --password-stdin are mutually exclusive")
	case ctx.Bool("password-stdin") && auth.Username == "":
		return errors.New("the --password-stdin option requires --username")
	case auth.Password != "":
		fmt.Fprintln(c.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	case ctx.Bool("password-stdin"):
		content, err := io.ReadAll(c.In)
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		auth.Password = strings.TrimRight(string(content), "\r\n")
	}
	if err := ask(c, server, &auth); err != nil {
		return err
	}
	if err := transfer.Login(ctx.Context, c.Globals.Config, server, auth); err != nil {
		return err
	}
	fmt.Fprintln(c.Out, "Login Succeeded")
	return nil
}

// ask asks for what is missing. The name that was kept is the default.
func ask(c *mdcli.CLI, server string, auth *registry.Credentials) error {
	if auth.Username != "" && auth.Password != "" {
		return nil
	}
	in, ok := c.In.(*os.File)
	if !ok || !mdcli.IsTerminal(in) {
		return errors.New("cannot perform an interactive login from a non TTY device: " +
			"give --username and --password-stdin")
	}
	if auth.Username == "" {
		known, _ := transfer.Known(c.Globals.Config, server) // none is no hindrance
		prompt := "Username: "
		if known.Username != "" {
			prompt = fmt.Sprintf("Username (%s): ", known.Username)
		}
		fmt.Fprint(c.Err, prompt)
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return fmt.Errorf("read the user name: %w", err)
		}
		if auth.Username = strings.TrimSpace(line); auth.Username == "" {
			auth.Username = known.Username
		}
	}
	if auth.Password == "" {
		fmt.Fprint(c.Err, "Password: ")
		password, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(c.Err)
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		auth.Password = string(password)
	}
	if auth.Username == "" || auth.Password == "" {
		return errors.New("username and password are required")
	}
	return nil
}

func logoutCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "logout", Usage: "Log out from a registry", ArgsUsage: "[SERVER]",
		Description: "logout registry.example",
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() > 1 {
				return mdcli.Exactly(ctx, 1)
			}
			server := transfer.Domain(ctx.Args().First())
			shown := server
			if shown == "" {
				shown = "docker.io"
			}
			fmt.Fprintln(c.Out, "Removing login credentials for", shown)
			if err := transfer.Logout(c.Globals.Config, server); err != nil {
				fmt.Fprintf(c.Err, "%s: %v\n", c.Name, err) // logged out it is, as Docker has it
			}
			return nil
		},
	}
}

func searchCommand(c *mdcli.CLI) *cli.Command {
	return &cli.Command{
		Name: "search", Usage: "Search Docker Hub, or REGISTRY/TERM, for images",
		ArgsUsage: "TERM", Description: "search --limit 5 redis",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "limit", Usage: "At most so many (default 25)"},
			mdcli.Toggle("no-trunc", "Don't truncate output"),
			mdcli.Text("format", `"table", "table TEMPLATE", "json" or a Go template`),
		},
		Action: func(ctx *cli.Context) error {
			if err := mdcli.Exactly(ctx, 1); err != nil {
				return err
			}
			limit := ctx.Int("limit")
			if limit == 0 {
				limit = 25
			}
			found, err := transfer.Search(ctx.Context, ctx.Args().First(), limit,
				transfer.PullOptions{Config: c.Globals.Config})
			if err != nil {
				return err
			}
			rows := make([]foundRow, len(found))
			for i, f := range found {
				rows[i] = newFoundRow(f, ctx.Bool("no-trunc"))
			}
			return mdcli.Print(c.Out, ctx.String("format"),
				"{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
				foundRow{"DESCRIPTION", "OFFICIAL", "NAME", "STARS"}, rows)
		},
	}
}

// foundRow is a line of search.
type foundRow struct{ Description, IsOfficial, Name, StarCount string }

func newFoundRow(f registry.Found, long bool) foundRow {
	row := foundRow{
		Description: strings.Join(strings.Fields(f.Description), " "), Name: f.Name,
		StarCount: fmt.Sprint(f.Stars),
	}
	if r := []rune(row.Description); len(r) > 45 && !long {
		row.Description = string(r[:44]) + "…"
	}
	if f.Official {
		row.IsOfficial = "[OK]"
	}
	return row
}
