package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
)

// fillHint says how to make generated blocks what they should be.
const fillHint = "run make docs"

func checkCommand(c *call) error {
	fs := flags("check")
	verbose := fs.Bool("v", false, "print how much of each step's diff its lesson quotes")
	if err := c.parse(fs, 0, 0); err != nil {
		return err
	}
	r, err := openRepo(c.dir)
	if err != nil {
		return err
	}
	said := io.Discard
	if *verbose {
		said = c.stdout
	}
	problems, err := r.check(said)
	if err != nil {
		return err
	}
	return problems.report(c.stderr)
}

// check finds all that is not true; it tells out what is quoted of each step.
func (r *repo) check(out io.Writer) (problemList, error) {
	var problems problemList
	for _, file := range r.markdown() {
		p, err := r.page(file)
		if err != nil {
			return nil, err
		}
		problems = append(problems, p.problems...)
		r.checkBlocks(p, &problems)
		r.checkPlaces(p, &problems)
		checkConsole(p, &problems)
		checkPictures(p, &problems)
		if err := r.checkLinks(p, &problems); err != nil {
			return nil, err
		}
		if err := r.checkMarks(p, &problems); err != nil {
			return nil, err
		}
	}
	for _, s := range r.steps {
		if !isFile(r.abs(s.lesson())) {
			problems.add(s.lesson(), 0, "there is no lesson")
			continue
		}
		if err := r.checkLesson(s, out, &problems); err != nil {
			return nil, err
		}
	}
	if err := r.checkReads(&problems); err != nil {
		return nil, err
	}
	return problems, r.checkExperiments(&problems)
}

func (r *repo) checkLesson(s *step, out io.Writer, problems *problemList) error {
	p, err := r.page(s.lesson())
	if err != nil {
		return err
	}
	checkSections(p, problems)
	covered, err := r.checkCoverage(s, p, problems)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", s.short(), covered)
	return r.checkBudget(s, p, problems)
}

// checkBlocks finds generated blocks that fill would write in another way.
func (r *repo) checkBlocks(p *page, problems *problemList) {
	for _, d := range p.directives {
		if !d.generates() {
			continue
		}
		b, err := r.generate(p, d)
		if err != nil {
			problems.add(p.file, d.line, "weave: %s: %v", d.text, err)
			continue
		}
		if d.end == 0 {
			problems.add(p.file, d.line, "weave: %s: has no block yet: %s", d.text, fillHint)
		} else if !slices.Equal(b.indented(d.indent), p.lines[d.line:d.end-1]) {
			problems.add(p.file, d.line, "weave: %s: stale: %s", d.text, fillHint)
		}
	}
}

// checkPlaces finds directives where they mean nothing.
func (r *repo) checkPlaces(p *page, problems *problemList) {
	lesson := r.lessonOf(p.file) != nil
	for _, d := range p.directives {
		if (d.verb == "budget" || d.verb == "without") && !lesson {
			problems.add(p.file, d.line, "weave: %s belongs in a lesson", d.verb)
		}
	}
	for _, line := range p.parse().comments {
		problems.add(p.file, line, "a comment for weave must stand on a line of its own")
	}
}

// sortedKeys lists a map's keys in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
