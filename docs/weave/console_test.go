package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseConsole(t *testing.T) {
	got, err := parseConsole(strings.Split("# one\nout\n\n> out\n$ two <<X\n> # in\n>\n> X\n# three\n#", "\n"), 5)
	if err != nil {
		t.Fatal(err)
	}
	want := []command{
		{5, false, "one", []string{"out", "", "> out"}, 6},
		{9, true, "two <<X\n# in\n\nX", nil, 13},
		{13, false, "three", []string{"#"}, 14},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := parseConsole([]string{"out", "# one"}, 5); err == nil {
		t.Error("output before the first command: got no error")
	}
}

func TestMatchLine(t *testing.T) {
	tests := []struct {
		want, got string
		ok        bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a…", "a", true}, {"a…", "abc", true}, {"…c", "abc", true},
		{"a…c", "abc", true}, {"a…c", "ac", true}, {"a…c", "abcd", false}, {"a…a", "a", false},
		{"a…b…c", "a1b2c", true}, {"a…b…c", "acb", false}, {"…", "", true}, {"a … b", "a  b", true},
		{"a…b…b", "ab", false}, {"a…bc…c", "abc", false}, {"uid=…(me)", "uid=10(me)", true},
	}
	for _, tt := range tests {
		if ok := matchLine(tt.want, tt.got); ok != tt.ok {
			t.Errorf("%q, %q: got %v", tt.want, tt.got, ok)
		}
	}
}

func TestAlign(t *testing.T) {
	tests := []struct {
		want, got string // lines, separated by blanks
		ok        bool
		kept      string
	}{
		{"a b", "a b", true, "a b"},
		{"", "", true, ""},
		{"… ", "", true, "…"},
		{"a … z", "a b c z", true, "a … z"},
		{"a … z", "a z", true, "a … z"},
		{"… a …", "x a y", true, "… a …"},
		{"… b", "a b c b", true, "… b"},
		{"p…s b", "ps b", true, "p…s b"},
		{"a", "b", false, "b"},
		{"a", "", false, ""},
		{"", "a", false, "a"},
		{"a b c", "a x c", false, "a x c"},
		{"a b", "a b c", false, "a b c"},
		{"a c", "a b c", false, "a b c"},
		{"a … z", "a b y", false, "a … y"},
		{"a … z", "a", false, "a …"},
		{"p… b", "pid x", false, "p… x"},
		{"a …", "b c d", false, "b …"},
	}
	for _, tt := range tests {
		want, got := strings.Fields(tt.want), strings.Fields(tt.got)
		pairs, ok := align(want, got)
		kept := strings.Join(keep(want, got, pairs), " ")
		if ok != tt.ok || kept != tt.kept {
			t.Errorf("want %q, got %q: %v, kept %q; want %v, kept %q", tt.want, tt.got, ok, kept, tt.ok, tt.kept)
		}
		if again, ok := align(strings.Fields(kept), got); !ok {
			t.Errorf("want %q, got %q: kept %q does not match: %v", tt.want, tt.got, kept, again)
		}
	}
}

func TestTrimOutput(t *testing.T) {
	got := trimOutput([]string{"", "a \t", " b\r", "", " "})
	if want := []string{"", "a", " b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOutputDiff(t *testing.T) {
	want, got := []string{"a", "b", "c", "…"}, []string{"a", "x", "y", "e"}
	pairs, _ := align(want, got)
	lines := strings.Join(outputDiff(want, got, pairs), "\n")
	if lines != "  a\n- b\n- c\n+ x\n+ y\n  …" {
		t.Errorf("got\n%s", lines)
	}
}

// FuzzPage feeds the readers of Markdown and of directives what they may meet.
func FuzzPage(f *testing.F) {
	seeds := []string{
		"", "\n", "---\n", "---\na: b\n---\n# x\n", lessonWith(lessonTwoBlocks), "```", "```console\n# a\n> b\n```\n",
		"~~~\n```\n~~~\n", "  ```console\n  # ls\n x\n  ```", "<!-- weave: code a /\\/ -->", "<!-- weave: -->",
		"<!-- weave: end -->\n<!-- weave: table -->\n<!-- weave: end -->\n", "<!-- E01 E02, E03 -->",
		"<!-- weave: without \"Break it\" because x -->", "> ```console\n> # x\n", "| a |\n|--|\n| [x](y) |\n",
		"[a]: b\n\n[a] ![](c#d) <a href=x>", "# a\n# a\n# a-1\n", "<!-- weave: norun because -->\n\n```console\n```",
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := scanPage("x.md", text)
		p.parse()
		blocks, _ := p.consoles()
		for _, b := range blocks {
			for _, c := range b.commands {
				if c.line < 1 || c.wantFrom+len(c.want) > len(p.lines) {
					t.Errorf("command %+v is outside of %d lines", c, len(p.lines))
				}
			}
		}
		for _, d := range p.directives {
			if d.end != 0 && (d.end <= d.line || d.end > len(p.lines)) {
				t.Errorf("directive %+v has its end outside of %d lines", d, len(p.lines))
			}
		}
		var problems problemList
		checkSections(p, &problems)
		checkConsole(p, &problems)
	})
}
