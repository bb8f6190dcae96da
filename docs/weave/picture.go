package main

import (
	"regexp"
	"strings"
)

// entity is how Mermaid writes a character by its number or name.
var entity = regexp.MustCompile(`#\w+;`)

// checkPictures finds what Mermaid stumbles over most: in a sequence diagram a semicolon
// ends a statement, also within a text.
func checkPictures(p *page, problems *problemList) {
	for _, f := range p.fences {
		text := p.inside(f)
		if f.lang != "mermaid" || len(text) == 0 || strings.TrimSpace(text[0]) != "sequenceDiagram" {
			continue
		}
		for i, line := range text {
			if strings.Contains(entity.ReplaceAllString(line, ""), ";") {
				problems.add(p.file, f.from+1+i,
					"to Mermaid a semicolon in a sequence diagram ends the statement: write a comma")
			}
		}
	}
}
