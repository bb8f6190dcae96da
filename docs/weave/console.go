package main

import (
	"fmt"
	"strings"
)

// console is a block that shows a session.
type console struct {
	fence       fence
	norun, only *directive // those that stand before it
	commands    []command
}

// command is a command of a session and what it prints.
type command struct {
	line int    // counted from 1
	user bool   // an ordinary user's, not root's
	text string // may have several lines
	want []string
	// wantFrom is the line of the first line of want, or of what follows it.
	wantFrom int
}

// consoles are the page's console blocks, in order.
func (p *page) consoles() ([]console, problemList) {
	var blocks []console
	var problems problemList
	used := map[*directive]bool{}
	for _, f := range p.fences {
		if f.lang != "console" {
			continue
		}
		b := console{fence: f}
		for _, d := range p.directivesAbove(f.from) {
			used[d] = true
			if d.verb == "norun" {
				b.norun = d
			} else {
				b.only = d
			}
		}
		var err error
		if b.commands, err = parseConsole(p.inside(f), f.from+1); err != nil {
			problems.add(p.file, f.from, "%v", err)
		}
		blocks = append(blocks, b)
	}
	for _, d := range p.directives {
		if (d.verb == "norun" || d.verb == "only") && !used[d] {
			problems.add(p.file, d.line, "weave: %s stands before no console block", d.verb)
		}
	}
	return blocks, problems
}

// directivesAbove are the conditions that stand directly above a line.
func (p *page) directivesAbove(line int) []*directive {
	var found []*directive
	for i := len(p.directives) - 1; i >= 0; i-- {
		d := p.directives[i]
		if d.line >= line || (d.verb != "norun" && d.verb != "only") {
			continue
		}
		for between := d.line + 1; between < line; between++ {
			text := strings.TrimSpace(p.lines[between-1])
			if text != "" && !directiveLine.MatchString(text) {
				return found
			}
		}
		found = append(found, d)
	}
	return found
}

// parseConsole reads the lines of a console block; the first has the number line.
func parseConsole(lines []string, line int) ([]command, error) {
	var commands []command
	for i, text := range lines {
		prompt := ""
		if len(text) > 2 {
			prompt = text[:2]
		}
		var last *command
		if len(commands) > 0 {
			last = &commands[len(commands)-1]
		}
		switch {
		case prompt == "# " || prompt == "$ ":
			commands = append(commands, command{line: line + i, user: prompt == "$ ",
				text: text[2:], wantFrom: line + i + 1})
		case last == nil:
			return nil, fmt.Errorf(
				`line %d: the session does not begin with a command: "# …" or "$ …"`, line+i)
		case (prompt == "> " || text == ">") && last.want == nil:
			last.text += "\n" + strings.TrimPrefix(text[1:], " ")
			last.wantFrom = line + i + 1
		default:
			last.want = append(last.want, text)
		}
	}
	return commands, nil
}

// checkConsole finds console blocks that cannot be run and do not say why.
func checkConsole(p *page, problems *problemList) {
	_, found := p.consoles()
	*problems = append(*problems, found...)
	for _, f := range p.parse().fences {
		if f.lang == "console" && p.fenceAt(f.line) == nil {
			problems.add(p.file, f.line,
				"this console block is in a quotation, where it is not run")
		}
	}
}
