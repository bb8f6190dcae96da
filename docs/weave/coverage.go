package main

import (
	"fmt"
	"strings"
)

const (
	// A step should change no more lines than this, and remove no more.
	changedBudget = 150
	removedBudget = 20
)

// checkCoverage finds lines that the step changes and its lesson does not quote.
// It returns the figures in words.
func (r *repo) checkCoverage(s *step, p *page, problems *problemList) (string, error) {
	diffs, err := r.diffs(s)
	if err != nil {
		return "", err
	}
	shown := r.shown(p)
	changed, quoted := 0, 0
	for _, d := range diffs {
		for i, o := range d.ops {
			if !o.changed() || o.blank() {
				continue
			}
			changed++
			if shown[d][i] {
				quoted++
			}
		}
		d.uncovered(s, shown[d], problems)
	}
	return fmt.Sprintf("%d changed lines, %d quoted", changed, quoted), nil
}

// shown is what a page's blocks show of the steps' diffs: indexes of ops.
func (r *repo) shown(p *page) map[*fileDiff]map[int]bool {
	shown := map[*fileDiff]map[int]bool{}
	for _, d := range p.directives {
		if d.verb != "code" && d.verb != "diff" {
			continue
		}
		b, err := r.generate(p, d)
		if err != nil || b.diff == nil { // checkBlocks reports the error
			continue
		}
		if shown[b.diff] == nil {
			shown[b.diff] = map[int]bool{}
		}
		for _, i := range b.ops {
			shown[b.diff][i] = true
		}
	}
	return shown
}

// uncovered reports each run of changed lines that are not shown.
func (d *fileDiff) uncovered(s *step, shown map[int]bool, problems *problemList) {
	owners := d.withBlanks()
	var run []int
	flush := func() {
		for len(run) > 0 && d.ops[run[len(run)-1]].blank() {
			run = run[:len(run)-1]
		}
		if len(run) > 0 {
			*problems = append(*problems, d.uncoveredRun(s, run, d.label(owners[run[0]])))
		}
		run = nil
	}
	for i, o := range d.ops {
		if !o.changed() || shown[i] {
			flush()
			continue
		}
		if len(run) > 0 {
			last := run[len(run)-1]
			if d.ops[last].kind != o.kind || owners[last] != owners[i] {
				flush()
			}
		}
		if len(run) > 0 || !o.blank() {
			run = append(run, i)
		}
	}
	flush()
}

func (d *fileDiff) uncoveredRun(s *step, run []int, label string) problem {
	first, last := d.ops[run[0]], d.ops[run[len(run)-1]]
	what, file, from, to := "changed", d.new, first.new, last.new
	if first.kind == '-' {
		what, file, from, to = "deleted", d.old, first.old, last.old
	}
	p := problem{file: file.file, line: from, to: to, text: what + " and nowhere in the lesson"}
	if first.kind == '-' {
		p.text += " of " + s.short()
	}
	p.text += ": " + label
	for _, i := range run {
		p.detail = append(p.detail, strings.TrimRight(d.ops[i].String(), " \t"))
	}
	return p
}

// checkBudget finds a step that changes too much. The first step changes nothing: it
// has a budget only if its lesson sets one.
func (r *repo) checkBudget(s *step, p *page, problems *problemList) error {
	t, err := r.total(s)
	if err != nil {
		return err
	}
	changed, removed, line := changedBudget, removedBudget, 0
	set := s.prev != nil
	for _, d := range p.directives {
		if d.verb == "budget" {
			changed, removed, line, set = d.changed, d.removed, d.line, true
		}
	}
	if !set || (t.added+t.removed <= changed && t.removed <= removed) {
		return nil
	}
	problems.add(p.file, line,
		"the step changes %d lines and removes %d; its budget is %d and %d: make it smaller, "+
			"or say why not with <!-- weave: budget %d %d because … -->",
		t.added+t.removed, t.removed, changed, removed, t.added+t.removed, t.removed)
	return nil
}
