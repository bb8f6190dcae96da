package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// problem is something that is not true, and where.
type problem struct {
	file string // relative to the repository's root
	line int    // 0 for the whole file
	to   int    // the last line, if there are several
	text string
	// detail is printed below, indented.
	detail []string
}

func (p problem) String() string {
	where := p.file
	if p.line > 0 {
		where += fmt.Sprintf(":%d", p.line)
	}
	if p.to > p.line {
		where += fmt.Sprintf("-%d", p.to)
	}
	return where + ": " + p.text
}

// problemList collects problems.
type problemList []problem

func (l *problemList) add(file string, line int, format string, args ...any) {
	*l = append(*l, problem{file: file, line: line, text: fmt.Sprintf(format, args...)})
}

// report prints the problems by file and line, each once; it returns errProblems if
// there are any.
func (l problemList) report(w io.Writer) error {
	slices.SortStableFunc(l, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	said := map[string]bool{}
	for _, p := range l {
		if said[p.String()] {
			continue
		}
		said[p.String()] = true
		fmt.Fprintln(w, p)
		for _, line := range p.detail {
			fmt.Fprintln(w, strings.TrimRight("    "+line, " \t"))
		}
	}
	if len(l) > 0 {
		return errProblems
	}
	return nil
}
