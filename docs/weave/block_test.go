package main

import (
	"strings"
	"testing"
)

// rendered is what a directive generates in the lesson of the last of some steps, each
// given as the text of its run.go.
func rendered(t *testing.T, directive string, steps ...string) string {
	t.Helper()
	f := files{"go.mod": "module tiny\n"}
	names := []string{"step01-one", "step02-two"}
	for i, text := range steps {
		if text != "" {
			f[names[i]+"/run.go"] = text
		}
		f[names[i]+"/other.txt"] = "text\n"
	}
	lesson := names[len(steps)-1] + "/README.md"
	f[lesson] = "<!-- weave: " + directive + " -->\n"
	r, err := openRepo(f.write(t))
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.page(lesson)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.problems) > 0 {
		t.Fatal(p.problems)
	}
	b, err := r.generate(p, p.directives[0])
	if err != nil {
		return "error: " + err.Error()
	}
	return strings.Join(b.lines, "\n") + "\n"
}

const shapes = `//go:build linux

// Package shapes is for tests.
package main

import "fmt"

import (
	"os"
)

// sizes are numbers.
const (
	small = 1
	big   = 2 // the most
)

var a, b int

// square has sides.
type square struct {
	// side is in mm.
	side int
}

// area multiplies.
func (s *square) area() int {
	fmt.Println(os.Args)
	return s.side * s.side
}

func free() {}
`

func TestCodeBlock(t *testing.T) {
	t.Parallel()
	const link = "[`run.go`](run.go)"
	tests := []struct{ directive, want string }{
		{"code other.txt", "[`other.txt`](other.txt):\n\n```text\ntext\n```\n"},
		{"code run.go free", link + ", `free`:\n\n```go\nfunc free() {}\n```\n"},
		{"code run.go big", link + ", `big`:\n\n```go\n// sizes are numbers.\nconst (\n\tsmall = 1\n" +
			"\tbig   = 2 // the most\n)\n```\n"},
		{"code run.go b", link + ", `b`:\n\n```go\nvar a, b int\n```\n"},
		{"code run.go square", link + ", `square`:\n\n```go\n// square has sides.\ntype square struct {\n" +
			"\t// side is in mm.\n\tside int\n}\n```\n"},
		{"code run.go square.area /return/", link + ", in `square.area`:\n\n```go\n" +
			"\treturn s.side * s.side\n```\n"},
		{"code run.go /^\\/\\/ square/ /struct/", link + ", in `square`:\n\n```go\n// square has sides.\n" +
			"type square struct {\n```\n"},
		{"code run.go imports", link + ", imports:\n\n```go\nimport \"fmt\"\n\nimport (\n\t\"os\"\n)\n```\n"},
		{"code run.go package", link + ", package:\n\n```go\n//go:build linux\n\n" +
			"// Package shapes is for tests.\npackage main\n```\n"},
		{"code ../step01-one/run.go free", "[`../step01-one/run.go`](run.go), `free`:\n\n" +
			"```go\nfunc free() {}\n```\n"},
		{"code run.go area", "error: no declaration area in run.go: it has package, imports, small, " +
			"big, a, b, square, square.area, free"},
		{"code run.go free /xyz/", "error: no line matches /xyz/ in lines 32 to 32"},
		{"code run.go /free/ /side/", "error: no line matches /side/ in lines 32 to 32"},
		{"code ../.. free", "error: ../.. is not in the repository"},
	}
	for _, tt := range tests {
		if got := rendered(t, tt.directive, shapes); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.directive, got, tt.want)
		}
	}
}

func TestCodeBlock_FenceInside(t *testing.T) {
	t.Parallel()
	text := "package main\n\n// s is\n// ```\nvar s int\n"
	want := "[`run.go`](run.go), `s`:\n\n````go\n// s is\n// ```\nvar s int\n````\n"
	if got := rendered(t, "code run.go s", text); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// body is a function f of n numbered lines, of which some are others.
func body(n int, others map[int]string) string {
	var b strings.Builder
	b.WriteString("func f() {\n")
	for i := range n {
		line := "\tcall(" + strings.Repeat("i", i+1) + ")\n"
		if other, ok := others[i]; ok {
			line = other
		}
		b.WriteString(line)
	}
	b.WriteString("}\n")
	return b.String()
}

func TestDiffBlock(t *testing.T) {
	t.Parallel()
	const head = "--- step01-one/run.go\n+++ step02-two/run.go\n"
	const pack = "package main\n\n"
	tests := []struct {
		name, directive, old, new, want string
	}{
		{"short declaration whole", "diff run.go f",
			pack + "// f is f.\nfunc f() {\n\ta()\n\n\tb()\n\tc()\n\td()\n\te()\n\tf()\n}\n",
			pack + "// f is f.\nfunc f() {\n\ta()\n\n\tb()\n\tc()\n\td()\n\te()\n\tg()\n}\n",
			head + "@@ func f @@\n // f is f.\n func f() {\n \ta()\n\n \tb()\n \tc()\n \td()\n \te()\n" +
				"-\tf()\n+\tg()\n }\n"},
		{"long declaration in parts", "diff run.go f",
			pack + body(40, nil),
			pack + body(40, map[int]string{1: "\tx()\n", 30: ""}),
			head + "@@ func f @@\n func f() {\n \tcall(i)\n-\tcall(ii)\n+\tx()\n \tcall(iii)\n" +
				" \tcall(iiii)\n \tcall(iiiii)\n …\n" +
				" \tcall(" + strings.Repeat("i", 28) + ")\n \tcall(" + strings.Repeat("i", 29) + ")\n" +
				" \tcall(" + strings.Repeat("i", 30) + ")\n-\tcall(" + strings.Repeat("i", 31) + ")\n" +
				" \tcall(" + strings.Repeat("i", 32) + ")\n \tcall(" + strings.Repeat("i", 33) + ")\n" +
				" \tcall(" + strings.Repeat("i", 34) + ")\n"},
		{"file by declarations", "diff run.go",
			pack + "import \"fmt\"\n\nfunc a() {\n\tone()\n}\n\nfunc b() {\n\ttwo()\n}\n",
			pack + "import (\n\t\"fmt\"\n)\n\nfunc a() {\n\tone(1)\n}\n\nfunc b() {\n\ttwo()\n}\n\n" +
				"// c is new.\nfunc c() {\n\tthree()\n}\n",
			head + "@@ imports @@\n-import \"fmt\"\n+import (\n+\t\"fmt\"\n+)\n" +
				"@@ func a @@\n func a() {\n-\tone()\n+\tone(1)\n }\n" +
				"@@ func c @@\n+\n+// c is new.\n+func c() {\n+\tthree()\n+}\n"},
		// The added block begins with its own comment, not with the brace above it.
		{"added between", "diff run.go",
			pack + "// a is a.\nfunc a() {\n\tx()\n}\n\n// z is z.\nfunc z() {\n\tx()\n}\n",
			pack + "// a is a.\nfunc a() {\n\tx()\n}\n\n// m is m.\nfunc m() {\n\tx()\n}\n\n" +
				"// z is z.\nfunc z() {\n\tx()\n}\n",
			head + "@@ func m @@\n+// m is m.\n+func m() {\n+\tx()\n+}\n+\n"},
		{"deleted function", "diff run.go gone",
			pack + "func a() {}\n\n// gone goes.\nfunc gone() {\n\tx()\n}\n\nfunc z() {}\n",
			pack + "func a() {}\n\nfunc z() {}\n",
			head + "@@ func gone @@\n-// gone goes.\n-func gone() {\n-\tx()\n-}\n"},
		{"renamed function", "diff run.go after",
			pack + "// before runs.\nfunc before() {\n\tx()\n\ty()\n\tz()\n}\n",
			pack + "// after runs.\nfunc after() {\n\tx()\n\ty()\n\tz()\n}\n",
			head + "@@ func after @@\n-// before runs.\n-func before() {\n+// after runs.\n+func after() {\n" +
				" \tx()\n \ty()\n \tz()\n }\n"},
		{"by the old name", "diff run.go before",
			pack + "// before runs.\nfunc before() {\n\tx()\n\ty()\n\tz()\n}\n",
			pack + "// after runs.\nfunc after() {\n\tx()\n\ty()\n\tz()\n}\n",
			head + "@@ func after @@\n-// before runs.\n-func before() {\n+// after runs.\n+func after() {\n" +
				" \tx()\n \ty()\n \tz()\n }\n"},
		{"moved function", "diff run.go m",
			pack + "func m() {\n\tx()\n}\n\n" + body(4, nil),
			pack + body(4, nil) + "\nfunc m() {\n\tx()\n}\n",
			head + "@@ func m @@\n-func m() {\n-\tx()\n-}\n …\n+func m() {\n+\tx()\n+}\n"},
		{"group by any name", "diff run.go two",
			pack + "const (\n\tone = 1\n)\n", pack + "const (\n\tone = 1\n\ttwo = 2\n)\n",
			head + "@@ const one @@\n const (\n \tone = 1\n+\ttwo = 2\n )\n"},
		{"method", "diff run.go T.m",
			pack + "type T int\n\nfunc (T) m() {}\n", pack + "type T int\n\nfunc (t *T) m() {}\n",
			head + "@@ func T.m @@\n-func (T) m() {}\n+func (t *T) m() {}\n"},
		{"comment between", "diff run.go",
			pack + "func a() {}\n", pack + "// Part two.\n\nfunc a() {}\n",
			head + "@@ func a @@\n+// Part two.\n+\n func a() {}\n"},
		{"new file", "diff run.go", "", pack + "func a() {}\n",
			"--- /dev/null\n+++ step02-two/run.go\n@@ package @@\n+package main\n+\n" +
				"@@ func a @@\n+func a() {}\n"},
		{"deleted file", "diff run.go", pack + "func a() {}\n", "",
			"--- step01-one/run.go\n+++ /dev/null\n@@ package @@\n-package main\n-\n" +
				"@@ func a @@\n-func a() {}\n"},
		{"no Go", "diff run.go", "no go\n\none\n", "no go\n\ntwo\n",
			head + "@@ run.go @@\n no go\n\n-one\n+two\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := "```diff\n" + tt.want + "```\n"
			if got := rendered(t, tt.directive, tt.old, tt.new); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestDiffBlock_Errors(t *testing.T) {
	t.Parallel()
	const text = "package main\n\nfunc a() {}\n"
	tests := []struct{ directive, old, new, want string }{
		{"diff run.go", text, text, "error: run.go has not changed since the step before"},
		{"diff run.go a", text, text + "\nfunc b() {}\n", "error: func a has not changed since the step before"},
		{"diff run.go c", text, text + "\nfunc b() {}\n", "error: no declaration c in run.go: it has package, a, b"},
		{"diff nosuch.go", text, text, "error: there is no step02-two/nosuch.go"},
		{"diff ../go.mod", text, text, "error: ../go.mod is in no step"},
	}
	for _, tt := range tests {
		if got := rendered(t, tt.directive, tt.old, tt.new); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.directive, got, tt.want)
		}
	}
}

// A change in a renamed function is covered by the new name's diff.
func TestCheck_RenamedDeclaration(t *testing.T) {
	t.Parallel()
	root := filled(t)
	edit(t, root, "step02-two/run.go", "greet(", "welcome(")
	edit(t, root, "step02-two/run.go", "greet says", "welcome says")
	edit(t, root, "step02-two/README.md", "diff run.go greet", "diff run.go welcome")
	edit(t, root, "step02-two/README.md", "code extra.go", "diff run.go main -->\n\n<!-- weave: code extra.go")
	mustWeave(t, root, "fill")
	mustWeave(t, root, "check")
}

func TestParseDirective(t *testing.T) {
	t.Parallel()
	good := []string{
		"code a.go", "code a.go T.m /x y/ /z\\/w/", "diff a.go f", "table", "diffs", "experiments", "end",
		"budget 200 30 because it is hard", "norun because it needs a network", "only cgroup=v1",
		`without "Break it" because nothing breaks`,
	}
	for _, text := range good {
		if _, err := parseDirective(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	bad := []string{
		"", "x", "code", "code a b c", "code /x/", "code a /x/ b", "code a /x", "code a /(/", "code a /x/ /y/ /z/",
		"diff", "diff a b c", "diff a /x/", "table x", "end x", "budget 1 because x", "budget 1 x because x",
		"budget 1 2", "norun", "norun because ", "norun it because x", "only", "only cgroup=v3",
		`without "Nothing" because x`, `without "Break it"`, "table because x", `without "Break`,
	}
	for _, text := range bad {
		if d, err := parseDirective(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, d)
		}
	}
}
