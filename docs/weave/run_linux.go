package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// userID is the ordinary user's number in a session, and its group's.
const userID = 1000

// sessionFlags are those that weave run hands on to the session of each file.
func sessionFlags(fs *flag.FlagSet, s *session) {
	fs.BoolVar(&s.update, "update", false, "write the real output into the files")
	fs.BoolVar(&s.verbose, "v", false, "say which blocks are not run, and why")
	fs.DurationVar(&s.timeout, "timeout", 60*time.Second, "how long one command may take")
}

func runCommand(c *call) error {
	fs := flags("run")
	var s session
	sessionFlags(fs, &s)
	jobs := fs.Int("j", 1, "how many files to run at the same time")
	if err := c.parse(fs, 0, -1); err != nil {
		return err
	}
	if *jobs < 1 {
		return c.misuse("-j %d: at least one", *jobs)
	}
	r, err := openRepo(c.dir)
	if err != nil {
		return err
	}
	pages, err := r.pagesToRun(c)
	if err != nil {
		return err
	}
	if len(pages) == 0 {
		fmt.Fprintln(c.stdout, "no console blocks")
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("run makes namespaces and mounts, for which it must be root: " +
			"use make, or sudo")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	args := []string{fmt.Sprintf("-update=%t", s.update), fmt.Sprintf("-v=%t", s.verbose),
		"-timeout=" + s.timeout.String()}
	return r.runPages(ctx, c, pages, *jobs, args)
}

// pagesToRun are the pages with console blocks: those of the steps and the files that
// the user names, or all.
func (r *repo) pagesToRun(c *call) ([]*page, error) {
	var names []string
	for _, arg := range c.args {
		if strings.HasSuffix(arg, ".md") {
			file, err := r.relative(c.dir, arg)
			if err != nil {
				return nil, err
			}
			names = append(names, file)
			continue
		}
		s, err := r.step(arg)
		if err != nil {
			return nil, c.misuse("%v", err)
		}
		names = append(names, s.lesson())
	}
	if len(c.args) == 0 {
		names = r.markdown()
	}
	var pages []*page
	for _, name := range names {
		p, err := r.page(name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(p.fences, func(f fence) bool { return f.lang == "console" }) {
			pages = append(pages, p)
		}
	}
	return pages, nil
}

// relative is the path within the repository of a file that the user names.
func (r *repo) relative(dir, file string) (string, error) {
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	name, err := filepath.Rel(r.root, file)
	return filepath.ToSlash(name), err
}

// runPages runs the pages' sessions and prints what they say in the order of pages.
func (r *repo) runPages(ctx context.Context, c *call, pages []*page, jobs int,
	args []string) error {
	done := make([]chan error, len(pages))
	said := make([]bytes.Buffer, len(pages))
	slots := make(chan struct{}, jobs)
	var wait sync.WaitGroup
	defer wait.Wait()
	for i, p := range pages {
		done[i] = make(chan error, 1)
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			done[i] <- r.runPage(ctx, p, &said[i], args)
		})
	}
	var failed error
	for i := range pages {
		err := <-done[i]
		if _, err := said[i].WriteTo(c.stdout); err != nil {
			return err
		}
		failed = errors.Join(failed, err)
	}
	if errors.Is(failed, errProblems) {
		return errProblems
	}
	return failed
}

var stepPage = regexp.MustCompile(`^step(\d\d)\b`)

// scratchFor is the scratch folder of a page's session, not yet made. A page in a
// step's folder, or with its number as in solutions/step03.md, is about that step.
func (r *repo) scratchFor(p *page) *scratch {
	sc := &scratch{repo: r, step: r.stepOf(p.file), uid: userID, gid: userID}
	if m := stepPage.FindStringSubmatch(path.Base(p.file)); sc.step == nil && m != nil {
		sc.step, _ = r.step(m[1]) // nil if there is none
	}
	if sc.step == nil && len(r.steps) > 0 {
		sc.step, sc.general = r.steps[len(r.steps)-1], true
	}
	return sc
}

// runPage starts weave once more for the page, in a sandbox.
func (r *repo) runPage(ctx context.Context, p *page, out *bytes.Buffer, args []string) (err error) {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	sc := r.scratchFor(p)
	if sc.step == nil {
		return errors.New("there are no steps")
	}
	defer func() { err = errors.Join(err, sc.remove()) }()
	if err := sc.prepare(p.hasUser()); err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	args = append(append([]string{sessionVerb}, args...), sc.dir, p.file)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = "weave"
	cmd.Dir = r.root
	cmd.Env = set(os.Environ(), sc.caches()...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, new(*exec.ExitError)) {
		err = errProblems // it has said which
	}
	return errors.Join(err, sc.takeUpdate(p))
}

// takeUpdate writes the page as the session has left it, if it has left one.
func (s *scratch) takeUpdate(p *page) error {
	text, err := os.ReadFile(s.path(newPage))
	if notExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(s.repo.abs(p.file), text, 0o644)
}

// hasUser says whether the page has commands of an ordinary user.
func (p *page) hasUser() bool {
	blocks, _ := p.consoles() // their problems are told when they are run
	return slices.ContainsFunc(blocks, func(b console) bool {
		return slices.ContainsFunc(b.commands, func(c command) bool { return c.user })
	})
}
