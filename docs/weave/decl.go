package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// decl is a declaration at the top level of a Go file, with its doc comment.
type decl struct {
	kind string // func, type, const, var, imports or package
	// names are the names it declares; a method is Type.Method.
	names    []string
	from, to int // lines, counted from 1
}

// label is the declaration as a reader says it.
func (d decl) label() string {
	if d.kind == "imports" || d.kind == "package" {
		return d.kind
	}
	return d.kind + " " + d.names[0]
}

func (d decl) lines() int { return d.to - d.from + 1 }

// declarations lists what a Go file declares, in order. A file with syntax errors has
// no declarations: its lines are then shown as those of any text.
func declarations(text []byte) []decl {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil
	}
	line := func(p token.Pos) int { return fset.PositionFor(p, false).Line }
	// The build tags and the package comment are above the clause.
	clause := decl{kind: "package", names: []string{"package"}, from: 1, to: line(file.Name.Pos())}
	decls := []decl{clause}
	for _, d := range file.Decls {
		next := newDecl(d)
		next.to = line(d.End() - 1)
		next.from = line(d.Pos())
		if doc := docOf(d); doc != nil {
			next.from = line(doc.Pos())
		}
		last := &decls[len(decls)-1]
		if next.kind == "imports" && last.kind == "imports" {
			last.to = next.to
			continue
		}
		decls = append(decls, next)
	}
	return decls
}

func newDecl(d ast.Decl) decl {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return decl{kind: "func", names: []string{funcName(d)}}
	case *ast.GenDecl:
		if d.Tok == token.IMPORT {
			return decl{kind: "imports", names: []string{"imports"}}
		}
		return decl{kind: d.Tok.String(), names: specNames(d.Specs)}
	}
	return decl{kind: "?", names: []string{"?"}}
}

func docOf(d ast.Decl) *ast.CommentGroup {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return d.Doc
	case *ast.GenDecl:
		return d.Doc
	}
	return nil
}

func specNames(specs []ast.Spec) []string {
	var names []string
	for _, s := range specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			names = append(names, s.Name.Name)
		case *ast.ValueSpec:
			for _, name := range s.Names {
				names = append(names, name.Name)
			}
		}
	}
	if names == nil {
		return []string{"()"}
	}
	return names
}

// funcName is the function's name, or Type.Method.
func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
			continue
		case *ast.ParenExpr:
			t = x.X
			continue
		case *ast.IndexExpr:
			t = x.X
			continue
		case *ast.IndexListExpr:
			t = x.X
			continue
		case *ast.Ident:
			return x.Name + "." + d.Name.Name
		}
		return d.Name.Name
	}
}

// declNamed finds the declaration of a name, or -1.
func declNamed(decls []decl, name string) int {
	return slices.IndexFunc(decls, func(d decl) bool { return slices.Contains(d.names, name) })
}

// declAt finds the declaration in which a line is, or -1.
func declAt(decls []decl, line int) int {
	return slices.IndexFunc(decls, func(d decl) bool { return d.from <= line && line <= d.to })
}

// declList names the declarations for an error message.
func declList(decls []decl) string {
	var names []string
	for _, d := range decls {
		names = append(names, d.names...)
	}
	if names == nil {
		return "no Go declarations"
	}
	return strings.Join(names, ", ")
}
