package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// call is one use of the command line.
type call struct {
	dir            string // the working directory
	args           []string
	stdout, stderr io.Writer
}

var (
	// errProblems says that problems were found, and printed.
	errProblems = errors.New("problems found")
	// errUsage says that the command line made no sense, and that it was explained.
	errUsage = errors.New("usage")
)

// verbs are weave's commands in the order of the help text.
var verbs = []struct {
	name, args, help string
	run              func(*call) error
}{
	{"fill", "", "write the generated blocks of all Markdown files", fillCommand},
	{"check", "[-v]", "fail if a lesson is not true", checkCommand},
	{"run", "[-update] [-timeout 60s] [-j N] [-v] [STEP|FILE.md ...]", "run the console blocks",
		runCommand},
	{"shell", "[-user] STEP", "a shell in which a lesson's commands work", shellCommand},
	{"diff", "[-color auto|always|never] STEP [DIR]", "what a step, or your DIR, changes",
		diffCommand},
	{"site", "", "print what the web site is made from, as JSON", siteCommand},
	{"serve", "[-addr 127.0.0.1:8090] DIR", "show a folder of web pages", serveCommand},
	{"forward", "[-base REV] STEP", "carry a fix of STEP to all later steps", forwardCommand},
}

func main() {
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "weave:", err)
		os.Exit(1)
	}
	os.Exit(weave(&call{dir, os.Args[1:], os.Stdout, os.Stderr}))
}

// weave runs one command and returns the exit status.
func weave(c *call) int {
	if len(c.args) == 0 {
		usage(c.stderr)
		return 2
	}
	name := c.args[0]
	c.args = c.args[1:]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		usage(c.stdout)
		return 0
	}
	if name == sessionVerb { // weave run starts it
		return sessionCommand(c)
	}
	for _, v := range verbs {
		if v.name == name {
			return exitStatus(c, v.run(c))
		}
	}
	fmt.Fprintf(c.stderr, "weave: unknown command %q\n", name)
	usage(c.stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "weave keeps the lessons true. Its commands:")
	for _, v := range verbs {
		fmt.Fprintf(w, "\n  weave %s %s\n        %s\n", v.name, v.args, v.help)
	}
}

func exitStatus(c *call, err error) int {
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errProblems):
		return 1
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(c.stderr, "weave:", err)
	return 1
}

// parse reads the flags that are set up in fs; what is left is c.args, of which there
// must be at least low and at most high (any number if high is negative).
func (c *call) parse(fs *flag.FlagSet, low, high int) error {
	fs.SetOutput(c.stderr)
	if err := fs.Parse(c.args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage // the flag package has explained it
	}
	c.args = fs.Args()
	if len(c.args) < low || (high >= 0 && len(c.args) > high) {
		return c.misuse("%s: wrong number of arguments: see weave help", fs.Name())
	}
	return nil
}

// misuse explains what is wrong with the command line.
func (c *call) misuse(format string, args ...any) error {
	fmt.Fprintf(c.stderr, "weave: "+format+"\n", args...)
	return errUsage
}

// flags begins the flags of a command.
func flags(name string) *flag.FlagSet {
	return flag.NewFlagSet("weave "+name, flag.ContinueOnError)
}
