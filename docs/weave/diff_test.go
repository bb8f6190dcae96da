package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiff_Steps(t *testing.T) {
	t.Parallel()
	root := goodRepo().write(t)
	want := `step01-one → step02-two  +7 −3

extra.go, new  +4 −0
@@ package @@
+package main
+
@@ const limit @@
+// limit is the most.
+const limit = 3

run.go  +3 −3
@@ func greet @@

 // greet says hello.
 func greet(name string) {
+	if name == "" {
+		name = "nobody"
+	}
 	fmt.Println("hello", name)
 }
@@ func unused @@
-// unused is gone in the next step.
-func unused() {}
-
`
	want = strings.Replace(want, "@@ func greet @@\n\n", "@@ func greet @@\n", 1)
	if got := mustWeave(t, root, "diff", "2"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	colored := mustWeave(t, root, "diff", "-color", "always", "02")
	for _, part := range []string{
		"\x1b[32m+\tif name", "\x1b[31m-func unused() {}\x1b[0m\n", "\x1b[36m@@ func greet @@",
	} {
		if !strings.Contains(colored, part) {
			t.Errorf("-color always: %q is missing in %q", part, colored)
		}
	}
	start := "nothing → step01-one  +26 −0\n\nrun.go, new  +26"
	if got := mustWeave(t, root, "diff", "1"); !strings.HasPrefix(got, start) {
		t.Errorf("the first step: got\n%s", got)
	}
}

func TestDiff_Learner(t *testing.T) {
	t.Parallel()
	root := goodRepo().write(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "step02-two"))); err != nil {
		t.Fatal(err)
	}
	if got := mustWeave(t, root, "diff", "2", dir); got != "step02-two → "+dir+": no difference\n" {
		t.Errorf("a copy: got %q", got)
	}
	edit(t, dir, "run.go", "nobody", "you")
	put(t, dir, "mine.go", "package main\n")
	put(t, dir, "mine_test.go", "package main\n")
	put(t, dir, "README.md", "mine\n")
	put(t, dir, "program", "\x7fELF\x00")
	put(t, dir, "rootfs/etc/passwd", "root\n")
	if err := os.Remove(filepath.Join(dir, "extra.go")); err != nil {
		t.Fatal(err)
	}
	want := "step02-two → " + dir + `  +2 −5

extra.go, missing  +0 −4

mine.go, new  +1 −0
@@ package @@
+package main

run.go  +1 −1
@@ func greet @@
 // greet says hello.
 func greet(name string) {
 	if name == "" {
-		name = "nobody"
+		name = "you"
 	}
 	fmt.Println("hello", name)
 }
`
	if got := mustWeave(t, root, "diff", "step02", dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// A file that does not compile yet is shown all the same.
	edit(t, dir, "run.go", "func greet(", "func greet")
	if got := mustWeave(t, root, "diff", "step02", dir); !strings.Contains(got, "+func greetname string) {") {
		t.Errorf("with a syntax error: got\n%s", got)
	}
}

// A downloaded tutorial has no git repository around it.
func TestDiff_WithoutRepository(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range goodRepo() {
		put(t, root, name, text)
	}
	if got := mustWeave(t, root, "diff", "2"); !strings.Contains(got, "+\t\tname = \"nobody\"") {
		t.Errorf("got\n%s", got)
	}
}
