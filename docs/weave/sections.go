package main

import "slices"

// sections are the parts that a lesson has, in this order.
var sections = []string{
	"Predict", "By hand", "In Go", "Prove it", "Break it", "What Docker does",
	"What is missing", "Exercises", "Reading",
}

// checkSections finds parts of a lesson that are missing or out of order.
func checkSections(p *page, problems *problemList) {
	t := p.parse()
	if !slices.ContainsFunc(p.fences, func(f fence) bool { return f.lang == "mermaid" }) {
		problems.add(p.file, 0, "the lesson has no picture: "+
			"a fenced block with the language mermaid")
	}
	without := map[string]*directive{}
	for _, d := range p.directives {
		if d.verb == "without" {
			without[d.section] = d
		}
	}
	last := heading{}
	for _, name := range sections {
		at := slices.IndexFunc(t.headings, func(h heading) bool {
			return h.level == 2 && h.text == name
		})
		if at < 0 {
			if without[name] == nil {
				problems.add(p.file, 0, `the lesson has no part "## %s": write it, or say why not `+
					`with <!-- weave: without "%s" because … -->`, name, name)
			}
			continue
		}
		h := t.headings[at]
		if d := without[name]; d != nil {
			problems.add(p.file, d.line, "there is a part %q: take this comment out", name)
		}
		if h.line < last.line {
			problems.add(p.file, h.line, "%q stands before %q: their order is the other way round",
				name, last.text)
		}
		last = h
	}
}
