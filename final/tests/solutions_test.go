//go:build linux

package tests

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// exerciseHeading is "## Exercise 2: …" in docs/solutions/stepNN.md; the diff blocks
// below it, up to the next heading of that kind, are the solution.
var exerciseHeading = regexp.MustCompile(`(?m)^## Exercise (\d): .*$`)

var diffBlock = regexp.MustCompile("(?ms)^```diff\n(.*?)^```$")

// TestSolutions applies each solution to its step and checks that the exercise's check
// passes with it and fails without it; and, where there is time for it, that the
// step's own scripts still pass.
func TestSolutions(t *testing.T) {
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	exercises, err := ReadExercises()
	if err != nil {
		t.Fatal(err)
	}
	setup := Setup{
		Rootfs: Rootfs(t, top), Escape: Lab(t, top, "escape"), Lookup: Lab(t, top, "lookup"),
		Peer: Lab(t, top, "peer"),
	}
	for _, e := range exercises {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			setup := setup
			setup.Step = e.Since
			dirs, err := filepath.Glob(filepath.Join(top, "step"+twoDigits(e.Since)+"-*"))
			if err != nil || len(dirs) != 1 {
				t.Fatalf("no step %d", e.Since)
			}
			page := filepath.Join(top, "docs", "solutions", "step"+twoDigits(e.Since)+".md")
			patch := solution(t, page, strings.Split(e.Name, "-")[1])
			solved := buildPatched(t, dirs[0], patch)
			setup.Program = Build(t, dirs[0])
			if r := e.Run(setup); r.Passed {
				t.Errorf("the check passes without a solution:\n%s", r.Log)
			}
			setup.Program, setup.Patience = solved, LongPatience
			if r := e.Run(setup); !r.Passed {
				t.Errorf("the check fails with the solution:\n%s", r.Log)
			}
			for _, s := range Scripts(t) {
				if os.Getenv("MINIDOCKER_MUTANTS") == "" {
					break // make mutants, which has time, sees to that
				}
				if s.Since != e.Since || s.Name == e.Changes {
					continue
				}
				if r := s.Run(setup); !r.Passed {
					t.Errorf("the solution breaks the step: %s\n%s", s.Name, r.Log)
				}
			}
		})
	}
}

// solution returns the diff that the page gives for the exercise.
func solution(t *testing.T, page, exercise string) string {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	headings := exerciseHeading.FindAllStringSubmatchIndex(text, -1)
	for i, h := range headings {
		if text[h[2]:h[3]] != exercise {
			continue
		}
		end := len(text)
		if i+1 < len(headings) {
			end = headings[i+1][0]
		}
		var patch strings.Builder
		for _, block := range diffBlock.FindAllStringSubmatch(text[h[1]:end], -1) {
			patch.WriteString(block[1])
		}
		if patch.Len() > 0 {
			return patch.String()
		}
	}
	t.Fatalf("%s has no diff for exercise %s", page, exercise)
	return ""
}

// buildPatched builds the program in dir with the patch applied, without touching dir.
func buildPatched(t *testing.T, dir, patch string) string {
	t.Helper()
	if program := prebuilt(t); program != "" {
		return program
	}
	tmp := t.TempDir()
	copied := filepath.Join(tmp, filepath.Base(dir))
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	apply := exec.Command("git", "apply", "-")
	apply.Dir = tmp
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(tmp))
	apply.Stdin = strings.NewReader(patch)
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v\n%s", err, out)
	}
	return buildOverlay(t, dir, copied)
}

// buildOverlay builds the package in dir with the Go files of changed in place of its own.
func buildOverlay(t *testing.T, dir, changed string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(changed, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, f := range files {
		replace[filepath.Join(dir, filepath.Base(f))] = f
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	file := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(tmp, "minidocker")
	if variants := os.Getenv("MINIDOCKER_VARIANTS"); variants != "" {
		program = variant(t, variants)
	}
	build(t, dir, program, "-overlay", file)
	if os.Getenv("MINIDOCKER_BUILD_ONLY") != "" {
		t.Skip("built")
	}
	return program
}

// prebuilt returns the path of the changed program that was built before for this test,
// or nothing. For the VM, where there is no compiler, a run with MINIDOCKER_BUILD_ONLY
// builds all of them into the folder MINIDOCKER_VARIANTS.
func prebuilt(t *testing.T) string {
	variants := os.Getenv("MINIDOCKER_VARIANTS")
	if variants == "" || os.Getenv("MINIDOCKER_BUILD_ONLY") != "" {
		return ""
	}
	return variant(t, variants)
}

func variant(t *testing.T, variants string) string {
	return filepath.Join(variants, strings.ReplaceAll(t.Name(), "/", "_"), "minidocker")
}
