package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

const endLine = "<!-- weave: end -->"

func fillCommand(c *call) error {
	if err := c.parse(flags("fill"), 0, 0); err != nil {
		return err
	}
	r, err := openRepo(c.dir)
	if err != nil {
		return err
	}
	var problems problemList
	for _, file := range r.markdown() {
		p, err := r.page(file)
		if err != nil {
			return err
		}
		filled, failed := r.fill(p)
		problems = append(problems, append(failed, p.problems...)...)
		if slices.Equal(filled, p.lines) {
			continue
		}
		if err := os.WriteFile(r.abs(file), []byte(strings.Join(filled, "\n")), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(c.stdout, file+": written")
	}
	return problems.report(c.stderr)
}

// fill makes the page's lines with all generated blocks as they should be. A block
// that cannot be made stays as it is.
func (r *repo) fill(p *page) ([]string, problemList) {
	var problems problemList
	var lines []string
	done := 0 // lines of the page that are in lines
	for _, d := range p.directives {
		if !d.generates() {
			continue
		}
		b, err := r.generate(p, d)
		if err != nil {
			problems.add(p.file, d.line, "%v", err)
			continue
		}
		lines = append(append(lines, p.lines[done:d.line]...), b.indented(d.indent)...)
		done = d.line
		if d.end > 0 {
			done = d.end - 1
		} else {
			lines = append(lines, d.indent+endLine)
		}
	}
	return append(lines, p.lines[done:]...), problems
}

// indented is the block's text as part of a list.
func (b block) indented(indent string) []string {
	var lines []string
	for _, line := range b.lines {
		if line != "" {
			line = indent + line
		}
		lines = append(lines, line)
	}
	return lines
}
