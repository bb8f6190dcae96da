package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// source is a file of code.
type source struct {
	file  string // as it is called: relative to the repository's root
	path  string // absolute
	lines []string
	decls []decl // of a Go file without syntax errors
	nul   bool   // it is no text
}

// source reads a file, once.
func (r *repo) source(file string) (*source, error) {
	if src, ok := r.sources[file]; ok {
		return src, nil
	}
	src, err := readSource(r.abs(file), file)
	if notExist(err) {
		return nil, fmt.Errorf("there is no %s", file)
	}
	if err != nil {
		return nil, err
	}
	r.sources[file] = src
	return src, nil
}

// readSource reads the file at the path and calls it name.
func readSource(path, name string) (*source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	src := &source{file: name, path: path, lines: splitLines(string(data))}
	src.nul = bytes.IndexByte(data, 0) >= 0
	if strings.HasSuffix(name, ".go") {
		src.decls = declarations(data)
	}
	return src, nil
}

func (s *source) text() bool { return !s.nul }

// splitLines is the text's lines without their ends.
func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
