package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// weaveItself is set in the environment for this program to be weave.
const weaveItself = "WEAVE_ITSELF"

// TestMain lets this program be weave: weave run starts itself, see runPage. The tests
// need no other sandbox than the one that it makes.
func TestMain(m *testing.M) {
	if os.Getenv(weaveItself) != "" || (len(os.Args) > 1 && os.Args[1] == sessionVerb) {
		main()
	}
	os.Exit(m.Run())
}

// files are those of a repository, by path.
type files map[string]string

const stepOne = `//go:build linux

// Command minidocker greets.
package main

import (
	"fmt"
	"os"
)

func main() {
	for _, name := range os.Args[1:] {
		greet(name)
	}
}

// greet says hello.
func greet(name string) {
	fmt.Println("hello", name)
}

// unused is gone in the next step.
func unused() {}

// last stays.
func last() int { return 1 }
`

const stepTwo = `//go:build linux

// Command minidocker greets.
package main

import (
	"fmt"
	"os"
)

func main() {
	for _, name := range os.Args[1:] {
		greet(name)
	}
}

// greet says hello.
func greet(name string) {
	if name == "" {
		name = "nobody"
	}
	fmt.Println("hello", name)
}

// last stays.
func last() int { return 1 }
`

const extraFile = `package main

// limit is the most.
const limit = 3
`

// lessonWith is a lesson with all parts, and text in the part In Go.
func lessonWith(text string) string {
	return "# A step\n\nIt greets. It does no more.\n\n```mermaid\ngraph LR\n```\n\n" +
		"## Predict\n\n## By hand\n\n<!-- E01 -->\n\n## In Go\n\n" + text +
		"\n## Prove it\n\n## Break it\n\n## What Docker does\n\n## What is missing\n\n" +
		"## Exercises\n\n## Reading\n"
}

const lessonTwoBlocks = `<!-- weave: diff run.go greet -->

<!-- weave: diff run.go unused -->

<!-- weave: code extra.go -->
`

// goodRepo is a repository in which all is true once it is filled.
func goodRepo() files {
	return files{
		"go.mod":                     "module tiny\n\ngo 1.26\n",
		".gitignore":                 "/build/\n",
		"README.md":                  "# Steps\n\n<!-- weave: table -->\n",
		"step01-one/run.go":          stepOne,
		"step01-one/README.md":       lessonWith("<!-- weave: code run.go -->\n"),
		"step02-two/run.go":          stepTwo,
		"step02-two/extra.go":        extraFile,
		"step02-two/README.md":       lessonWith(lessonTwoBlocks),
		"docs/weave/experiments.tsv": "id\texperiment\tarticle\tstep\nE01\tIt greets\t000\t01, 02\n",
		"final/tests/x/01-a.txtar":   "# E01: it greets\nexec true\n",
	}
}

// write makes a repository of the files, in git without a commit, and returns its root.
func (f files) write(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range f {
		put(t, root, name, text)
	}
	runGit(t, root, "init", "-q")
	return root
}

func put(t testing.TB, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// edit changes a file; it fails if there is nothing to replace.
func edit(t testing.TB, root, name, from, to string) {
	t.Helper()
	text := read(t, root, name)
	if !strings.Contains(text, from) {
		t.Fatalf("%s does not contain %q:\n%s", name, from, text)
	}
	put(t, root, name, strings.ReplaceAll(text, from, to))
}

func runGit(t testing.TB, root string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// commit commits all there is.
func commit(t testing.TB, root string) {
	t.Helper()
	runGit(t, root, "add", "-A")
	runGit(t, root, "-c", "user.name=weave", "-c", "user.email=weave@example.org",
		"-c", "commit.gpgSign=false", "commit", "-q", "-m", "all")
}

// weaveIn runs weave in a folder; it returns what it printed and its exit status.
func weaveIn(t testing.TB, dir string, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	status := weave(&call{dir, args, &out, &out})
	return out.String(), status
}

// mustWeave runs weave and fails if its exit status is not 0.
func mustWeave(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, status := weaveIn(t, dir, args...)
	if status != 0 {
		t.Fatalf("weave %s: exit status %d\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

// wantFailure runs weave, which must exit with 1 and print each of want.
func wantFailure(t testing.TB, dir, command string, want ...string) {
	t.Helper()
	out, status := weaveIn(t, dir, strings.Fields(command)...)
	if status != 1 {
		t.Errorf("weave %s: got exit status %d, want 1\n%s", command, status, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("weave %s: the output lacks %q:\n%s", command, w, out)
		}
	}
}

func TestWeave_Usage(t *testing.T) {
	root := goodRepo().write(t)
	tests := []struct {
		args string
		want int
	}{
		{"", 2}, {"help", 0}, {"nosuch", 2}, {"check -h", 0}, {"check -x", 2}, {"check x", 2},
		{"fill x", 2}, {"diff", 2}, {"diff 9", 2}, {"diff -color red 2", 2}, {"diff 2 nosuch", 2},
		{"forward", 2}, {"forward 9", 2}, {"forward 1", 1},
	}
	for _, tt := range tests {
		if out, got := weaveIn(t, root, strings.Fields(tt.args)...); got != tt.want {
			t.Errorf("weave %s: got exit status %d, want %d\n%s", tt.args, got, tt.want, out)
		}
	}
	if out, got := weaveIn(t, t.TempDir(), "check"); got != 1 || !strings.Contains(out, "go.mod") {
		t.Errorf("outside of a repository: got exit status %d and %q", got, out)
	}
}

func TestStep_Names(t *testing.T) {
	r, err := openRepo(filepath.Join(goodRepo().write(t), "step02-two"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"2", "02", "step02", "step02-two", "./step02-two/", "step2"} {
		if s, err := r.step(name); err != nil || s.name != "step02-two" {
			t.Errorf("step %q: got %v, %v", name, s, err)
		}
	}
	for _, name := range []string{"", "3", "step02-three", "two", "002", "-2"} {
		if s, err := r.step(name); err == nil {
			t.Errorf("step %q: got %s, want an error", name, s.name)
		}
	}
}
