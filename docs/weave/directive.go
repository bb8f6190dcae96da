package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// directive is one "weave:" comment of a Markdown file.
type directive struct {
	line   int    // counted from 1
	end    int    // line of its "weave: end", 0 if there is none
	indent string // what stands before it, in a list
	text   string // as written, without "weave:"

	verb             string
	file, decl       string         // code, diff
	from, to         *regexp.Regexp // code; nil if not given
	changed, removed int            // budget
	section          string         // without
	cgroup           int            // only: 1 or 2
	reason           string         // after "because"
}

// generates says that the directive has generated text below it.
func (d *directive) generates() bool {
	return slices.Contains([]string{"code", "diff", "table", "diffs", "experiments"}, d.verb)
}

var directiveLine = regexp.MustCompile(`^(\s*)<!--\s*weave:\s*(.*?)\s*-->\s*$`)

// parseDirective reads a directive's text: what stands between "weave:" and "-->".
func parseDirective(text string) (*directive, error) {
	d := &directive{text: text}
	rest, reason, because := strings.Cut(text, " because ")
	d.reason = strings.TrimSpace(reason)
	words, err := splitWords(rest)
	if err != nil {
		return d, err
	}
	if len(words) == 0 {
		return d, errors.New("nothing after \"weave:\"")
	}
	d.verb = words[0].text
	if err := d.arguments(words[1:]); err != nil {
		return d, err
	}
	needs := slices.Contains([]string{"budget", "without", "norun"}, d.verb)
	if needs && d.reason == "" {
		return d, fmt.Errorf("%s needs a reason: because …", d.verb)
	}
	if because && !needs {
		return d, fmt.Errorf("%s takes no reason", d.verb)
	}
	return d, nil
}

// arguments reads what stands between the verb and the reason.
func (d *directive) arguments(words []word) error {
	args := map[string]struct {
		form      string
		low, high int
		read      func([]word) error
	}{
		"code":        {"FILE [DECL] [/FROM/ [/TO/]]", 1, 4, d.readCode},
		"diff":        {"FILE [DECL]", 1, 2, d.readDiff},
		"table":       {},
		"diffs":       {},
		"experiments": {},
		"end":         {},
		"norun":       {form: "because REASON"},
		"budget":      {"CHANGED REMOVED because REASON", 2, 2, d.readBudget},
		"without":     {`"SECTION" because REASON`, 1, 1, d.readWithout},
		"only":        {"cgroup=v1 or cgroup=v2", 1, 1, d.readOnly},
	}
	form, known := args[d.verb]
	if !known {
		return fmt.Errorf("unknown directive %q", d.verb)
	}
	err := errors.New("wrong number of words")
	if len(words) >= form.low && len(words) <= form.high {
		err = nil
		if form.read != nil {
			err = form.read(words)
		}
	}
	if err != nil {
		want := strings.TrimSpace("weave: " + d.verb + " " + form.form)
		return fmt.Errorf("want %s: %w", want, err)
	}
	return nil
}

func (d *directive) readCode(words []word) error {
	var plain, patterns []word
	for _, w := range words {
		if w.quote == '/' {
			patterns = append(patterns, w)
		} else if len(patterns) > 0 {
			return fmt.Errorf("%q after a pattern", w.text)
		} else {
			plain = append(plain, w)
		}
	}
	if len(plain) == 0 || len(plain) > 2 || len(patterns) > 2 {
		return errors.New("wrong number of words")
	}
	for i, p := range patterns {
		re, err := regexp.Compile(p.text)
		if err != nil {
			return err
		}
		if i == 0 {
			d.from = re
		} else {
			d.to = re
		}
	}
	return d.readFile(plain)
}

func (d *directive) readDiff(words []word) error {
	for _, w := range words {
		if w.quote != 0 {
			return fmt.Errorf("%q is no FILE or DECL", w.text)
		}
	}
	return d.readFile(words)
}

func (d *directive) readFile(words []word) error {
	d.file = words[0].text
	if len(words) == 2 {
		d.decl = words[1].text
	}
	return nil
}

func (d *directive) readBudget(words []word) error {
	var err error
	if d.changed, err = strconv.Atoi(words[0].text); err != nil {
		return err
	}
	d.removed, err = strconv.Atoi(words[1].text)
	return err
}

func (d *directive) readWithout(words []word) error {
	d.section = words[0].text
	if !slices.Contains(sections, d.section) {
		return fmt.Errorf("no lesson has a part %q", d.section)
	}
	return nil
}

func (d *directive) readOnly(words []word) error {
	switch words[0].text {
	case "cgroup=v1":
		d.cgroup = 1
	case "cgroup=v2":
		d.cgroup = 2
	default:
		return fmt.Errorf("unknown condition %q", words[0].text)
	}
	return nil
}

// word is a word of a directive; quote is '"' or '/' if it stood in such, else 0.
type word struct {
	text  string
	quote byte
}

// splitWords splits at blanks outside of "…" and /…/.
func splitWords(text string) ([]word, error) {
	var words []word
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" {
			return words, nil
		}
		if text[0] != '"' && text[0] != '/' {
			end := strings.IndexAny(text, " \t")
			if end < 0 {
				end = len(text)
			}
			words = append(words, word{text: text[:end]})
			text = text[end:]
			continue
		}
		w, rest, err := quoted(text)
		if err != nil {
			return nil, err
		}
		words = append(words, w)
		text = rest
	}
}

// quoted takes the quoted word at the start of text. A backslash before the quote's
// own character makes it an ordinary one.
func quoted(text string) (w word, rest string, err error) {
	quote := text[0]
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == quote:
			i++
			b.WriteByte(quote)
		case text[i] == '\\' && i+1 < len(text):
			b.WriteString(text[i : i+2])
			i++
		case text[i] == quote:
			return word{b.String(), quote}, text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return word{}, "", fmt.Errorf("%s: the second %c is missing", text, quote)
}
