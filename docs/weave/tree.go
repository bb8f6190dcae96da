package main

import (
	"html"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// tree is what a Markdown parser finds in a page.
type tree struct {
	headings []heading
	links    []link
	ids      map[string]bool // anchors: of headings, and those written as HTML
	title    string          // the first paragraph after the first heading, as written
	fences   []mdFence
	comments []int // lines of comments for weave within other text
}

type heading struct {
	line, level int
	text, slug  string
}

type link struct {
	line int
	dest string
}

type mdFence struct {
	line int
	lang string
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.Table, extension.Footnote)).Parser()

// parse parses the page, once.
func (p *page) parse() *tree {
	if p.tree == nil {
		b := &treeBuilder{page: p, slugs: map[string]int{}}
		b.ids = map[string]bool{}
		b.build()
		p.tree = &b.tree
	}
	return p.tree
}

type treeBuilder struct {
	tree
	page   *page
	src    []byte
	starts []int          // offsets of the lines
	slugs  map[string]int // how often each has been given
}

func (b *treeBuilder) build() {
	lines := append([]string{}, b.page.lines...)
	for i := range frontMatter(lines) {
		lines[i] = "" // the parser would take its end for an underlined heading
	}
	b.src = []byte(strings.Join(lines, "\n"))
	offset := 0
	for _, line := range lines {
		b.starts = append(b.starts, offset)
		offset += len(line) + 1
	}
	root := markdown.Parse(text.NewReader(b.src))
	// The visitor returns no error.
	_ = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			b.visit(n)
		}
		return ast.WalkContinue, nil
	})
}

// line is the line on which the node begins, or that of the block around it.
func (b *treeBuilder) line(n ast.Node) int {
	for ; n != nil; n = n.Parent() {
		if n.Pos() >= 0 {
			return sort.SearchInts(b.starts, n.Pos()+1)
		}
	}
	return 1
}

func (b *treeBuilder) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.Heading:
		b.heading(n)
	case *ast.Paragraph:
		if b.title == "" && len(b.headings) == 1 {
			b.title = strings.TrimSpace(string(n.Lines().Value(b.src)))
		}
	case *ast.Link:
		b.links = append(b.links, link{b.line(n), string(n.Destination)})
	case *ast.Image:
		b.links = append(b.links, link{b.line(n), string(n.Destination)})
	case *ast.FencedCodeBlock:
		b.fences = append(b.fences, mdFence{b.line(n), string(n.Language(b.src))})
	case *ast.HTMLBlock:
		raw := string(n.Lines().Value(b.src))
		if n.HasClosure() {
			raw += string(n.ClosureLine.Value(b.src))
		}
		b.html(b.line(n), raw)
	case *ast.RawHTML:
		raw := string(n.Segments.Value(b.src))
		if almostDirective.MatchString(raw) {
			b.comments = append(b.comments, b.line(n))
		}
		b.html(b.line(n), raw)
	}
}

func (b *treeBuilder) heading(n *ast.Heading) {
	h := heading{line: b.line(n), level: n.Level, text: strings.TrimSpace(b.text(n))}
	h.slug = b.slug(h.text)
	b.headings = append(b.headings, h)
}

// text is what a reader sees of a node.
func (b *treeBuilder) text(n ast.Node) string {
	var s strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			value := c.Segment.Value(b.src)
			if n.Kind() != ast.KindCodeSpan {
				value = []byte(html.UnescapeString(string(util.UnescapePunctuations(value))))
			}
			s.Write(value)
			if c.SoftLineBreak() {
				s.WriteByte(' ')
			}
		case *ast.String:
			s.Write(c.Value)
		case *ast.AutoLink:
			s.Write(c.Label(b.src))
		case *ast.Image, *ast.RawHTML:
		default:
			s.WriteString(b.text(c))
		}
	}
	return s.String()
}

// slug is the heading's anchor as GitHub makes it: letters, digits, "-" and "_" in
// lower case, "-" for each blank, and a number when it was given before.
func (b *treeBuilder) slug(text string) string {
	base := strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c == '-', c == '_', unicode.IsLetter(c), unicode.IsNumber(c), unicode.IsMark(c):
			return unicode.ToLower(c)
		}
		return -1
	}, text)
	slug := base
	for {
		if _, taken := b.slugs[slug]; !taken {
			break
		}
		b.slugs[base]++
		slug = base + "-" + strconv.Itoa(b.slugs[base])
	}
	b.slugs[slug] = 0
	b.ids[slug] = true
	return slug
}

var (
	htmlLink = regexp.MustCompile(`(?i)\s(?:href|src)\s*=\s*["']([^"']*)["']`)
	htmlID   = regexp.MustCompile(`(?i)\s(?:id|name)\s*=\s*["']([^"']*)["']`)
)

// html finds links and anchors that are written as HTML.
func (b *treeBuilder) html(line int, text string) {
	if strings.HasPrefix(strings.TrimSpace(text), "<!--") {
		return
	}
	for _, m := range htmlLink.FindAllStringSubmatch(text, -1) {
		b.links = append(b.links, link{line, html.UnescapeString(m[1])})
	}
	for _, m := range htmlID.FindAllStringSubmatch(text, -1) {
		b.ids[m[1]] = true
	}
}

// headingAbove is the last heading above the line, if there is one.
func (t *tree) headingAbove(line int) (heading, bool) {
	found := heading{}
	for _, h := range t.headings {
		if h.line < line {
			found = h
		}
	}
	return found, found.line > 0
}
