package main

import (
	"fmt"
	"path"
	"slices"
)

const (
	// around is how many unchanged lines are shown before and after a change.
	around = 3
	// wholeDecl is how many lines a declaration may have to be shown whole.
	wholeDecl = 40
)

// hunk is a part of a diff that is shown.
type hunk struct {
	label string // the declaration; empty to go on in that of the hunk before
	ops   []int  // indexes of the diff's ops
}

// hunks are the changes of the file with their context, declaration by declaration.
func (d *fileDiff) hunks() []hunk {
	var hunks []hunk
	owners := d.withBlanks()
	for from := 0; from < len(d.ops); {
		to := from
		var segment []int
		for ; to < len(d.ops) && owners[to] == owners[from]; to++ {
			segment = append(segment, to)
		}
		for _, ops := range d.windows(segment) {
			hunks = append(hunks, hunk{d.label(owners[from]), ops})
		}
		from = to
	}
	return hunks
}

func (d *fileDiff) label(o owner) string {
	if decl, ok := d.decl(o); ok {
		return decl.label()
	}
	return path.Base(d.name)
}

// between is the owner of unchanged blank lines between declarations.
var between = owner{index: -2}

// withBlanks gives the changed lines between declarations an owner as well: a blank
// line that of the changed line above it, any other line that of the one below.
func (d *fileDiff) withBlanks() []owner {
	owners := slices.Clone(d.owners)
	for i := len(owners) - 2; i >= 0; i-- {
		if owners[i] == nobody {
			owners[i] = owners[i+1]
		}
	}
	for i, o := range d.ops {
		if i == 0 || d.owners[i] != nobody {
			continue
		}
		follows := o.blank() && o.changed() && o.kind == d.ops[i-1].kind
		if follows || owners[i] == nobody {
			owners[i] = owners[i-1]
		}
		if o.blank() && !o.changed() && owners[i] != nobody {
			owners[i] = between
		}
	}
	return owners
}

// windows are the runs of changed lines in a segment with their context.
func (d *fileDiff) windows(segment []int) [][]int {
	show := make([]bool, len(segment))
	for i, at := range segment {
		if d.ops[at].changed() {
			for j := max(0, i-around); j <= min(len(segment)-1, i+around); j++ {
				show[j] = true
			}
		}
	}
	var all [][]int
	for i, at := range segment {
		if !show[i] {
			continue
		}
		if i == 0 || !show[i-1] {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], at)
	}
	return all
}

// declHunks are the hunks of one declaration: the whole of it if it is short.
func (d *fileDiff) declHunks(name string) ([]hunk, error) {
	who, ok := d.find(name)
	if !ok {
		return nil, fmt.Errorf("no declaration %s in %s: %s", name, d.name, d.declNames())
	}
	decl, _ := d.decl(who)
	var segment []int
	changed := false
	for i, o := range d.ops {
		if d.owners[i] == who || (who.gone && o.old >= decl.from && o.old <= decl.to) {
			segment = append(segment, i)
			changed = changed || o.changed()
		}
	}
	if !changed {
		return nil, fmt.Errorf("%s has not changed since the step before", decl.label())
	}
	parts := d.unbroken(segment)
	if decl.lines() > wholeDecl {
		var narrow [][]int
		for _, p := range parts {
			narrow = append(narrow, d.windows(p)...)
		}
		parts = narrow
	}
	hunks := []hunk{{decl.label(), parts[0]}}
	for _, ops := range parts[1:] {
		hunks = append(hunks, hunk{"", ops})
	}
	return hunks, nil
}

// unbroken splits a segment where other lines that are not blank stand between: the
// declaration has moved.
func (d *fileDiff) unbroken(segment []int) [][]int {
	var parts [][]int
	for i, at := range segment {
		split := i == 0
		for other := at - 1; i > 0 && other > segment[i-1]; other-- {
			split = split || !d.ops[other].blank()
		}
		if split {
			parts = append(parts, nil)
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], at)
	}
	return parts
}

func (d *fileDiff) declNames() string {
	if d.new != nil {
		return "it has " + declList(d.new.decls)
	}
	return "it had " + declList(d.old.decls)
}

// header is the two lines above a diff.
func (d *fileDiff) header() []string {
	before, after := "/dev/null", "/dev/null"
	if d.old != nil {
		before = d.old.file
	}
	if d.new != nil {
		after = d.new.file
	}
	return []string{"--- " + before, "+++ " + after}
}

// hunkLines is how hunks are shown, without the header.
func (d *fileDiff) hunkLines(hunks []hunk) []string {
	var lines []string
	for _, h := range hunks {
		if h.label == "" {
			lines = append(lines, " …")
		} else {
			lines = append(lines, "@@ "+h.label+" @@")
		}
		for _, i := range h.ops {
			lines = append(lines, d.ops[i].String())
		}
	}
	return lines
}
