package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// filled is a repository in which all is true.
func filled(t testing.TB) string {
	t.Helper()
	root := goodRepo().write(t)
	mustWeave(t, root, "fill")
	if out := mustWeave(t, root, "check"); out != "" {
		t.Fatalf("check of a good repository: %s", out)
	}
	return root
}

func TestCheck_Coverage(t *testing.T) {
	t.Parallel()
	out := mustWeave(t, filled(t), "check", "-v")
	want := "step01: 20 changed lines, 20 quoted\nstep02: 8 changed lines, 8 quoted\n"
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// Each case makes one thing untrue and names what check must say.
func TestCheck_Finds(t *testing.T) {
	t.Parallel()
	const one, two = "step01-one/README.md", "step02-two/README.md"
	tests := []struct {
		name           string
		file, old, new string
		fill           bool // first, so that no block is stale
		want           []string
	}{
		{"stale excerpt", "step01-one/run.go", "hello", "hi", false,
			[]string{"step01-one/README.md:17: weave: code run.go: stale: run make docs"}},
		{"edited excerpt", one, `Println("hello"`, `Println("hi"`, false, []string{":17: ", "stale"}},
		{"stale table", "README.md", "It greets", "It sings", false, []string{"README.md:3: ", "stale"}},
		{"added line", two, "diff run.go greet", "code run.go last", true,
			[]string{"step02-two/run.go:19-21: changed and nowhere in the lesson: func greet\n" +
				"    +\tif name == \"\" {\n    +\t\tname = \"nobody\"\n    +\t}\n"}},
		{"deleted line", two, "diff run.go unused", "code run.go last", true,
			[]string{"step01-one/run.go:22-23: deleted and nowhere in the lesson of step02: func unused\n" +
				"    -// unused is gone in the next step.\n    -func unused() {}\n"}},
		{"new file", two, "code extra.go", "code run.go", true,
			[]string{"step02-two/extra.go:1: changed and nowhere in the lesson: package\n",
				"step02-two/extra.go:3-4: changed and nowhere in the lesson: const limit\n"}},
		{"no declaration", two, "diff run.go greet", "diff run.go gone", false,
			[]string{"step02-two/README.md:17: weave: diff run.go gone: no declaration gone in run.go: " +
				"it has package, imports, main, greet, last"}},
		{"no change", two, "diff run.go greet", "diff run.go last", false,
			[]string{":17: weave: diff run.go last: func last has not changed"}},
		{"no file", two, "code extra.go", "code extra.c", false,
			[]string{"weave: code extra.c: there is no step02-two/extra.c"}},
		{"outside", two, "code extra.go", "code ../../extra.c", false, []string{"not in the repository"}},
		{"no match", two, "code extra.go", "code extra.go /nosuch/", false,
			[]string{"no line matches /nosuch/ in lines 1 to 4"}},
		{"unknown directive", two, "diff run.go greet", "dif run.go greet", false,
			[]string{`step02-two/README.md:17: unknown directive "dif"`}},
		{"end too many", two, "## Break it", "<!-- weave: end -->\n\n## Break it", false,
			[]string{"this end belongs to no directive"}},
		{"directive in a line", two, "## Break it", "See <!-- weave: end -->\n\n## Break it", false,
			[]string{"must stand on a line of its own"}},
		{"half a directive", two, "## Break it", "<!-- weave: norun because\nof this -->\n\n## Break it", false,
			[]string{"not of its form"}},
		{"budget elsewhere", "README.md", "# Steps", "# Steps\n\n<!-- weave: budget 1 1 because x -->", true,
			[]string{"README.md:3: weave: budget belongs in a lesson"}},
		{"section", two, "## Break it", "## Break that", false,
			[]string{`step02-two/README.md: the lesson has no part "## Break it"`}},
		{"section level", two, "## Break it", "### Break it", false, []string{"no part"}},
		{"section order", two, "## Predict\n\n## By hand", "## By hand\n\n## Predict", false,
			[]string{`step02-two/README.md:9: "By hand" stands before "Predict"`}},
		{"needless without", two, "## Break it", "<!-- weave: without \"Break it\" because x -->\n## Break it",
			false, []string{`there is a part "Break it"`}},
		{"picture", two, "```mermaid", "```text", false, []string{"no picture"}},
		{"open fence", two, "## Reading\n", "## Reading\n\n```sh\nls\n", false, []string{"not closed"}},
		{"budget", two, "## Break it", "<!-- weave: budget 7 20 because x -->\n\n## Break it", false,
			[]string{"changes 10 lines and removes 3; its budget is 7 and 20"}},
		{"removal budget", two, "## Break it", "<!-- weave: budget 99 2 because x -->\n\n## Break it", false,
			[]string{"its budget is 99 and 2"}},
		{"unknown mark", two, "<!-- E01 -->", "<!-- E01 E99 -->", false,
			[]string{"step02-two/README.md:13: unknown experiment E99"}},
		{"no mark", two, "<!-- E01 -->", "", true,
			[]string{"docs/weave/experiments.tsv:2: E01 stands nowhere in step02-two/README.md"}},
		{"no test", "final/tests/x/01-a.txtar", "# E01: it", "# It", false,
			[]string{"experiments.tsv:2: no test shows E01"}},
		{"unknown in test", "final/tests/x/01-a.txtar", "# E01: it", "# E01 E77: it", false,
			[]string{"final/tests/x/01-a.txtar: unknown experiment E77"}},
		{"output first", two, "## Break it", "```console\nhello\n```\n\n## Break it", false,
			[]string{"does not begin with a command"}},
		{"norun without reason", two, "## Break it", "<!-- weave: norun -->\n```console\n# ls\n```\n\n## Break it",
			false, []string{"norun needs a reason"}},
		{"norun before nothing", two, "## Break it", "<!-- weave: norun because x -->\n\n## Break it", false,
			[]string{"norun stands before no console block"}},
		{"quoted console", two, "## Break it", "> ```console\n> # ls\n> ```\n\n## Break it", false,
			[]string{"in a quotation"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := filled(t)
			edit(t, root, tt.file, tt.old, tt.new)
			if tt.fill {
				weaveIn(t, root, "fill")
			}
			wantFailure(t, root, "check", tt.want...)
		})
	}
}

func TestCheck_DefaultBudget(t *testing.T) {
	t.Parallel()
	root := filled(t)
	put(t, root, "step02-two/extra.go", extraFile+strings.Repeat("\n// More.\n", 80))
	mustWeave(t, root, "fill")
	wantFailure(t, root, "check", "step02-two/README.md: the step changes 170 lines and removes 3; "+
		"its budget is 150 and 20: make it smaller, or say why not with "+
		"<!-- weave: budget 170 3 because … -->")
	edit(t, root, "step02-two/README.md", "## Predict",
		"<!-- weave: budget 170 3 because it grows -->\n\n## Predict")
	mustWeave(t, root, "check")
}

func TestCheck_Excuses(t *testing.T) {
	t.Parallel()
	root := filled(t)
	edit(t, root, "step02-two/README.md", "## Break it",
		`<!-- weave: without "Break it" because nothing breaks -->`)
	mustWeave(t, root, "check")
}

func TestCheck_NoLesson(t *testing.T) {
	t.Parallel()
	root := filled(t)
	if err := os.Remove(filepath.Join(root, "step02-two/README.md")); err != nil {
		t.Fatal(err)
	}
	mustWeave(t, root, "fill")
	wantFailure(t, root, "check", "step02-two/README.md: there is no lesson")
}

// The tests of a step are no code: they need not be quoted, and do not count.
func TestCheck_IgnoresTestsAndBinaries(t *testing.T) {
	t.Parallel()
	root := filled(t)
	put(t, root, "step02-two/run_test.go", "package main\n")
	put(t, root, "step02-two/minidocker", "\x7fELF\x00\n")
	mustWeave(t, root, "check")
}

func TestCheck_Quiet(t *testing.T) {
	t.Parallel()
	files := goodRepo()
	// What stands in a fenced block, or only looks like a directive, is text.
	files["docs/how.md"] = "# How\n\n````markdown\n<!-- weave: nosuch -->\n```console\nno\n```\n" +
		"<!-- E99 -->\n````\n\nWrite `<!-- weave: end -->` below. <!-- a comment -->\n"
	root := files.write(t)
	mustWeave(t, root, "fill")
	mustWeave(t, root, "check")
}

func TestFill_Repairs(t *testing.T) {
	t.Parallel()
	root := filled(t)
	good := read(t, root, "step01-one/README.md")
	if out := mustWeave(t, root, "fill"); out != "" {
		t.Errorf("fill of what is filled: got %q, want nothing", out)
	}
	edit(t, root, "step01-one/README.md", "hello", "salut")
	if out := mustWeave(t, root, "fill"); out != "step01-one/README.md: written\n" {
		t.Errorf("fill: got %q", out)
	}
	if got := read(t, root, "step01-one/README.md"); got != good {
		t.Errorf("filled again: got\n%s\nwant\n%s", got, good)
	}
}

func TestFill_GoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	root := filled(t)
	edit(t, root, "step02-two/README.md", "diff run.go unused", "diff run.go nosuch")
	put(t, root, "step02-two/extra.go", extraFile+"\n// end\n")
	before := read(t, root, "step02-two/README.md")
	wantFailure(t, root, "fill", "step02-two/README.md:32: no declaration nosuch")
	after := read(t, root, "step02-two/README.md")
	if after == before || !strings.Contains(after, "// end\n") || !strings.Contains(after, "-func unused() {}") {
		t.Errorf("fill wrote\n%s", after)
	}
}

func TestFill_Experiments(t *testing.T) {
	t.Parallel()
	files := goodRepo()
	files["docs/articles.md"] = "# Articles\n\n<!-- weave: experiments -->\n<!-- weave: end -->\n"
	files["docs/weave/experiments.tsv"] += "E02\tIt a|b\t001, 004\t07, final\n" +
		"E03\tIt is told\t002\t02 (told)\n" // which needs no test
	const two = "step02-two/README.md"
	files[two] = strings.Replace(files[two], "<!-- E01 -->", "<!-- E01 E03 -->", 1)
	root := files.write(t)
	mustWeave(t, root, "fill")
	want := "| E01 | It greets | 000 | [01, By hand](../step01-one/README.md#by-hand), " +
		"[02, By hand](../step02-two/README.md#by-hand) | [01-a](../final/tests/x/01-a.txtar) |\n" +
		"| E02 | It a\\|b | 001, 004 | – | – |\n" +
		"| E03 | It is told | 002 | [02 (told), By hand](../step02-two/README.md#by-hand) | – |\n"
	if got := read(t, root, "docs/articles.md"); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	mustWeave(t, root, "check")

	// The engine is there once it has a guide.
	put(t, root, "docs/final.md", "# The engine\n")
	put(t, root, "final/README.md", "# The engine\n")
	wantFailure(t, root, "check", "experiments.tsv:3: E02 stands nowhere in final/README.md or docs/final.md",
		"experiments.tsv:3: no test shows E02")
}

func TestFill_Tables(t *testing.T) {
	t.Parallel()
	files := goodRepo()
	files["docs/diffs.md"] = "# Diffs\n\n<!-- weave: diffs -->\n"
	root := files.write(t)
	mustWeave(t, root, "fill")
	want := "| [01](step01-one/README.md) | It greets. | 1 new | +26 −0 | 26 |\n" +
		"| [02](step02-two/README.md) | It greets. | 1 new, 1 changed | +7 −3 | 30 |\n"
	if got := read(t, root, "README.md"); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	want = "| [**02**](../step02-two/README.md) | **1 new, 1 changed** | **+7 −3** |\n" +
		"| | [`extra.go`](../step02-two/extra.go), new | +4 −0 |\n" +
		"| | [`run.go`](../step02-two/run.go) | +3 −3 |\n"
	if got := read(t, root, "docs/diffs.md"); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
