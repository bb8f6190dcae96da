package main

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// total is a step's diff in figures.
type total struct {
	fresh, changed, gone int // files
	added, removed       int // lines
	lines                int // of code in the step
}

func (r *repo) total(s *step) (total, error) {
	var t total
	diffs, err := r.diffs(s)
	if err != nil {
		return t, err
	}
	for _, d := range diffs {
		switch {
		case d.old == nil:
			t.fresh++
		case d.new == nil:
			t.gone++
		default:
			t.changed++
		}
		t.added += d.added
		t.removed += d.removed
	}
	code, err := r.codeOf(s)
	for _, src := range code {
		t.lines += len(src.lines)
	}
	return t, err
}

// files says how many files are new, changed and gone.
func (t total) files() string {
	var parts []string
	for _, part := range []struct {
		count int
		what  string
	}{{t.fresh, "new"}, {t.changed, "changed"}, {t.gone, "gone"}} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.what))
		}
	}
	if parts == nil {
		return "–"
	}
	return strings.Join(parts, ", ")
}

// stepTable lists the steps, for a page.
func (r *repo) stepTable(from string) ([]string, error) {
	rows := []string{
		"| step | what it adds | files | diff | lines |",
		"|---:|---|---|---:|---:|",
	}
	for _, s := range r.steps {
		t, err := r.total(s)
		if err != nil {
			return nil, err
		}
		title, err := r.title(s)
		if err != nil {
			return nil, err
		}
		adds := strings.TrimPrefix(title, "At the end of this step ")
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %d |", r.stepLink(from, s, ""),
			adds, t.files(), plusMinus(t.added, t.removed), t.lines))
	}
	return rows, nil
}

// stepLink leads to the lesson or, while there is none, to the folder.
func (r *repo) stepLink(from string, s *step, style string) string {
	to := s.lesson()
	if !isFile(r.abs(to)) {
		to = s.name
	}
	return fmt.Sprintf("[%s%02d%s](%s)", style, s.number, style, relativeLink(from, to))
}

var (
	sentenceEnd  = regexp.MustCompile(`[.!?](?:\s+\p{Lu}|$)`)
	markdownLink = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// title is the first sentence of the lesson, fit for a cell of a table.
func (r *repo) title(s *step) (string, error) {
	if !isFile(r.abs(s.lesson())) {
		return "–", nil
	}
	p, err := r.page(s.lesson())
	if err != nil {
		return "", err
	}
	text := strings.Join(strings.Fields(p.parse().title), " ")
	// A link would lead elsewhere from here.
	text = markdownLink.ReplaceAllString(text, "$1")
	if at := sentenceEnd.FindStringIndex(text); at != nil {
		text = text[:at[0]+1]
	}
	if text == "" {
		return "–", nil
	}
	return cell(text), nil
}

// cell escapes what would end a table's cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// diffTable lists the files that the steps change, for a page.
func (r *repo) diffTable(from string) ([]string, error) {
	rows := []string{"| step | file | diff |", "|---:|---|---:|"}
	for _, s := range r.steps {
		t, err := r.total(s)
		if err != nil {
			return nil, err
		}
		rows = append(rows, fmt.Sprintf("| %s | **%s** | **%s** |",
			r.stepLink(from, s, "**"), t.files(), plusMinus(t.added, t.removed)))
		diffs, err := r.diffs(s)
		if err != nil {
			return nil, err
		}
		for _, d := range diffs {
			file := fmt.Sprintf("[`%s`](%s)", d.name, relativeLink(from, path.Join(s.name, d.name)))
			switch {
			case d.old == nil:
				file += ", new"
			case d.new == nil:
				file = "`" + d.name + "`, gone"
			}
			rows = append(rows, fmt.Sprintf("| | %s | %s |", file, d.size()))
		}
	}
	return rows, nil
}
