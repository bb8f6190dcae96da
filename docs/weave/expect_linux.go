package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// newPage is where a session leaves a page with new output: the repository's own files
// cannot be written to in the sandbox.
const newPage = "page.md"

// update is new expected output for a command.
type update struct {
	from, to int // the old lines, counted from 1; to is the one after
	lines    []string
}

// compare compares a command's output with what is expected, or notes it as that.
func (s *session) compare(b console, c command, got []string) {
	want := trimOutput(c.want)
	pairs, good := align(want, got)
	if good {
		return
	}
	if !s.update {
		s.problem(c, "the output differs: - expected, + printed", outputDiff(want, got, pairs))
		return
	}
	for _, line := range got {
		if reason := unwritable(line); reason != "" {
			s.problem(c, reason, []string{line})
			return
		}
	}
	if len(got) > 0 && (got[0] == ">" || strings.HasPrefix(got[0], "> ")) {
		s.problem(c, "its output would be read as more of the command", got[:1])
		return
	}
	u := update{from: c.wantFrom, to: c.wantFrom + len(want)}
	for _, line := range keep(want, got, pairs) {
		if line != "" {
			line = b.fence.indent + line
		}
		u.lines = append(u.lines, line)
	}
	s.updates = append(s.updates, u)
}

// unwritable says why a line of output cannot stand in a console block.
func unwritable(line string) string {
	switch {
	case len(line) > 2 && (line[:2] == "# " || line[:2] == "$ "):
		return "a line of its output would be read as a command"
	case fenceLine.MatchString(line):
		return "a line of its output would be read as the end of the block"
	}
	return ""
}

// save leaves the page with the new outputs for weave run, which is not in the sandbox.
func (s *session) save() error {
	if len(s.updates) == 0 {
		return nil
	}
	lines := slices.Clone(s.page.lines)
	for _, u := range slices.Backward(s.updates) {
		lines = slices.Replace(lines, u.from-1, u.to-1, u.lines...)
	}
	fmt.Fprintf(s.out.stdout, "%s: %d outputs written\n", s.page.file, len(s.updates))
	return os.WriteFile(s.scratch.path(newPage), []byte(strings.Join(lines, "\n")), 0o644)
}
