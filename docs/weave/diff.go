package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func diffCommand(c *call) error {
	fs := flags("diff")
	color := fs.String("color", "auto", "colours: auto, always or never")
	if err := c.parse(fs, 1, 2); err != nil {
		return err
	}
	if !slices.Contains([]string{"auto", "always", "never"}, *color) {
		return c.misuse("-color is auto, always or never, not %q", *color)
	}
	r, err := openRepo(c.dir)
	if err != nil {
		return err
	}
	s, err := r.step(c.args[0])
	if err != nil {
		return c.misuse("%v", err)
	}
	out := diffPrinter{c.stdout, *color == "always" || (*color == "auto" && isTerminal(c.stdout))}
	if len(c.args) == 2 {
		return r.diffLearner(c, s, c.args[1], out)
	}
	diffs, err := r.diffs(s)
	if err != nil {
		return err
	}
	before := "nothing"
	if s.prev != nil {
		before = s.prev.name
	}
	out.print(before, s.name, diffs, ", gone")
	return nil
}

// diffLearner prints what a learner's folder has other than the step.
func (r *repo) diffLearner(c *call, s *step, dir string, out diffPrinter) error {
	folder := dir
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(c.dir, dir)
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return c.misuse("%q is not a folder", dir)
	}
	before, err := r.codeOf(s)
	if err != nil {
		return err
	}
	after, err := learnerCode(folder, dir, before)
	if err != nil {
		return err
	}
	diffs, err := diffSources(before, after)
	if err != nil {
		return err
	}
	out.print(s.name, dir, diffs, ", missing")
	return nil
}

// learnerCode reads the code in a learner's folder. Folders that the step does not
// have are left out: a root file system may lie there.
func learnerCode(folder, shown string, step map[string]*source) (map[string]*source, error) {
	folders := map[string]bool{".": true}
	for name := range step {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	found := map[string]*source{}
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && !folders[name]:
			return fs.SkipDir
		case !e.Type().IsRegular() || !isCode(name) || strings.HasPrefix(e.Name(), "."),
			name == "go.mod", name == "go.sum":
			return nil
		}
		src, err := readSource(filepath.Join(folder, name), filepath.ToSlash(shown)+"/"+name)
		if err != nil {
			return err
		}
		if src.text() {
			found[name] = src
		}
		return nil
	})
	return found, err
}

// diffPrinter prints diffs for a terminal.
type diffPrinter struct {
	out   io.Writer
	color bool
}

const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
)

func (p diffPrinter) line(color, text string) {
	if p.color && color != "" {
		text = color + text + "\x1b[0m"
	}
	fmt.Fprintln(p.out, text)
}

// print prints the diffs between two folders; a file that is not in the second is
// called what absent says.
func (p diffPrinter) print(before, after string, diffs []*fileDiff, absent string) {
	added, removed := 0, 0
	for _, d := range diffs {
		added += d.added
		removed += d.removed
	}
	if len(diffs) == 0 {
		p.line("", fmt.Sprintf("%s → %s: no difference", before, after))
		return
	}
	p.line(bold, fmt.Sprintf("%s → %s  %s", before, after, plusMinus(added, removed)))
	for _, d := range diffs {
		p.line("", "")
		name := d.name
		switch {
		case d.old == nil:
			name += ", new"
		case d.new == nil:
			name += absent
		}
		p.line(bold, name+"  "+d.size())
		if d.new == nil && absent == ", missing" {
			continue
		}
		for _, line := range d.hunkLines(d.hunks()) {
			p.line(lineColor(line), line)
		}
	}
}

func lineColor(line string) string {
	switch {
	case strings.HasPrefix(line, "@@ "):
		return cyan
	case strings.HasPrefix(line, "+"):
		return green
	case strings.HasPrefix(line, "-"):
		return red
	}
	return ""
}

// isTerminal says whether colours make sense there.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
