package main

import (
	"os"
	"regexp"
	"strings"
)

// page is a Markdown file as weave needs it: read line by line for what weave itself
// writes and runs, and parsed as Markdown for links and headings.
type page struct {
	file  string // relative to the repository's root
	lines []string

	fences     []fence
	directives []*directive
	marks      []mark
	problems   problemList // what is wrong with the file's own form

	tree *tree // see parse
}

// fence is a fenced block. Lines are counted from 1.
type fence struct {
	lang     string
	indent   string // before the fence, and before each line of what is in it
	from, to int    // the lines of the fences themselves
}

// mark is a comment that names experiments, as <!-- E05 -->.
type mark struct {
	line int
	ids  []string
}

// page reads a Markdown file, once.
func (r *repo) page(file string) (*page, error) {
	if p, ok := r.pages[file]; ok {
		return p, nil
	}
	data, err := os.ReadFile(r.abs(file))
	if err != nil {
		return nil, err
	}
	p := scanPage(file, string(data))
	r.pages[file] = p
	return p, nil
}

var (
	fenceLine = regexp.MustCompile("^([ \t]*)(`{3,}|~{3,})[ \t]*(.*?)[ \t]*$")
	markLine  = regexp.MustCompile(`^\s*<!--\s*(E\d+(?:[\s,]+E\d+)*)\s*-->\s*$`)
	// almostDirective is a comment that was meant for weave.
	almostDirective = regexp.MustCompile(`^\s*<!--\s*(?:weave\b|E\d+\b)`)
	headingLine     = regexp.MustCompile(`^ {0,3}#{1,6}(?:\s|$)`)
)

// scanPage finds the fenced blocks, the directives and the marks.
func scanPage(file, text string) *page {
	p := &page{file: file, lines: strings.Split(text, "\n")}
	for i := frontMatter(p.lines); i < len(p.lines); i++ {
		line := p.lines[i]
		if f, ok := openFence(line); ok {
			f.from = i + 1
			i = p.closeFence(f, i+1)
			continue
		}
		if m := markLine.FindStringSubmatch(line); m != nil {
			p.marks = append(p.marks, mark{i + 1, experimentID.FindAllString(m[1], -1)})
		} else if m := directiveLine.FindStringSubmatch(line); m != nil {
			d, err := parseDirective(m[2])
			d.line, d.indent = i+1, m[1]
			if err != nil {
				p.problems.add(file, d.line, "%v", err)
				continue
			}
			p.directives = append(p.directives, d)
		} else if almostDirective.MatchString(line) {
			p.problems.add(file, i+1, "this comment is for weave and not of its form: "+
				"one line, <!-- weave: … --> or <!-- E01 … -->")
		}
	}
	p.pairEnds()
	return p
}

// frontMatter is the number of lines at the top that are settings between "---".
func frontMatter(lines []string) int {
	if lines[0] != "---" {
		return 0
	}
	for i, line := range lines[1:] {
		if line == "---" {
			return i + 2
		}
	}
	return 0
}

func openFence(line string) (fence, bool) {
	m := fenceLine.FindStringSubmatch(line)
	if m == nil || (m[2][0] == '`' && strings.Contains(m[3], "`")) {
		return fence{}, false
	}
	lang, _, _ := strings.Cut(m[3], " ")
	return fence{lang: lang, indent: m[1]}, true
}

// closeFence finds the end of the block that begins above line i, an index, and
// returns the index of its last line.
func (p *page) closeFence(f fence, i int) int {
	open := fenceLine.FindStringSubmatch(p.lines[f.from-1])[2]
	for ; i < len(p.lines); i++ {
		m := fenceLine.FindStringSubmatch(p.lines[i])
		if m != nil && m[3] == "" && strings.HasPrefix(m[2], open) {
			f.to = i + 1
			p.fences = append(p.fences, f)
			return i
		}
	}
	p.problems.add(p.file, f.from, "this fenced block is not closed")
	return i
}

// pairEnds finds the "weave: end" of every directive that generates something. It is
// the next directive, and no heading stands between.
func (p *page) pairEnds() {
	var open *directive
	for _, d := range p.directives {
		switch {
		case d.verb != "end":
			open = nil
			if d.generates() {
				open = d
			}
		case open == nil || p.headingBetween(open.line, d.line):
			p.problems.add(p.file, d.line, "this end belongs to no directive")
		default:
			open.end = d.line
			open = nil
		}
	}
}

func (p *page) headingBetween(from, to int) bool {
	for i := from; i < to-1; i++ {
		if headingLine.MatchString(p.lines[i]) && p.fenceAt(i+1) == nil {
			return true
		}
	}
	return false
}

// fenceAt is the fenced block in which the line is, or nil.
func (p *page) fenceAt(line int) *fence {
	for i, f := range p.fences {
		if f.from <= line && line <= f.to {
			return &p.fences[i]
		}
	}
	return nil
}

// inside is the text of a fenced block, without its indentation.
func (p *page) inside(f fence) []string {
	var lines []string
	for _, line := range p.lines[f.from : f.to-1] {
		lines = append(lines, dedent(line, len(f.indent)))
	}
	return lines
}

// dedent takes up to n blanks away.
func dedent(line string, n int) string {
	for i := 0; i < n && line != "" && (line[0] == ' ' || line[0] == '\t'); i++ {
		line = line[1:]
	}
	return line
}
