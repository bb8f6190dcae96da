package main

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// block is what a directive generates, and what of the step's diff it shows.
type block struct {
	lines []string
	diff  *fileDiff
	ops   []int // indexes of the diff's ops
}

// generate makes the text that belongs below a directive.
func (r *repo) generate(p *page, d *directive) (block, error) {
	switch d.verb {
	case "code":
		return r.codeBlock(p, d)
	case "diff":
		return r.diffBlock(p, d)
	}
	tables := map[string]func(string) ([]string, error){
		"table": r.stepTable, "diffs": r.diffTable, "experiments": r.experimentRows,
	}
	rows, err := tables[d.verb](p.file)
	// Between blank lines every Markdown parser sees a table.
	return block{lines: append(append([]string{""}, rows...), "")}, err
}

// target is the path of the file that a directive of the page names.
func (r *repo) target(p *page, d *directive) (string, error) {
	file := path.Clean(d.file)
	if s := r.lessonOf(p.file); s != nil {
		file = path.Join(s.name, d.file)
	}
	if !filepath.IsLocal(file) {
		return "", fmt.Errorf("%s is not in the repository", d.file)
	}
	return file, nil
}

// lineRange is a part of a file; lines are counted from 1.
type lineRange struct{ from, to int }

func (r *repo) codeBlock(p *page, d *directive) (block, error) {
	file, err := r.target(p, d)
	if err != nil {
		return block{}, err
	}
	src, err := r.source(file)
	if err != nil {
		return block{}, err
	}
	if !src.text() || len(src.lines) == 0 {
		return block{}, fmt.Errorf("%s has no text", d.file)
	}
	part, err := src.part(d)
	if err != nil {
		return block{}, err
	}
	fence := "```"
	excerpt := src.lines[part.from-1 : part.to]
	for strings.Contains(strings.Join(excerpt, "\n"), fence) {
		fence += "`"
	}
	b := block{lines: []string{src.caption(p, d, part), "", fence + language(file)}}
	b.lines = append(append(b.lines, excerpt...), fence)
	return b, r.coverRange(&b, r.lessonOf(p.file), file, part)
}

// part finds the lines that a code directive asks for.
func (s *source) part(d *directive) (lineRange, error) {
	part := lineRange{1, len(s.lines)}
	if d.decl != "" {
		at := declNamed(s.decls, d.decl)
		if at < 0 {
			return part, fmt.Errorf("no declaration %s in %s: it has %s",
				d.decl, d.file, declList(s.decls))
		}
		part = lineRange{s.decls[at].from, s.decls[at].to}
	}
	if d.from == nil {
		return part, nil
	}
	var err error
	if part.from, err = s.match(d.from, part); err != nil {
		return part, err
	}
	if d.to == nil {
		part.to = part.from
		return part, nil
	}
	part.to, err = s.match(d.to, part)
	return part, err
}

// match finds the first line in the range that the pattern matches.
func (s *source) match(pattern *regexp.Regexp, in lineRange) (int, error) {
	for line := in.from; line <= in.to; line++ {
		if pattern.MatchString(s.lines[line-1]) {
			return line, nil
		}
	}
	return 0, fmt.Errorf("no line matches /%s/ in lines %d to %d", pattern, in.from, in.to)
}

// caption names the file, as a link, and the declaration.
func (s *source) caption(p *page, d *directive, part lineRange) string {
	caption := fmt.Sprintf("[`%s`](%s)", d.file, relativeLink(p.file, s.file))
	name := d.decl
	if at := declAt(s.decls, part.from); at >= 0 && name == "" && d.from != nil {
		name = s.decls[at].names[0]
	}
	if name == "" {
		return caption + ":"
	}
	if name != "imports" && name != "package" {
		name = "`" + name + "`"
	}
	if d.from != nil {
		name = "in " + name
	}
	return caption + ", " + name + ":"
}

// relativeLink leads from one file of the repository to another.
func relativeLink(from, to string) string {
	link, err := filepath.Rel(path.Dir(from), to)
	if err != nil { // both are relative to the root
		return to
	}
	return filepath.ToSlash(link)
}

// language is what a fence calls the language of the file.
func language(file string) string {
	byName := map[string]string{
		".go": "go", ".c": "c", ".h": "c", ".s": "asm", ".sh": "sh", ".py": "python",
		".json": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".md": "markdown",
		"Makefile": "make", "Vagrantfile": "ruby", "Dockerfile": "dockerfile",
	}
	if lang := byName[path.Base(file)]; lang != "" {
		return lang
	}
	if lang := byName[path.Ext(file)]; lang != "" {
		return lang
	}
	return "text"
}

// coverRange notes which new lines of the step a code block of its lesson shows.
func (r *repo) coverRange(b *block, s *step, file string, part lineRange) error {
	if s == nil || r.stepOf(file) != s {
		return nil
	}
	diffs, err := r.diffs(s)
	if err != nil {
		return err
	}
	for _, fd := range diffs {
		if fd.new == nil || fd.new.file != file {
			continue
		}
		b.diff = fd
		for i, o := range fd.ops {
			if o.kind == '+' && part.from <= o.new && o.new <= part.to {
				b.ops = append(b.ops, i)
			}
		}
	}
	return nil
}

func (r *repo) diffBlock(p *page, d *directive) (block, error) {
	file, err := r.target(p, d)
	if err != nil {
		return block{}, err
	}
	s := r.stepOf(file)
	if s == nil {
		return block{}, fmt.Errorf("%s is in no step", d.file)
	}
	diffs, err := r.diffs(s)
	if err != nil {
		return block{}, err
	}
	for _, fd := range diffs {
		if path.Join(s.name, fd.name) != file {
			continue
		}
		hunks := fd.hunks()
		if d.decl != "" {
			if hunks, err = fd.declHunks(d.decl); err != nil {
				return block{}, err
			}
		}
		return fd.block(hunks), nil
	}
	if _, err := r.source(file); err != nil {
		return block{}, err
	}
	return block{}, errors.New(d.file + " has not changed since the step before")
}

func (d *fileDiff) block(hunks []hunk) block {
	text := strings.Join(append(d.header(), d.hunkLines(hunks)...), "\n")
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	b := block{diff: d}
	b.lines = append(b.lines, fence+"diff")
	b.lines = append(b.lines, strings.Split(text, "\n")...)
	b.lines = append(b.lines, fence)
	for _, h := range hunks {
		b.ops = append(b.ops, h.ops...)
	}
	return b
}
