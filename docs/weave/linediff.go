package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// op is a line of a diff.
type op struct {
	kind     byte // ' ', '-' or '+'
	old, new int  // the line's number in the old and in the new file; 0 where it is not
	text     string
}

func (o op) changed() bool { return o.kind != ' ' }
func (o op) blank() bool   { return strings.TrimSpace(o.text) == "" }

func (o op) String() string { return strings.TrimRight(string(o.kind)+o.text, " \t\r") }

// fileDiff is the difference between two states of a file.
type fileDiff struct {
	name           string  // within the step's folder
	old, new       *source // nil where the file does not exist; not both
	ops            []op    // the whole file
	added, removed int     // as git diff --numstat counts

	owners []owner // of ops: see attribute
}

// size is the file's part in the diff as people write it.
func (d *fileDiff) size() string { return plusMinus(d.added, d.removed) }

func plusMinus(added, removed int) string { return fmt.Sprintf("+%d −%d", added, removed) }

// diffs is what the step changes of the step before it, by file name. In the first
// step everything is new.
func (r *repo) diffs(s *step) ([]*fileDiff, error) {
	if s.diffs != nil {
		return s.diffs, nil
	}
	before := map[string]*source{}
	if s.prev != nil {
		var err error
		if before, err = r.codeOf(s.prev); err != nil {
			return nil, err
		}
	}
	after, err := r.codeOf(s)
	if err != nil {
		return nil, err
	}
	s.diffs, err = diffSources(before, after)
	return s.diffs, err
}

// codeOf reads the step's code, by the name within its folder.
func (r *repo) codeOf(s *step) (map[string]*source, error) {
	names, err := r.code(s)
	if err != nil {
		return nil, err
	}
	sources := map[string]*source{}
	for _, name := range names {
		if sources[name], err = r.source(s.name + "/" + name); err != nil {
			return nil, err
		}
	}
	return sources, nil
}

// diffSources compares two sets of files by name. Files that do not differ are left
// out; the result is not nil.
func diffSources(before, after map[string]*source) ([]*fileDiff, error) {
	var names []string
	for name := range before {
		names = append(names, name)
	}
	for name := range after {
		if before[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	diffs := []*fileDiff{}
	for _, name := range names {
		d := &fileDiff{name: name, old: before[name], new: after[name]}
		if err := d.compare(); err != nil {
			return nil, err
		}
		if d.added+d.removed > 0 {
			d.attribute()
			diffs = append(diffs, d)
		}
	}
	return diffs, nil
}

func (d *fileDiff) compare() error {
	var before, after []string
	if d.old != nil {
		before = d.old.lines
	}
	if d.new != nil {
		after = d.new.lines
	}
	var changes []change
	switch {
	case d.old == nil || d.new == nil:
		changes = []change{{old: 1, removed: len(before), new: 1, added: len(after)}}
	case slices.Equal(before, after):
		return nil
	default:
		var err error
		if changes, err = lineChanges(d.old.path, d.new.path); err != nil {
			return err
		}
	}
	d.ops = makeOps(before, after, changes)
	for _, c := range changes {
		d.added += c.added
		d.removed += c.removed
	}
	return nil
}

// change replaces removed lines from line old on by added lines from line new on.
type change struct{ old, removed, new, added int }

var hunkHeader = regexp.MustCompile(`(?m)^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@`)

// lineChanges compares two files. It asks git: a reader who runs git diff sees the
// same, and git knows where people like a hunk to begin.
func lineChanges(before, after string) ([]change, error) {
	out, _, err := git(filepath.Dir(after), 1, "diff", "--no-index", "--no-color", "--no-ext-diff",
		"--no-textconv", "--text", "--diff-algorithm=minimal", "-U0", "--inter-hunk-context=0",
		"--", before, after)
	if err != nil {
		return nil, err
	}
	var changes []change
	for _, m := range hunkHeader.FindAllStringSubmatch(out, -1) {
		c := change{old: number(m[1], 0), removed: number(m[2], 1),
			new: number(m[3], 0), added: number(m[4], 1)}
		// Of no lines git names the line before.
		if c.removed == 0 {
			c.old++
		}
		if c.added == 0 {
			c.new++
		}
		changes = append(changes, c)
	}
	return changes, nil
}

func number(digits string, otherwise int) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return otherwise
	}
	return n
}

// makeOps lists both files' lines in the order of a diff.
func makeOps(before, after []string, changes []change) []op {
	var ops []op
	o, n := 1, 1 // the next lines
	same := func(until int) {
		for ; o < until && o <= len(before) && n <= len(after); o, n = o+1, n+1 {
			ops = append(ops, op{' ', o, n, after[n-1]})
		}
	}
	for _, c := range changes {
		same(c.old)
		for range c.removed {
			ops = append(ops, op{'-', o, 0, before[o-1]})
			o++
		}
		for range c.added {
			ops = append(ops, op{'+', 0, n, after[n-1]})
			n++
		}
	}
	same(len(before) + 1)
	return ops
}
