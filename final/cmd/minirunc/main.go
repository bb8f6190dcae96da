//go:build linux

// Command minirunc is an OCI runtime: it runs containers from bundles, for people,
// engines and test suites that would otherwise call runc or crun, with the same command
// line. See final/README.md for the way of a container through it.
//
// It parses its command line itself: every package that is linked in costs time at each
// of the two starts that a container takes. It does not ask for its control group's quota.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"minidocker/final/oci"
	"minidocker/final/oci/initproc"
	"minidocker/final/shim/server"
)

// version is the program's own.
const version = "0.1.0"

// global are the options before the command.
type global struct {
	root, log, logFormat string
	debug, systemd       bool
	rootless             string
	manager              string // of control groups
}

func main() {
	// Too short a life to collect garbage in.
	debug.SetGCPercent(-1)
	if len(os.Args) == 3 && os.Args[1] == "init" {
		preserve, _ := strconv.Atoi(os.Args[2])
		os.Exit(initproc.Main(preserve))
	}
	if len(os.Args) == 2 && os.Args[1] == "pause" {
		os.Exit(initproc.Pause())
	}
	if filepath.Base(os.Args[0]) == reaperName {
		os.Exit(reap(os.Args[1:]))
	}
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "shim") {
		// It was executed by a descriptor, whose number is its name so far.
		_ = os.WriteFile("/proc/self/comm", []byte("minirunc"), 0)
	}
	if len(os.Args) == 2 && os.Args[1] == "shim" {
		os.Exit(server.Main())
	}
	if len(os.Args) == 3 && os.Args[1] == server.WatchArg {
		os.Exit(server.Watch(os.Args[2]))
	}
	described = commands
	g := &global{logFormat: "text", rootless: "auto"}
	status, err := run(g, os.Args[1:])
	if errors.Is(err, errHelp) {
		os.Exit(0)
	}
	if err != nil {
		g.report("error", err.Error())
		if status == 0 {
			status = 1
		}
	}
	os.Exit(status)
}

// report writes a line to the log file, where callers look for the reason of a failure,
// and to standard error.
func (g *global) report(level, message string) {
	now := time.Now().Format(time.RFC3339)
	if g.log != "" {
		f, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY|os.O_SYNC, 0o644)
		if err == nil {
			defer f.Close()
			if g.logFormat == "json" {
				line, _ := json.Marshal(struct {
					Level string `json:"level"`
					Msg   string `json:"msg"`
					Time  string `json:"time"`
				}{level, message, now})
				fmt.Fprintf(f, "%s\n", line)
			} else {
				fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, message)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "minirunc: %s: %s\n", level, message)
}

// runtime is the runtime with the root that the options name.
func (g *global) runtime() (*oci.Runtime, error) {
	rootless := os.Geteuid() != 0
	if g.rootless == "true" {
		rootless = true
	}
	root := g.root
	if root == "" {
		root = "/run/minirunc"
		if os.Geteuid() != 0 {
			dir := os.Getenv("XDG_RUNTIME_DIR")
			if dir == "" {
				return nil, errors.New("XDG_RUNTIME_DIR is not set: give --root")
			}
			root = filepath.Join(dir, "minirunc")
		}
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return &oci.Runtime{
		Root: root, Rootless: rootless, NoCgroups: g.manager == "disabled",
		Warn: func(format string, args ...any) { g.report("warning", fmt.Sprintf(format, args...)) },
	}, nil
}

func run(g *global, args []string) (int, error) {
	set := newFlags("minirunc", "")
	set.text(&g.root, "root", "folder of the containers' states (default /run/minirunc)")
	set.text(&g.log, "log", "file for errors and warnings")
	set.text(&g.logFormat, "log-format", "text or json")
	set.text(&g.rootless, "rootless", "true, false or auto: leave out what an ordinary user may not")
	set.flag(&g.debug, "debug", "say more")
	set.flag(&g.systemd, "systemd-cgroup", "control groups through systemd: not supported")
	set.text(&g.manager, "cgroup-manager", "cgroupfs, or disabled: leave control groups alone")
	var showVersion, help bool
	set.flag(&showVersion, "version", "print the version")
	set.flag(&showVersion, "v", "print the version")
	set.flag(&help, "help", "print this")
	set.flag(&help, "h", "print this")
	rest, err := set.parse(args, true)
	if err != nil {
		return 1, err
	}
	if showVersion {
		fmt.Printf("minirunc version %s\ncommit: %s\nspec: %s\n", version, commit(), specs.Version)
		return 0, nil
	}
	if help || len(rest) == 0 || rest[0] == "help" {
		usage(set)
		return 0, nil
	}
	if g.logFormat != "text" && g.logFormat != "json" {
		return 1, fmt.Errorf("--log-format %q: want text or json", g.logFormat)
	}
	switch g.manager {
	case "", "cgroupfs", "disabled":
	case "systemd":
		g.systemd = true
	default:
		return 1, fmt.Errorf("--cgroup-manager %q: want cgroupfs or disabled", g.manager)
	}
	if g.systemd {
		return 1, errors.New("--systemd-cgroup: this runtime makes control groups itself; " +
			"leave the option out, or let systemd delegate one and name it as cgroupsPath")
	}
	for _, c := range commands {
		if c.name == rest[0] {
			return c.run(g, rest[1:])
		}
	}
	return 1, fmt.Errorf("unknown command %q: see minirunc --help", rest[0])
}

// commit is that of the repository which the program was built from, if the build knew it.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

func usage(set *flags) {
	fmt.Println("NAME:\n   minirunc - Open Container Initiative runtime\n\n" +
		"USAGE:\n   minirunc [OPTION...] COMMAND [ARGUMENT...]\n\nCOMMANDS:")
	for _, c := range commands {
		fmt.Printf("  %-10s %s\n", c.name, c.usage)
	}
	fmt.Println("\nOPTIONS:")
	set.print()
}
