package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func forwardCommand(c *call) error {
	fs := flags("forward")
	base := fs.String("base", "HEAD", "the revision since which the step's changes are carried")
	if err := c.parse(fs, 1, 1); err != nil {
		return err
	}
	r, err := openRepo(c.dir)
	if err != nil {
		return err
	}
	s, err := r.step(c.args[0])
	if err != nil {
		return c.misuse("%v", err)
	}
	f := &forward{repo: r, out: c, written: map[string][]string{}}
	if err := f.run(s, *base); err != nil {
		return err
	}
	f.summary(s)
	if f.conflicts > 0 {
		return errProblems
	}
	return nil
}

// forward carries the changes of a step to the later steps.
type forward struct {
	repo      *repo
	out       *call
	written   map[string][]string // what was changed, by step
	conflicts int
}

// state is what a file holds; nil if there is no such file.
type state []byte

func same(a, b state) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func (f *forward) run(s *step, rev string) error {
	before, err := f.repo.codeAt(s, rev)
	if err != nil {
		return err
	}
	names, err := f.repo.code(s)
	if err != nil {
		return err
	}
	for name := range before {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		now, err := f.read(s, name)
		if err != nil {
			return err
		}
		if err := f.carry(s, name, before[name], now); err != nil {
			return err
		}
	}
	return nil
}

// codeAt is the step's code at a revision, by name.
func (r *repo) codeAt(s *step, rev string) (map[string]state, error) {
	list, _, err := git(r.root, 0, "ls-tree", "-r", "-z", "--name-only", rev, "--", s.name+"/")
	if err != nil {
		return nil, err
	}
	code := map[string]state{}
	for _, file := range strings.Split(list, "\x00") {
		name := strings.TrimPrefix(file, s.name+"/")
		if file == "" || !isCode(name) {
			continue
		}
		text, _, err := git(r.root, 0, "show", rev+":./"+file)
		if err != nil {
			return nil, err
		}
		code[name] = state(text)
	}
	if len(code) == 0 {
		return nil, fmt.Errorf("%s is not in %s: there is nothing to compare with", s.name, rev)
	}
	return code, nil
}

func (f *forward) read(s *step, name string) (state, error) {
	data, err := os.ReadFile(f.repo.abs(path.Join(s.name, name)))
	if notExist(err) {
		return nil, nil
	}
	if data == nil && err == nil {
		data = []byte{}
	}
	return data, err
}

// carry takes what changed in a file of the step to the steps after it, each time from
// one to the next, as far as it goes.
func (f *forward) carry(s *step, name string, base, theirs state) error {
	for next := f.after(s); next != nil && !same(base, theirs); next = f.after(next) {
		ours, err := f.read(next, name)
		if err != nil {
			return err
		}
		merged, conflict, err := f.merge(next, name, base, ours, theirs)
		if err != nil {
			return err
		}
		if conflict != nil {
			f.conflicts++
			fmt.Fprintf(f.out.stderr, "%s/%s: conflict\n", next.name, name)
			for _, line := range conflict {
				fmt.Fprintln(f.out.stderr, strings.TrimRight("    "+line, " \t"))
			}
			return nil
		}
		if !same(ours, merged) {
			if err := f.write(next, name, merged); err != nil {
				return err
			}
		}
		base, theirs = ours, merged
	}
	return nil
}

func (f *forward) after(s *step) *step {
	for _, next := range f.repo.steps {
		if next.prev == s {
			return next
		}
	}
	return nil
}

// merge finds what the file of the next step becomes, or says what is in the way.
func (f *forward) merge(next *step, name string, base, ours, theirs state) (
	merged state, conflict []string, err error) {
	switch {
	case same(ours, base) || same(ours, theirs):
		return theirs, nil, nil
	case theirs == nil && ours == nil:
		return nil, nil, nil
	case theirs == nil:
		return nil, []string{"deleted in the step before, and with changes of its own here"}, nil
	case base == nil:
		return nil, []string{"new in the step before, and another file of that name here"}, nil
	case ours == nil: // this step has given the file up
		return nil, nil, nil
	}
	return f.mergeText(next, name, base, ours, theirs)
}

// mergeText is a three-way merge by git.
func (f *forward) mergeText(next *step, name string, base, ours, theirs state) (
	merged state, conflict []string, err error) {
	dir, err := os.MkdirTemp("", "weave-forward-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	for file, text := range map[string]state{"base": base, "ours": ours, "theirs": theirs} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return nil, nil, err
		}
	}
	// Up to 127 the status is the number of conflicts.
	text, conflicts, err := git(dir, 127, "merge-file", "-p", "-L", next.name, "-L", "before",
		"-L", next.prev.name+", changed", "ours", "base", "theirs")
	if err != nil {
		return nil, nil, fmt.Errorf("%s/%s: %w", next.name, name, err)
	}
	if conflicts > 0 {
		return nil, conflictParts(text), nil
	}
	return state(text), nil, nil
}

// conflictParts are the parts of a merged text between git's markers.
func conflictParts(text string) []string {
	var parts []string
	inside := false
	for _, line := range splitLines(text) {
		if strings.HasPrefix(line, "<<<<<<< ") {
			inside = true
		}
		if inside {
			parts = append(parts, line)
		}
		if strings.HasPrefix(line, ">>>>>>> ") {
			inside = false
		}
	}
	return parts
}

// write makes the file what it should be, and notes it for the summary.
func (f *forward) write(s *step, name string, text state) error {
	file := f.repo.abs(path.Join(s.name, name))
	verb := ""
	if text == nil {
		verb = " (deleted)"
		if err := os.Remove(file); err != nil {
			return err
		}
	} else {
		if _, err := os.Stat(file); err != nil {
			verb = " (new)"
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	f.written[s.name] = append(f.written[s.name], name+verb)
	return nil
}

func (f *forward) summary(s *step) {
	if len(f.written) == 0 {
		fmt.Fprintf(f.out.stdout, "%s: nothing to carry\n", s.name)
	}
	for _, name := range slices.Sorted(maps.Keys(f.written)) {
		fmt.Fprintf(f.out.stdout, "%s: %s\n", name, strings.Join(f.written[name], ", "))
	}
}
