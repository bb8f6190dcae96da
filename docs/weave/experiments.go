package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	experimentFile = "docs/weave/experiments.tsv"
	// finalLesson tells of the engine; its experiments may also stand in finalGuide.
	finalLesson = "final/README.md"
	finalGuide  = "docs/final.md"
	// toldOnly follows the step of an experiment that its lesson tells of and does not run.
	toldOnly = " (told)"
	// toCome follows the engine where it cannot do yet what an experiment shows.
	toCome = " (to come)"
)

// experiment is a row of experiments.tsv: something that an article shows.
type experiment struct {
	id, text, articles string
	// places are "03" for a step, or "final"; "03 (told)" has no test, and what is "final (to
	// come)" is nowhere yet.
	places []string
	line   int
}

// experimentTable is experiments.tsv and where its experiments are.
type experimentTable struct {
	rows  []experiment
	tests map[string][]string // scripts that name an id
}

// experiments reads the table; it is empty if the repository has none.
func (r *repo) experiments() (*experimentTable, error) {
	if r.table != nil {
		return r.table, nil
	}
	t := &experimentTable{tests: map[string][]string{}}
	data, err := os.ReadFile(r.abs(experimentFile))
	if err != nil && !notExist(err) {
		return nil, err
	}
	for i, line := range splitLines(string(data)) {
		if i == 0 || line == "" { // the first line names the columns
			continue
		}
		columns := strings.Split(line, "\t")
		if len(columns) != 4 {
			return nil, fmt.Errorf("%s:%d: want four columns", experimentFile, i+1)
		}
		places := strings.Split(columns[3], ", ")
		if !placesPattern.MatchString(columns[3]) {
			return nil, fmt.Errorf(`%s:%d: want steps such as "03" or "03, final", got %q`,
				experimentFile, i+1, columns[3])
		}
		t.rows = append(t.rows, experiment{columns[0], columns[1], columns[2], places, i + 1})
	}
	r.table = t
	return t, r.findTests(t)
}

const place = `(?:\d\d(?: \(told\))?|final(?: \(to come\))?)`

var (
	placesPattern = regexp.MustCompile(`^` + place + `(?:, ` + place + `)*$`)
	experimentID  = regexp.MustCompile(`\bE\d+\b`)
)

// findTests reads which experiments the scripts of final/tests name at their top.
func (r *repo) findTests(t *experimentTable) error {
	for _, file := range r.files {
		if !strings.HasPrefix(file, "final/tests/") || path.Ext(file) != ".txtar" {
			continue
		}
		src, err := r.source(file)
		if err != nil {
			return err
		}
		for _, line := range src.lines {
			if !strings.HasPrefix(line, "#") && strings.TrimSpace(line) != "" {
				break
			}
			for _, id := range experimentID.FindAllString(line, -1) {
				if !slices.Contains(t.tests[id], file) {
					t.tests[id] = append(t.tests[id], file)
				}
			}
		}
	}
	return nil
}

func (t *experimentTable) has(id string) bool {
	return slices.ContainsFunc(t.rows, func(e experiment) bool { return e.id == id })
}

// lessons are the files in which an experiment of the place may stand; none while the
// place does not exist.
func (r *repo) lessons(place string) []string {
	if strings.HasSuffix(place, toCome) {
		return nil
	}
	if place == "final" {
		if !isFile(r.abs(finalGuide)) { // the engine is not there yet
			return nil
		}
		return []string{finalLesson, finalGuide}
	}
	s, err := r.step(place)
	if err != nil {
		return nil
	}
	return []string{s.lesson()}
}

// marked finds where an experiment of the place is marked.
func (r *repo) marked(id, place string) (*page, mark, bool) {
	for _, file := range r.lessons(place) {
		if !isFile(r.abs(file)) {
			continue
		}
		p, err := r.page(file)
		if err != nil {
			continue
		}
		for _, m := range p.marks {
			if slices.Contains(m.ids, id) {
				return p, m, true
			}
		}
	}
	return nil, mark{}, false
}

// experimentRows is the table of the experiments, for a page.
func (r *repo) experimentRows(from string) ([]string, error) {
	t, err := r.experiments()
	if err != nil {
		return nil, err
	}
	if t.rows == nil {
		return nil, errors.New("no experiments in " + experimentFile)
	}
	rows := []string{"| id | experiment | article | lesson | test |", "|---|---|---|---|---|"}
	for _, e := range t.rows {
		var lessons, tests []string
		for _, place := range e.places {
			step, _ := strings.CutSuffix(place, toldOnly)
			if p, m, ok := r.marked(e.id, step); ok {
				lessons = append(lessons, markLink(from, place, p, m))
			}
		}
		for _, file := range t.tests[e.id] {
			name := strings.TrimSuffix(path.Base(file), ".txtar")
			tests = append(tests, fmt.Sprintf("[%s](%s)", name, relativeLink(from, file)))
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s |",
			e.id, cell(e.text), e.articles, orDash(lessons), orDash(tests)))
	}
	return rows, nil
}

// markLink leads to the heading under which the mark stands.
func markLink(from, place string, p *page, m mark) string {
	to := relativeLink(from, p.file)
	h, ok := p.parse().headingAbove(m.line)
	if !ok {
		return fmt.Sprintf("[%s](%s)", place, to)
	}
	return fmt.Sprintf("[%s, %s](%s#%s)", place, cell(h.text), to, h.slug)
}

func orDash(items []string) string {
	if items == nil {
		return "–"
	}
	return strings.Join(items, ", ")
}

// checkExperiments finds experiments without a mark or a test, and unknown ids.
func (r *repo) checkExperiments(problems *problemList) error {
	t, err := r.experiments()
	if err != nil {
		return err
	}
	for _, e := range t.rows {
		exists := false
		for _, place := range e.places {
			place, told := strings.CutSuffix(place, toldOnly)
			lessons := r.lessons(place)
			if lessons == nil {
				continue
			}
			exists = exists || !told
			if _, _, ok := r.marked(e.id, place); !ok && isFile(r.abs(lessons[0])) {
				problems.add(experimentFile, e.line,
					"%s stands nowhere in %s: mark the text with <!-- %s -->",
					e.id, strings.Join(lessons, " or "), e.id)
			}
		}
		if exists && t.tests[e.id] == nil {
			problems.add(experimentFile, e.line, "no test shows %s: name it in the comment "+
				"at the top of a script in final/tests", e.id)
		}
	}
	for _, id := range sortedKeys(t.tests) {
		if !t.has(id) {
			problems.add(t.tests[id][0], 0, "unknown experiment %s", id)
		}
	}
	return nil
}

// checkMarks finds marks of experiments that do not exist.
func (r *repo) checkMarks(p *page, problems *problemList) error {
	t, err := r.experiments()
	if err != nil {
		return err
	}
	for _, m := range p.marks {
		for _, id := range m.ids {
			if !t.has(id) {
				problems.add(p.file, m.line, "unknown experiment %s", id)
			}
		}
	}
	return nil
}
