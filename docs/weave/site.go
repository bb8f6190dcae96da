package main

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// siteData is what the web site is made from, beside the files themselves.
type siteData struct {
	Pages []string `json:"pages"` // the Markdown files
	// Linked are the files and folders that pages link to and that are neither pages
	// nor the code of a step. Under each folder stands what is in it.
	Linked map[string][]string  `json:"linked"`
	Steps  []siteStep           `json:"steps"`
	Pairs  []sitePair           `json:"pairs"` // every two steps, and nothing with each
	Refs   map[string][]siteRef `json:"refs"`  // by Markdown file, in the order of lines
}

// siteStep is a step; Lead is the sentence below the lesson's title, as Markdown.
type siteStep struct {
	Number int      `json:"number"`
	Name   string   `json:"name"`
	Title  string   `json:"title"`
	Lead   string   `json:"lead"`
	Code   []string `json:"code"` // within the step's folder
}

// sitePair is the difference between two steps; From 0 is no step.
type sitePair struct {
	From  int        `json:"from"`
	To    int        `json:"to"`
	Files []siteFile `json:"files"`
}

// siteFile is a file that two steps do not share; Old or New is empty where it is not.
type siteFile struct {
	Name    string       `json:"name"`
	Old     string       `json:"old"`
	New     string       `json:"new"`
	Added   int          `json:"added"`
	Removed int          `json:"removed"`
	Changes []siteChange `json:"changes"`
}

// siteChange replaces Removed lines from line Old on by Added lines from line New on,
// all of one declaration and explained in one place.
type siteChange struct {
	Old     int    `json:"old"`
	Removed int    `json:"removed"`
	New     int    `json:"new"`
	Added   int    `json:"added"`
	Label   string `json:"label"`
	Ref     string `json:"ref,omitempty"` // of the later step's lesson
}

// siteRef is a block of a lesson that explains a part of a diff.
type siteRef struct {
	Line    int    `json:"line"` // of its directive
	ID      string `json:"id"`   // unique in the page
	Heading string `json:"heading"`
	Step    int    `json:"step"` // whose diff it is
	// Where in the diff: the file, and its first line that the block shows.
	File string `json:"file"`
	Old  int    `json:"old"` // 0 if New is given
	New  int    `json:"new"`

	block block
}

func siteCommand(c *call) error {
	if err := c.parse(flags("site"), 0, 0); err != nil {
		return err
	}
	r, err := openRepo(c.dir)
	if err != nil {
		return err
	}
	data, err := r.siteData()
	if err != nil {
		return err
	}
	return json.NewEncoder(c.stdout).Encode(data)
}

func (r *repo) siteData() (*siteData, error) {
	data := &siteData{Pages: r.markdown(), Refs: map[string][]siteRef{}}
	var err error
	if data.Linked, err = r.linked(); err != nil {
		return nil, err
	}
	for _, s := range r.steps {
		p, err := r.page(s.lesson())
		if err != nil {
			return nil, err
		}
		code, err := r.code(s)
		if err != nil {
			return nil, err
		}
		if data.Refs[p.file], err = r.siteRefs(p); err != nil {
			return nil, err
		}
		t := p.parse()
		if len(t.headings) == 0 {
			return nil, fmt.Errorf("%s has no heading", p.file)
		}
		data.Steps = append(data.Steps,
			siteStep{s.number, s.name, t.headings[0].text, t.title, code})
	}
	for i, to := range r.steps {
		for _, from := range append([]*step{nil}, r.steps[:i]...) {
			pair, err := r.sitePair(from, to, data.Refs[to.lesson()])
			if err != nil {
				return nil, err
			}
			data.Pairs = append(data.Pairs, pair)
		}
	}
	return data, nil
}

// linked finds what siteData.Linked says.
func (r *repo) linked() (map[string][]string, error) {
	linked := map[string][]string{}
	for _, from := range r.markdown() {
		p, err := r.page(from)
		if err != nil {
			return nil, err
		}
		for _, l := range p.parse().links {
			dest, _, _ := strings.Cut(l.dest, "#")
			if dest == "" || externalLink.MatchString(dest) || strings.HasSuffix(dest, ".md") {
				continue
			}
			name := path.Join(path.Dir(from), dest)
			s := r.stepOf(name)
			if s != nil && (name == s.name || isCode(name)) || path.Ext(name) == ".svg" {
				continue
			}
			linked[name] = r.within(name)
		}
	}
	return linked, nil
}

// within lists the files of a folder and of the folders in it.
func (r *repo) within(folder string) []string {
	files := []string{}
	for _, file := range r.files {
		if strings.HasPrefix(file, folder+"/") {
			files = append(files, file)
		}
	}
	return files
}

// siteRefs lists the page's blocks that show changes.
func (r *repo) siteRefs(p *page) ([]siteRef, error) {
	refs := []siteRef{}
	taken := map[string]int{}
	for _, d := range p.directives {
		if d.verb != "code" && d.verb != "diff" {
			continue
		}
		b, err := r.generate(p, d)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", p.file, d.line, err)
		}
		ref := siteRef{Line: d.line, block: b}
		if !ref.find() {
			continue
		}
		ref.Step = r.stepOf(b.diff.new.file).number
		ref.ID = strings.TrimSuffix("in-go-"+d.file+"-"+d.decl, "-")
		taken[ref.ID]++
		if n := taken[ref.ID]; n > 1 {
			ref.ID = fmt.Sprintf("%s-%d", ref.ID, n)
		}
		if h, ok := p.parse().headingAbove(d.line); ok {
			ref.Heading = h.text
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// find notes the first changed line that the block shows, if there is one.
func (ref *siteRef) find() bool {
	d := ref.block.diff
	if d == nil || d.new == nil {
		return false
	}
	for _, i := range ref.block.ops {
		if o := d.ops[i]; o.changed() && !o.blank() {
			ref.File, ref.Old, ref.New = d.name, o.old, o.new
			return true
		}
	}
	return false
}

// sitePair compares two steps; the first may be nil. Where the second follows the
// first, the changes are those that its lesson, with these refs, explains.
func (r *repo) sitePair(from, to *step, refs []siteRef) (sitePair, error) {
	pair := sitePair{To: to.number, Files: []siteFile{}}
	var before map[string]*source
	if from != nil {
		pair.From = from.number
		var err error
		if before, err = r.codeOf(from); err != nil {
			return pair, err
		}
	}
	after, err := r.codeOf(to)
	if err != nil {
		return pair, err
	}
	diffs, err := diffSources(before, after)
	if from == to.prev { // the same, but these are what the refs know
		diffs, err = r.diffs(to)
	}
	if err != nil {
		return pair, err
	}
	for _, d := range diffs {
		f := siteFile{Name: d.name, Added: d.added, Removed: d.removed}
		if d.old != nil {
			f.Old = d.old.file
		}
		if d.new != nil {
			f.New = d.new.file
		}
		f.Changes = d.siteChanges(d.explained(refs))
		pair.Files = append(pair.Files, f)
	}
	return pair, nil
}

// explained gives each changed line the ID of the first block that shows it; blank
// lines between blocks that of the line above.
func (d *fileDiff) explained(refs []siteRef) []string {
	ids := make([]string, len(d.ops))
	for _, ref := range refs {
		if ref.block.diff != d {
			continue
		}
		for _, i := range ref.block.ops {
			if ids[i] == "" {
				ids[i] = ref.ID
			}
		}
	}
	last := len(ids) - 1
	for i := range ids {
		d.inherit(ids, i, i-1)
	}
	for i := range ids { // a blank line above the first
		d.inherit(ids, last-i, last-i+1)
	}
	return ids
}

// inherit gives a changed blank line the ID of its neighbour.
func (d *fileDiff) inherit(ids []string, i, neighbour int) {
	if neighbour < 0 || neighbour >= len(ids) || ids[i] != "" {
		return
	}
	if o := d.ops[i]; o.changed() && o.blank() && d.ops[neighbour].changed() {
		ids[i] = ids[neighbour]
	}
}

// siteChanges are the changed lines, cut where the declaration changes or its explanation.
func (d *fileDiff) siteChanges(ids []string) []siteChange {
	changes := []siteChange{}
	owners := d.withBlanks()
	o, n := 1, 1 // the next lines
	for i, op := range d.ops {
		if op.changed() {
			follows := i > 0 && d.ops[i-1].changed() && owners[i] == owners[i-1] &&
				ids[i] == ids[i-1] && (op.kind == '+' || d.ops[i-1].kind == '-')
			if !follows {
				changes = append(changes,
					siteChange{Old: o, New: n, Label: d.label(owners[i]), Ref: ids[i]})
			}
			last := &changes[len(changes)-1]
			if op.kind == '-' {
				last.Removed++
			} else {
				last.Added++
			}
		}
		if op.kind != '+' {
			o++
		}
		if op.kind != '-' {
			n++
		}
	}
	return changes
}
