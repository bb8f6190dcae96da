//go:build linux

// Command check runs the shared tests of a step on somebody's own program and says,
// where one fails, what was expected, what came, and what to read again.
//
//	check -step 3 -bin ./minidocker [-exercise 2] [-v]
//
// Exit status: 0 all passed, 1 some failed, 2 it could not be tried.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"minidocker/final/tests"
)

func main() {
	tests.RunIfScript()
	step := flag.Int("step", 0, "the step whose program it is")
	program := flag.String("bin", "", "path of the program")
	exercise := flag.Int("exercise", 0, "check this exercise of the step's lesson instead")
	rootfs := flag.String("rootfs", "build/rootfs/"+runtime.GOARCH, "a busybox root file system")
	escape := flag.String("escape", "build/bin/escape", "the program docs/labs/escape")
	lookup := flag.String("lookup", "build/bin/lookup", "the program docs/labs/lookup")
	peer := flag.String("peer", "build/bin/peer", "the program docs/labs/peer")
	verbose := flag.Bool("v", false, "show the whole log of what fails")
	flag.Parse()
	setup := tests.Setup{Step: *step, Patience: tests.LongPatience}
	var errs []error
	for _, p := range []struct {
		flag, path string
		to         *string
	}{
		{"-bin", *program, &setup.Program},
		{"-rootfs", *rootfs, &setup.Rootfs},
		{"-escape", *escape, &setup.Escape},
		{"-lookup", *lookup, &setup.Lookup},
		{"-peer", *peer, &setup.Peer},
	} {
		path, err := filepath.Abs(p.path)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil || p.path == "" {
			errs = append(errs, fmt.Errorf("%s %q: %w", p.flag, p.path, err))
		}
		*p.to = path
	}
	failed, err := 0, errors.Join(errs...)
	if err == nil {
		failed, err = check(setup, *exercise, *verbose)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// check runs the scripts and returns how many failed.
func check(setup tests.Setup, exercise int, verbose bool) (int, error) {
	scripts, err := tests.ReadScripts()
	if exercise > 0 {
		scripts, err = tests.ReadExercises()
	}
	if err != nil {
		return 0, err
	}
	wanted := fmt.Sprintf("%02d-%d-", setup.Step, exercise)
	passed, failed := 0, 0
	for _, s := range scripts {
		if s.Since > setup.Step || exercise > 0 && !strings.HasPrefix(s.Name, wanted) {
			continue
		}
		r := s.Run(setup)
		if r.Passed {
			passed++
			fmt.Printf("ok    %-20s %s\n", s.Name, s.Title)
			continue
		}
		failed++
		fmt.Printf("FAIL  %-20s %s\n", s.Name, s.Title)
		fmt.Println(indent(explain(r.Log, verbose)))
		fmt.Printf("      Read again: %s\n", s.Read)
	}
	if passed+failed == 0 {
		return 0, fmt.Errorf("nothing to check for step %d, exercise %d", setup.Step, exercise)
	}
	if failed > 0 && setup.Step >= 4 {
		fmt.Println("In the tests, \"run\" is \"minidocker run --rootfs $ROOTFS\" from step 04 on.")
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return failed, nil
}

// explain cuts testscript's log down to the part that failed: from its comment on.
func explain(log string, verbose bool) string {
	log = strings.TrimSpace(log)
	if verbose {
		return log
	}
	if at := strings.LastIndex(log, "\n# "); at >= 0 {
		log = log[at+1:]
	}
	var lines []string
	for _, line := range strings.Split(log, "\n") {
		if strings.HasPrefix(line, "# read: ") {
			continue
		}
		if strings.HasPrefix(line, "FAIL: /") { // where the script ran means nothing to the reader
			line = "FAIL: " + line[strings.LastIndex(strings.SplitN(line, ".txtar", 2)[0], "/")+1:]
		}
		lines = append(lines, line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func indent(text string) string {
	return "      " + strings.ReplaceAll(text, "\n", "\n      ")
}
