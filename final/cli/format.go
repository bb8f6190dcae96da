//go:build linux

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
)

// printer prints the rows of a list: as a table, by a template, or as JSON, a line each. Rows are
// structs, of which header is one as well: its fields are what stands above the columns.
type printer[T any] struct {
	out    io.Writer
	format string // "", "table", "table TEMPLATE", "json", TEMPLATE
	table  string // the template of the table
	header T
}

func (p *printer[T]) print(rows []T) error {
	format := p.format
	switch format {
	case "json", "{{json .}}":
		encoder := json.NewEncoder(p.out)
		encoder.SetEscapeHTML(false)
		for _, row := range rows {
			if err := encoder.Encode(row); err != nil {
				return err
			}
		}
		return nil
	case "", "table":
		format = "table " + p.table
	}
	text, isTable := strings.CutPrefix(format, "table ")
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	if !isTable {
		return lines(p.out, t, rows)
	}
	w := tabwriter.NewWriter(p.out, 10, 1, 3, ' ', 0)
	if err := lines(w, t, append([]T{p.header}, rows...)); err != nil {
		return err
	}
	return w.Flush()
}

func lines[T any](w io.Writer, t *template.Template, rows []T) error {
	for _, row := range rows {
		if err := t.Execute(w, row); err != nil {
			return fmt.Errorf("template: %w", err)
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	return nil
}

// parseTemplate reads a template in which, as Docker has it, \t and \n may be written.
func parseTemplate(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %w", err)
	}
	return t, nil
}

// functions are what templates may call.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(v)
		return strings.TrimSuffix(b.String(), "\n"), err
	},
	"join":  strings.Join,
	"split": strings.Split,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
	"truncate": func(s string, n int) string { return s[:min(max(n, 0), len(s))] },
	"println":  fmt.Sprintln,
}

// labels are a row's. In the header the label's name stands for its value.
type labels map[string]string

// Label is one of them, for templates.
func (l labels) Label(name string) string {
	if l == nil {
		return strings.ToUpper(name)
	}
	return l[name]
}

// Print prints the rows of a list by a format; see printer.
func Print[T any](out io.Writer, format, table string, header T, rows []T) error {
	p := printer[T]{out: out, format: format, table: table, header: header}
	return p.print(rows)
}
