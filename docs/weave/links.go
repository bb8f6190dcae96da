package main

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var (
	externalLink = regexp.MustCompile(`^(?:[a-zA-Z][a-zA-Z0-9+.-]*:|//)`)
	lineAnchor   = regexp.MustCompile(`^L(\d+)(?:-L(\d+))?$`)
)

// checkLinks finds links of the page that lead nowhere. What is not in the repository
// is not looked at.
func (r *repo) checkLinks(p *page, problems *problemList) error {
	for _, l := range p.parse().links {
		if externalLink.MatchString(l.dest) {
			continue
		}
		wrong, err := r.checkLink(p, l.dest)
		if err != nil {
			return err
		}
		if wrong != "" {
			problems.add(p.file, l.line, "dead link %s: %s", l.dest, wrong)
		}
	}
	return nil
}

// checkReads finds tests that name, for whom they fail, a part of a lesson that is not
// there: the line "# read: FILE#ANCHOR", from the repository's root.
func (r *repo) checkReads(problems *problemList) error {
	root := &page{file: "README.md"}
	for _, file := range r.files {
		if !strings.HasPrefix(file, "final/tests/") || path.Ext(file) != ".txtar" {
			continue
		}
		src, err := r.source(file)
		if err != nil {
			return err
		}
		for i, line := range src.lines {
			dest, ok := strings.CutPrefix(line, "# read: ")
			if !ok {
				continue
			}
			if wrong, err := r.checkLink(root, dest); err != nil {
				return err
			} else if wrong != "" {
				problems.add(file, i+1, "dead link %s: %s", dest, wrong)
			}
		}
	}
	return nil
}

// checkLink says what is wrong with a link; nothing if it is good.
func (r *repo) checkLink(p *page, dest string) (string, error) {
	u, err := url.Parse(dest)
	if err != nil {
		return "it is not well formed", nil
	}
	if dest == "" || dest == "#" {
		return "it is empty", nil
	}
	file := p.file
	switch {
	case strings.HasPrefix(u.Path, "/"):
		file = path.Clean(u.Path[1:])
	case u.Path != "":
		file = path.Join(path.Dir(p.file), u.Path)
	}
	if !filepath.IsLocal(filepath.FromSlash(file)) {
		return "it leads out of the repository", nil
	}
	info, err := os.Stat(r.abs(file))
	if err != nil {
		return "there is no " + file, nil
	}
	if !r.has(file) {
		return file + " is here, but git ignores it", nil
	}
	if u.Fragment == "" {
		return "", nil
	}
	if info.IsDir() {
		file = path.Join(file, lessonFile)
	}
	if !isFile(r.abs(file)) {
		return "there is no " + file, nil
	}
	return r.checkAnchor(file, u.Fragment)
}

func (r *repo) checkAnchor(file, anchor string) (string, error) {
	if m := lineAnchor.FindStringSubmatch(anchor); m != nil {
		return r.checkLine(file, m)
	}
	if !strings.HasSuffix(file, ".md") {
		return file + " has no headings", nil
	}
	p, err := r.page(file)
	if err != nil {
		return "", err
	}
	if !p.parse().ids[anchor] {
		return "there is no such heading in " + file, nil
	}
	return "", nil
}

// checkLine checks an anchor such as L10 or L10-L20.
func (r *repo) checkLine(file string, m []string) (string, error) {
	src, err := r.source(file)
	if err != nil {
		return "", err
	}
	for _, digits := range m[1:] {
		n, err := strconv.Atoi(digits)
		if digits != "" && (err != nil || n < 1 || n > len(src.lines)) {
			return file + " has no such line", nil
		}
	}
	return "", nil
}
