package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// threeSteps is a repository whose third step changes what the second is like.
func threeSteps(t *testing.T) string {
	f := goodRepo()
	f["step03-three/run.go"] = strings.Replace(stepTwo, `"hello"`, `"good day"`, 1)
	f["step03-three/extra.go"] = extraFile
	root := f.write(t)
	commit(t, root)
	return root
}

func TestForward_Merges(t *testing.T) {
	t.Parallel()
	root := threeSteps(t)
	edit(t, root, "step01-one/run.go", "os.Args[1:]", "os.Args")
	got := mustWeave(t, root, "forward", "1")
	if want := "step02-two: run.go\nstep03-three: run.go\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	want := strings.Replace(stepTwo, "os.Args[1:]", "os.Args", 1)
	if got := read(t, root, "step02-two/run.go"); got != want {
		t.Errorf("step 2: got\n%s", got)
	}
	want = strings.Replace(want, `"hello"`, `"good day"`, 1)
	if got := read(t, root, "step03-three/run.go"); got != want {
		t.Errorf("step 3: got\n%s", got)
	}
	// What was carried is there now, and is not carried again.
	if got := mustWeave(t, root, "forward", "1"); got != "step01-one: nothing to carry\n" {
		t.Errorf("again: got %q", got)
	}
}

func TestForward_Conflict(t *testing.T) {
	t.Parallel()
	root := threeSteps(t)
	edit(t, root, "step02-two/run.go", `"hello"`, `"hi"`)
	edit(t, root, "step02-two/extra.go", "3", "4")
	before := read(t, root, "step03-three/run.go")
	out, status := weaveIn(t, root, "forward", "2")
	if status != 1 {
		t.Errorf("got exit status %d, want 1", status)
	}
	want := `step03-three/run.go: conflict
    <<<<<<< step03-three
    	fmt.Println("good day", name)
    =======
    	fmt.Println("hi", name)
    >>>>>>> step02-two, changed
step03-three: extra.go
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if got := read(t, root, "step03-three/run.go"); got != before {
		t.Errorf("the file with the conflict was changed:\n%s", got)
	}
	if got := read(t, root, "step03-three/extra.go"); !strings.Contains(got, "4") {
		t.Errorf("the other file was not: %s", got)
	}
}

// A conflict in one step ends the way of that file: the step after it stays as it is.
func TestForward_ConflictEndsTheChain(t *testing.T) {
	t.Parallel()
	f := goodRepo()
	f["step02-two/run.go"] = strings.Replace(stepTwo, `"hello"`, `"good day"`, 1)
	f["step03-three/run.go"] = stepTwo
	root := f.write(t)
	commit(t, root)
	edit(t, root, "step01-one/run.go", `"hello"`, `"hi"`)
	wantFailure(t, root, "forward 1", "step02-two/run.go: conflict", "nothing to carry")
	if got := read(t, root, "step03-three/run.go"); got != stepTwo {
		t.Errorf("step 3: got\n%s", got)
	}
}

func TestForward_NewAndDeletedFiles(t *testing.T) {
	t.Parallel()
	root := threeSteps(t)
	put(t, root, "step02-two/new.go", "package main\n")
	put(t, root, "step02-two/new_test.go", "package main\n")
	edit(t, root, "step02-two/README.md", "It greets", "It sings")
	if err := os.Remove(filepath.Join(root, "step02-two/extra.go")); err != nil {
		t.Fatal(err)
	}
	got := mustWeave(t, root, "forward", "-base", "HEAD", "step02")
	if want := "step03-three: extra.go (deleted), new.go (new)\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := read(t, root, "step03-three/new.go"); got != "package main\n" {
		t.Errorf("new.go: got %q", got)
	}
	for _, name := range []string{"extra.go", "new_test.go", "README.md"} {
		if _, err := os.Stat(filepath.Join(root, "step03-three", name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}

func TestForward_InTheWay(t *testing.T) {
	t.Parallel()
	root := threeSteps(t)
	put(t, root, "step03-three/new.go", "package other\n")
	put(t, root, "step03-three/extra.go", extraFile+"\n// More.\n")
	put(t, root, "step02-two/new.go", "package main\n")
	if err := os.Remove(filepath.Join(root, "step02-two/extra.go")); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, root, "forward 2",
		"step03-three/new.go: conflict\n    new in the step before, and another file of that name here",
		"step03-three/extra.go: conflict\n    deleted in the step before, and with changes of its own here")
	if got := read(t, root, "step03-three/new.go"); got != "package other\n" {
		t.Errorf("new.go: got %q", got)
	}
}

func TestForward_Base(t *testing.T) {
	t.Parallel()
	root := threeSteps(t)
	edit(t, root, "step01-one/run.go", "os.Args[1:]", "os.Args")
	commit(t, root)
	if got := mustWeave(t, root, "forward", "1"); got != "step01-one: nothing to carry\n" {
		t.Errorf("since HEAD: got %q", got)
	}
	got := mustWeave(t, root, "forward", "-base", "HEAD~1", "1")
	if want := "step02-two: run.go\nstep03-three: run.go\n"; got != want {
		t.Errorf("since HEAD~1: got %q, want %q", got, want)
	}
	put(t, root, "step04-four/run.go", stepTwo)
	wantFailure(t, root, "forward 4", "step04-four is not in HEAD")
}
