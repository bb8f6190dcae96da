//go:build linux

package build

import (
	"fmt"
	"io"
	"strings"
)

// Plain prints the events of a build as lines, as docker build --progress=plain does.
func Plain(w io.Writer) func(Event) {
	p := &plain{w: w, open: map[int]string{}}
	return p.event
}

type plain struct {
	w    io.Writer
	last int            // the step that was spoken of
	open map[int]string // a line of a step's that has not ended
}

func (p *plain) event(e Event) {
	if e.Kind == Meta || e.Step == 0 {
		return
	}
	if e.Kind == Printed {
		p.output(e)
		return
	}
	if rest := p.open[e.Step]; rest != "" {
		p.open[e.Step] = ""
		p.line(e, fmt.Sprintf("%.3f %s", e.Since.Seconds(), rest))
	}
	switch e.Kind {
	case Begun:
		p.last = 0
		p.line(e, e.Name)
	case Done:
		p.line(e, fmt.Sprintf("DONE %.1fs", e.Since.Seconds()))
	case Cached:
		p.line(e, "CACHED")
	case Failed:
		p.line(e, fmt.Sprintf("ERROR: %v", e.Err))
	case Canceled:
		p.line(e, "CANCELED")
	}
	if e.Kind != Begun {
		fmt.Fprintln(p.w)
		p.last = 0
	}
}

// line prints a line of a step's, after its name if another has spoken in between.
func (p *plain) line(e Event, text string) {
	if p.last != e.Step && p.last != 0 && text != e.Name {
		fmt.Fprintf(p.w, "\n#%d %s\n", e.Step, firstLine(e.Name))
	}
	p.last = e.Step
	fmt.Fprintf(p.w, "#%d %s\n", e.Step, firstLine(text))
}

// firstLine is what fits where a here-document is long.
func firstLine(text string) string {
	first, _, more := strings.Cut(strings.TrimRight(text, "\n"), "\n")
	if more {
		first += " …"
	}
	return first
}

// output prints what a container says, a line at a time.
func (p *plain) output(e Event) {
	text := p.open[e.Step] + e.Text
	for {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			break
		}
		p.line(e, fmt.Sprintf("%.3f %s", e.Since.Seconds(), strings.TrimSuffix(line, "\r")))
		text = rest
	}
	p.open[e.Step] = text
}
