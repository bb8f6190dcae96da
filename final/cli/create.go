//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"

	"minidocker/final/cli/request"
	"minidocker/final/engine"
)

func createCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "Create a new container", ArgsUsage: "IMAGE [COMMAND] [ARG...]",
		Description: "create --name web -p 8080:80 busybox httpd -f",
		Flags:       containerFlags(),
		Action: func(ctx *cli.Context) error {
			r, err := c.parseContainer(ctx)
			if err != nil {
				return &Status{Code: statusUsage, Err: err}
			}
			id, err := c.create(ctx, r)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, id)
			return nil
		},
	}
}

func (c *CLI) parseContainer(ctx *cli.Context) (*request.Container, error) {
	if ctx.NArg() == 0 {
		return nil, AtLeast(ctx, 1)
	}
	switch pull := ctx.String("pull"); pull {
	case "", "missing", "always", "never":
	default:
		return nil, fmt.Errorf(
			"invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", pull)
	}
	r, err := request.Parse(ctx, ctx.Args().First(), ctx.Args().Tail())
	if err != nil {
		return nil, err
	}
	if r.Config.Tty {
		if rows, columns := c.size(); rows > 0 {
			r.HostConfig.ConsoleSize = [2]uint{uint(rows), uint(columns)}
		}
	}
	return r, nil
}

// create makes a container and pulls its image if need be.
func (c *CLI) create(ctx *cli.Context, r *request.Container) (id string, err error) {
	e, err := c.Engine()
	if err != nil {
		return "", err
	}
	idFile, err := reserve(r.HostConfig.ContainerIDFile)
	if err != nil {
		return "", err
	}
	defer func() {
		if idFile != nil {
			err = errors.Join(err, idFile.write(id))
		}
	}()
	image, platform, quiet := r.Config.Image, ctx.String("platform"), ctx.Bool("quiet")
	policy := ctx.String("pull")
	if policy == "always" {
		if err := c.pull(ctx.Context, image, platform, quiet); err != nil {
			return "", err
		}
	}
	o := engine.CreateOptions{
		Name: ctx.String("name"), Config: r.Config, HostConfig: r.HostConfig,
		Networking: r.Networking, Platform: platform, Start: ctx.Command.Name == "run",
	}
	created, err := e.Create(ctx.Context, o)
	if err != nil && notFound(err) && strings.Contains(err.Error(), "image") &&
		(policy == "" || policy == "missing") {
		if !quiet {
			fmt.Fprintf(c.Err, "Unable to find image '%s' locally\n", tagged(image))
		}
		if err := c.pull(ctx.Context, image, platform, quiet); err != nil {
			return "", err
		}
		created, err = e.Create(ctx.Context, o)
	}
	for _, w := range created.Warnings {
		fmt.Fprintln(c.Err, "WARNING:", w)
	}
	return created.ID, err
}

// tagged adds the tag that is meant when none is given.
func tagged(image string) string {
	if name := image[strings.LastIndexByte(image, '/')+1:]; strings.ContainsAny(name, ":@") {
		return image
	}
	return image + ":latest"
}

// pull lets minidockerd pull. Its results are no result of ours: they go to the standard error.
func (c *CLI) pull(ctx context.Context, image, platform string, quiet bool) error {
	if c.Pull != nil {
		return c.Pull(ctx, image, platform, quiet)
	}
	program, err := Minidockerd()
	if err != nil {
		return err
	}
	args := c.Globals.args()
	args = append(args, "pull")
	if platform != "" {
		args = append(args, "--platform="+platform)
	}
	if quiet {
		args = append(args, "--quiet")
	}
	command := exec.CommandContext(ctx, program, append(args, "--", tagged(image))...)
	command.Args[0] = c.Name
	command.Stdout, command.Stderr = c.Err, c.Err
	if err := command.Run(); err != nil {
		var status *exec.ExitError
		if errors.As(err, &status) && status.Exited() {
			return &Status{Code: statusUsage} // it has said why
		}
		return fmt.Errorf("execute %q: %w", program, err)
	}
	return nil
}

// args are the words that give another program the same options.
func (g Globals) args() []string {
	var args []string
	for _, o := range [][2]string{
		{"root", g.Root}, {"run", g.Run}, {"storage-driver", g.Driver}, {"config", g.Config},
	} {
		if o[1] != "" {
			args = append(args, "--"+o[0]+"="+o[1])
		}
	}
	return args
}

// idFile is --cidfile. It is made before the container, so that no container is without it.
type idFile struct{ *os.File }

func reserve(name string) (*idFile, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't "+
			"running or delete %s", name)
	}
	if err != nil {
		return nil, fmt.Errorf("create the container ID file: %w", err)
	}
	return &idFile{f}, nil
}

// write writes the ID; without one there is no file.
func (f *idFile) write(id string) error {
	defer f.Close()
	if id == "" {
		return os.Remove(f.Name())
	}
	_, err := f.WriteString(id)
	return err
}
