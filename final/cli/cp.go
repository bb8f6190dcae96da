//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"minidocker/final/storage/archive"

	"minidocker/final/engine"
)

func cpCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "cp", Usage: "Copy files between a container and the file system here",
		ArgsUsage:   "CONTAINER:SRC_PATH|SRC_PATH|- CONTAINER:DEST_PATH|DEST_PATH|-",
		Description: "cp web:/etc/hosts .\ncp site/. web:/www\ncp web:/www - | tar t",
		Flags: []cli.Flag{
			Toggle("archive a", "Keep owners (default: root in the container, you here)"),
			Toggle("follow-link L", "Copy what a link in SRC_PATH points to"),
			Toggle("quiet q", "Don't say what was copied"),
		},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 2); err != nil {
				return err
			}
			return c.cp(ctx)
		},
	}
}

func (c *CLI) cp(ctx *cli.Context) error {
	from, source := cutContainer(ctx.Args().Get(0))
	to, target := cutContainer(ctx.Args().Get(1))
	if from != "" && to != "" {
		return errors.New("copying between containers is not supported: " +
			"use cp web:/x - | minidocker cp - db:/")
	}
	if from == "" && to == "" {
		return errors.New("must specify at least one container source")
	}
	if source == "" || target == "" {
		return errors.New("neither SRC_PATH nor DEST_PATH may be empty")
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	t := &transfer{CLI: c, ctx: ctx, engine: e, counter: &counter{}}
	if from != "" {
		err = t.fromContainer(from, source, target)
	} else {
		err = t.toContainer(source, to, target)
	}
	if err == nil && !ctx.Bool("quiet") && terminal(c.Err) >= 0 && source != "-" && target != "-" {
		fmt.Fprintf(c.Err, "Successfully copied %s to %s\n", size(t.n), ctx.Args().Get(1))
	}
	return err
}

// cutContainer cuts CONTAINER:PATH; a path here begins with / or . or has no colon.
func cutContainer(s string) (ref, path string) {
	ref, path, ok := strings.Cut(s, ":")
	if !ok || strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") || strings.Contains(ref, "/") {
		return "", s
	}
	return ref, path
}

// transfer is one cp.
type transfer struct {
	*CLI
	*counter
	ctx    *cli.Context
	engine Engine
}

// place is a path as the rules of cp see it, on either side.
type place struct {
	path     string
	contents bool // it ends with /. : what is in it
	slash    bool // it ends with / : it must be a folder
	exists   bool
	folder   bool
}

func newPlace(p string) place {
	return place{
		path: path.Clean(p), slash: strings.HasSuffix(p, "/"),
		contents: path.Base(p) == "." && path.Clean(p) != "/" || strings.HasSuffix(p, "/."),
	}
}

// settle finds the folder that files go to and what the topmost of them is called there: cp's
// rules, which are those of cp -r but for /. at the end of the source.
func settle(source, target place) (dir, name string, err error) {
	switch {
	case !target.exists && target.slash && !source.folder:
		return "", "", fmt.Errorf("copy to %q: no such directory", target.path)
	case target.exists && !target.folder && (source.folder || target.slash):
		return "", "", fmt.Errorf("copy a folder to %q: cannot copy to a file", target.path)
	case target.exists && target.folder && !source.contents:
		return target.path, path.Base(source.path), nil
	}
	// The target itself is made, written over, or filled.
	if target.path == "/" {
		return "/", ".", nil
	}
	return path.Dir(target.path), path.Base(target.path), nil
}

func (t *transfer) fromContainer(ref, source, target string) error {
	if t.ctx.Bool("follow-link") {
		stat, err := t.engine.StatPath(t.ctx.Context, ref, source)
		if err != nil {
			return err
		}
		if stat.Mode&os.ModeSymlink != 0 {
			source = resolve(source, stat.LinkTarget)
		}
	}
	tar, stat, err := t.engine.CopyFrom(t.ctx.Context, ref, source)
	if err != nil {
		return err
	}
	defer tar.Close()
	if target == "-" {
		if terminal(t.Out) >= 0 {
			return errors.New("refusing to copy to a terminal: redirect, as in … - > files.tar")
		}
		_, err := io.Copy(t.Out, tar)
		return err
	}
	from := newPlace(source)
	from.folder, from.exists = stat.Mode.IsDir(), true
	if from.path == "/" { // it has no name
		from.contents = true
	}
	abs, err := filepath.Abs(target)
	if err != nil {
		return fmt.Errorf("make %q absolute: %w", target, err)
	}
	to := newPlace(target)
	to.path = abs
	if info, err := os.Stat(abs); err == nil {
		to.exists, to.folder = true, info.IsDir()
	}
	return t.unpack(tar, from, to)
}

func (t *transfer) unpack(tar io.Reader, from, to place) error {
	dir, name, err := settle(from, to)
	if err != nil {
		return err
	}
	root, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("copy to %q: %w", to.path, err)
	}
	defer root.Close()
	renamed := rename(io.TeeReader(tar, t.counter), name)
	defer renamed.Close()
	o := archive.UnpackOptions{}
	if !t.ctx.Bool("archive") {
		o.Owner = &archive.Owner{UID: os.Geteuid(), GID: os.Getegid()}
	}
	_, err = archive.Unpack(t.ctx.Context, root, renamed, o)
	return err
}

func (t *transfer) toContainer(source, ref, target string) error {
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	o := engine.CopyOptions{CopyUIDGID: t.ctx.Bool("archive")}
	if source == "-" {
		return t.engine.CopyTo(t.ctx.Context, ref, target, t.In, o)
	}
	to, err := t.targetIn(ref, target)
	if err != nil {
		return err
	}
	local, from, err := t.sourceHere(source)
	if err != nil {
		return err
	}
	dir, name, err := settle(from, to)
	if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(local))
	if err != nil {
		return err
	}
	defer parent.Close()
	r, w := io.Pipe()
	defer func() { _ = r.Close() }()
	go func() {
		options := archive.PackOptions{Exact: true}
		if !o.CopyUIDGID {
			options.Owner = &archive.Owner{}
		}
		base := filepath.Base(local)
		err := archive.PackAt(t.ctx.Context, io.MultiWriter(w, t.counter), parent, base, name, options)
		w.CloseWithError(err)
	}()
	return t.engine.CopyTo(t.ctx.Context, ref, dir, r, o)
}

// targetIn asks what is at a path in a container; where a link is, what it points to.
func (t *transfer) targetIn(ref, target string) (place, error) {
	to := newPlace(target)
	stat, err := t.engine.StatPath(t.ctx.Context, ref, target)
	if err != nil && !notFound(err) {
		return to, err
	}
	if err == nil && stat.Mode&os.ModeSymlink != 0 {
		slash := to.slash
		to = newPlace(resolve(target, stat.LinkTarget))
		to.slash = slash
		stat, err = t.engine.StatPath(t.ctx.Context, ref, to.path)
		if err != nil && !notFound(err) {
			return to, err
		}
	}
	to.exists = err == nil
	to.folder = to.exists && stat.Mode.IsDir()
	return to, nil
}

// sourceHere looks at what is to be copied; the file is named so that it has a name: not ".".
func (t *transfer) sourceHere(source string) (file string, from place, err error) {
	from = newPlace(source)
	file, err = filepath.Abs(source)
	if err != nil {
		return "", from, fmt.Errorf("make %q absolute: %w", source, err)
	}
	info, err := os.Lstat(file)
	if err == nil && info.Mode()&os.ModeSymlink != 0 &&
		(t.ctx.Bool("follow-link") || from.slash || from.contents) {
		if file, err = filepath.EvalSymlinks(file); err == nil {
			info, err = os.Stat(file)
		}
	}
	if err != nil {
		return "", from, err
	}
	if from.slash && !info.IsDir() {
		return "", from, fmt.Errorf("copy %q: not a directory", source)
	}
	from.folder, from.exists = info.IsDir(), true
	if !from.contents {
		from.path = filepath.ToSlash(filepath.Clean(file))
		if abs, err := filepath.Abs(source); err == nil {
			from.path = abs
		}
	}
	return file, from, nil
}

// resolve is where a link at a path points to.
func resolve(at, link string) string {
	if path.IsAbs(link) {
		return link
	}
	return path.Join(path.Dir(path.Clean(at)), link)
}
