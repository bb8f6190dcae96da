// Package final has a test alone: that conformance.md is complete and true.
package final

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// row is a line of one of the tables: | [numbers](link) | what | tests |.
var row = regexp.MustCompile(`^\| \[([0-9, -]+)\]\(\S+/([a-z-]+\.md)\?plain=1#L[0-9]+\) \| .+ \| (.+) \|$`)

// word is one that the specification writes so where it requires something.
var word = regexp.MustCompile(`MUST|REQUIRED|SHALL`)

func TestConformance(t *testing.T) {
	text, err := os.ReadFile("conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	named := tests(t)
	covered := map[string]map[int]bool{} // by file and line
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		if covered[m[2]] == nil {
			covered[m[2]] = map[int]bool{}
		}
		for _, n := range numbers(t, m[1]) {
			covered[m[2]][n] = true
		}
		for _, name := range regexp.MustCompile("`(Test[^`]+)`").FindAllStringSubmatch(m[3], -1) {
			function, sub, _ := strings.Cut(name[1], "/")
			if texts, ok := named[function]; !ok || sub != "" && !slices.Contains(texts, sub) {
				t.Errorf("there is no test %s", name[1])
			}
		}
		if !strings.HasPrefix(m[3], "`Test") && !strings.HasPrefix(m[3], "–") {
			t.Errorf("%s %s: neither a test nor a reason: %s", m[2], m[1], m[3])
		}
	}
	for _, file := range []string{"runtime.md", "runtime-linux.md", "bundle.md", "config.md",
		"config-linux.md", "features.md", "features-linux.md"} {
		for _, n := range required(t, file) {
			if !covered[file][n] {
				t.Errorf("%s:%d is about something that is required, and in no table", file, n)
			}
		}
	}
}

// numbers reads "3, 5-7".
func numbers(t *testing.T, s string) []int {
	t.Helper()
	var all []int
	for part := range strings.SplitSeq(s, ", ") {
		from, to, ok := strings.Cut(part, "-")
		if !ok {
			to = from
		}
		first, err := strconv.Atoi(from)
		if err != nil {
			t.Fatal(err)
		}
		last, err := strconv.Atoi(to)
		if err != nil {
			t.Fatal(err)
		}
		for n := first; n <= last; n++ {
			all = append(all, n)
		}
	}
	return all
}

// required returns the numbers of the lines in which the specification requires something.
func required(t *testing.T, file string) []int {
	t.Helper()
	const module = "github.com/opencontainers/runtime-spec"
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), file))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for i, line := range strings.Split(string(text), "\n") {
		if word.MatchString(line) {
			all = append(all, i+1)
		}
	}
	return all
}

// tests returns the test functions of minirunc and its packages, each with the string
// literals in it, which the names of its subtests are among.
func tests(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, dir := range []string{"cmd/minirunc", "oci", "cgroup"} {
		err := filepath.WalkDir("../../final/"+dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
					all[f.Name.Name] = literals(f)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func literals(f *ast.FuncDecl) []string {
	all := []string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil {
				all = append(all, s)
			}
		}
		return true
	})
	return all
}
