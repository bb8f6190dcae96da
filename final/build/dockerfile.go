//go:build linux

package build

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"minidocker/final/engine"
)

// dockerfile is a Dockerfile that was parsed.
type dockerfile struct {
	name   string
	text   []byte
	escape rune
	global []instructions.ArgCommand // before the first FROM
	stages []instructions.Stage
}

// maxDockerfile is how large one may be, in bytes.
const maxDockerfile = 4 << 20

func parse(text []byte, name string) (*dockerfile, error) {
	f := &dockerfile{name: name, text: text}
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d that are possible", name, len(text),
			maxDockerfile)
	}
	if len(text) == 0 {
		return nil, &engine.Error{Kind: engine.Invalid, Err: fmt.Errorf("the Dockerfile (%s) cannot be "+
			"empty", name)}
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, f.wrong(err, nil)
	}
	f.escape = parsed.EscapeToken
	if f.stages, f.global, err = instructions.Parse(parsed.AST, nil); err != nil {
		return nil, f.wrong(err, nil)
	}
	if len(f.stages) == 0 {
		return nil, f.wrong(errors.New("dockerfile contains no stages to build"), nil)
	}
	names := map[string]bool{}
	for _, s := range f.stages {
		if s.Name == "scratch" || s.Name == "context" {
			return nil, f.wrong(fmt.Errorf("stage name %q is reserved", s.Name), s.Location)
		}
		if names[s.Name] {
			return nil, f.wrong(fmt.Errorf("duplicate name %s", s.Name), s.Location)
		}
		names[s.Name] = s.Name != ""
	}
	return f, nil
}

// stageCalled is the place of a stage that has a name, or a number; -1 if there is none. before
// is where numbers end.
func (f *dockerfile) stageCalled(name string, before int) int {
	i := slices.IndexFunc(f.stages, func(s instructions.Stage) bool {
		return s.Name != "" && strings.EqualFold(s.Name, name)
	})
	if n, err := strconv.Atoi(name); i < 0 && err == nil && n >= 0 && n < before {
		return n
	}
	return i
}

// expand replaces the variables in a word.
func (f *dockerfile) expand(word string, env []string) (string, error) {
	word, _, err := shell.NewLex(f.escape).ProcessWord(word, shell.EnvsFromSlice(env))
	return word, err
}

// expander is expand for a command's words.
func (f *dockerfile) expander(env []string) func(string) (string, error) {
	lex, variables := shell.NewLex(f.escape), shell.EnvsFromSlice(env)
	return func(word string) (string, error) {
		word, _, err := lex.ProcessWord(word, variables)
		return word, err
	}
}

// expandRaw expands what here-documents say, where quotes are only quotes.
func (f *dockerfile) expandRaw(env []string) func(string) (string, error) {
	lex, variables := shell.NewLex(f.escape), shell.EnvsFromSlice(env)
	lex.RawQuotes, lex.RawEscapes = true, true
	return func(word string) (string, error) {
		word, _, err := lex.ProcessWord(word, variables)
		return word, err
	}
}

// Error is what is wrong with an instruction.
type Error struct {
	Excerpt string // the lines of the Dockerfile
	Output  string // the last of what the instruction has printed
	Err     error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// wrong says where in the Dockerfile an error is. Without a location it is the one that the
// parser's error has.
func (f *dockerfile) wrong(err error, at []parser.Range) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return err // further in
	}
	if found := (*parser.LocationError)(nil); errors.As(err, &found) && len(found.Locations) > 0 {
		at = found.Locations[0]
	}
	if len(at) == 0 {
		at = lineIn(err)
	}
	kind := engine.Code(err)
	if kind == engine.Internal {
		kind = engine.Invalid
	}
	return &engine.Error{Kind: kind, Err: &Error{Excerpt: f.excerpt(at), Err: err}}
}

var errorLine = regexp.MustCompile(`on line (\d+)`)

// lineIn finds the line that an error's text speaks of.
func lineIn(err error) []parser.Range {
	match := errorLine.FindStringSubmatch(err.Error())
	if match == nil {
		return nil
	}
	n, err := strconv.Atoi(match[1])
	if err != nil {
		return nil
	}
	at := parser.Position{Line: n}
	return []parser.Range{{Start: at, End: at}}
}

// excerpt are lines of the Dockerfile with two more before and after, as Docker prints them.
func (f *dockerfile) excerpt(at []parser.Range) string {
	if len(at) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSuffix(string(f.text), "\n"), "\n")
	first, last := at[0].Start.Line, at[len(at)-1].End.Line
	if first < 1 || first > len(lines) {
		return ""
	}
	last = min(max(last, first), len(lines))
	var text strings.Builder
	fmt.Fprintf(&text, "%s:%d\n--------------------\n", f.name, first)
	for n := max(first-2, 1); n <= min(last+2, len(lines)); n++ {
		mark := "   "
		if n >= first && n <= last {
			mark = ">>>"
		}
		fmt.Fprintf(&text, "%4d | %s %s\n", n, mark, strings.TrimSuffix(lines[n-1], "\r"))
	}
	text.WriteString("--------------------\n")
	return text.String()
}
