//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"minidocker/final/oci"
	"minidocker/final/oci/initproc"
	"minidocker/final/signals"
)

type command struct {
	name, usage string
	run         func(g *global, args []string) (int, error)
}

var commands = []command{
	{"create", "make a container, whose process waits for start", create},
	{"delete", "remove a stopped container", remove},
	{"events", "print what a container uses, again and again, or once (--stats)", events},
	{"exec", "run one more process in a container", execute},
	{"features", "print what this runtime can do", printFeatures},
	{"kill", "send a signal to a container's process (default SIGTERM)", kill},
	{"list", "list the containers", list},
	{"pause", "stop all processes of a container", pause(true)},
	{"ps", "list a container's processes", ps},
	{"resume", "let them go on", pause(false)},
	{"run", "create a container, start it, wait for its end and delete it", runContainer},
	{"spec", "write a config.json to begin with", writeSpec},
	{"start", "start a created container", start},
	{"state", "print a container's state", state},
	{"update", "change a container's limits", update},
	{"checkpoint", "not supported", unsupported("checkpoint")},
	{"restore", "not supported", unsupported("restore")},
}

func unsupported(name string) func(*global, []string) (int, error) {
	return func(_ *global, args []string) (int, error) {
		if _, err := newFlags(name, "ID").parse(args, false); errors.Is(err, errHelp) {
			return 0, err
		}
		return 1, fmt.Errorf("%s is not supported", name)
	}
}

// one parses a command's options and returns the only argument, the container's ID.
func one(f *flags, args []string) (string, error) {
	rest, err := f.parse(args, false)
	if err != nil {
		return "", err
	}
	if len(rest) != 1 {
		return "", fmt.Errorf("%s wants one argument, the container's ID", f.command)
	}
	return rest[0], nil
}

// createFlags are the options of create and run.
func createFlags(f *flags, r *oci.Runtime, opts *oci.Options) {
	var ignored bool
	opts.Bundle = "."
	f.text(&opts.Bundle, "bundle", "folder with config.json (default: this one)")
	f.text(&opts.Bundle, "b", "the same")
	f.text(&opts.ConfigFile, "config", "another name for config.json")
	f.text(&opts.ConfigFile, "f", "the same")
	f.text(&opts.PidFile, "pid-file", "file for the process's number")
	f.text(&opts.ConsoleSocket, "console-socket", "unix socket for the terminal's master")
	f.text(&opts.PidfdSocket, "pidfd-socket", "unix socket for a pidfd of the process")
	f.flag(&r.NoPivot, "no-pivot", "move the root in the place of pivot_root")
	f.flag(&r.NoNewKeyring, "no-new-keyring", "no session keyring of its own")
	f.flag(&ignored, "no-subreaper", "ignored: this program is none")
	f.each("preserve-fds", "so many descriptors from 3 on are the container's", preserve(r))
}

func preserve(r *oci.Runtime) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 256 {
			return fmt.Errorf("%q: want a number from 0 to 256", s)
		}
		for fd := 3; fd < 3+n; fd++ {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
				return fmt.Errorf("descriptor %d is not open", fd)
			}
		}
		r.Preserve = n
		return nil
	}
}

// activation passes on the descriptors of a socket activation, of which sd_listen_fds(3)
// tells: they are the container's first ones from 3 on. What is meant for another process is
// ignored.
func activation(r *oci.Runtime, opts *oci.Options) {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || n > 256 {
		return
	}
	if pid := os.Getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return
	}
	if preserve(r)(strconv.Itoa(r.Preserve+n)) != nil {
		return
	}
	opts.Env = []string{"LISTEN_PID=1", "LISTEN_FDS=" + strconv.Itoa(n)}
	if names, ok := os.LookupEnv("LISTEN_FDNAMES"); ok {
		opts.Env = append(opts.Env, "LISTEN_FDNAMES="+names)
	}
}

func create(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	var opts oci.Options
	f := newFlags("create", "ID")
	createFlags(f, r, &opts)
	id, err := one(f, args)
	if err != nil {
		return 1, err
	}
	activation(r, &opts)
	c, err := r.Create(id, opts)
	if err != nil {
		return 1, err
	}
	c.Close()
	return 0, nil
}

func start(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	id, err := one(newFlags("start", "ID"), args)
	if err != nil {
		return 1, err
	}
	return 0, r.Start(id)
}

func state(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	id, err := one(newFlags("state", "ID"), args)
	if err != nil {
		return 1, err
	}
	c, err := r.Load(id)
	if err != nil {
		return 1, err
	}
	return 0, printJSON(newRecord(c, ""))
}

// record is what state and list print: the specification's state, and more, in the order in
// which runc has it.
type record struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	Pid         int                  `json:"pid"`
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"`
}

func newRecord(c *oci.Container, owner string) record {
	s := c.State()
	return record{
		s.Version, s.ID, s.Pid, s.Status, s.Bundle, c.Rootfs, c.Created, s.Annotations, owner,
	}
}

func printJSON(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", data)
	return err
}

func kill(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	var all bool
	f := newFlags("kill", "ID [SIGNAL]")
	f.flag(&all, "all", "to all of the container's processes")
	f.flag(&all, "a", "the same")
	rest, err := f.parse(args, false)
	if err != nil {
		return 1, err
	}
	if len(rest) < 1 || len(rest) > 2 {
		return 1, errors.New("kill wants a container's ID, and a signal if it is not SIGTERM")
	}
	sig := unix.SIGTERM
	if len(rest) == 2 {
		if sig, err = parseSignal(rest[1]); err != nil {
			return 1, err
		}
	}
	return 0, r.Kill(rest[0], sig, all)
}

// parseSignal reads 9, KILL or SIGKILL.
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("signal %q is unknown", s)
}

func remove(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	var force bool
	f := newFlags("delete", "ID")
	f.flag(&force, "force", "kill it first; no error if there is none")
	f.flag(&force, "f", "the same")
	id, err := one(f, args)
	if err != nil {
		return 1, err
	}
	return 0, r.Delete(id, force)
}

func runContainer(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	opts := oci.Options{Run: true}
	var detach, keep bool
	f := newFlags("run", "ID")
	createFlags(f, r, &opts)
	f.flag(&detach, "detach", "do not wait for its end")
	f.flag(&detach, "d", "the same")
	f.flag(&keep, "keep", "do not delete it")
	id, err := one(f, args)
	if err != nil {
		return 1, err
	}
	activation(r, &opts)
	var term *terminal
	if opts.ConsoleSocket == "" && !detach && opts.WantsTerminal() {
		if term, err = newTerminal(); err != nil {
			return 1, err
		}
		defer term.close()
		opts.ConsoleSocket, opts.ConsoleSize = term.path, ownSize()
		opts.ConsolePlain = !isTerminal(1)
	}
	caught := catch(detach, term)
	c, err := r.Create(id, opts)
	if err != nil {
		return 1, err
	}
	if detach {
		c.Close()
		return 0, nil
	}
	if term != nil {
		term.relay()
	}
	c.Close() // the lock: state, exec and kill may have it now
	pid := c.Pid
	go forward(caught, pid, term)
	status, err := oci.Wait(pid)
	if term != nil {
		term.drain()
	}
	if err == nil && !keep {
		err = r.Delete(id, true)
	}
	return status, err
}

// catch catches what forward passes on, if there is somebody to do so.
func catch(detach bool, term *terminal) <-chan os.Signal {
	caught := make(chan os.Signal, 128)
	switch {
	case detach:
	case term != nil:
		signals.Catch(caught, unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT)
	default:
		signals.Catch(caught)
	}
	return caught
}

// forward passes on the signals that this process gets.
func forward(caught <-chan os.Signal, pid int, term *terminal) {
	for s := range caught {
		switch s {
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
		case unix.SIGWINCH:
			if term != nil {
				term.resize()
			}
		default:
			_ = unix.Kill(pid, s.(unix.Signal))
		}
	}
}

func execute(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	r.Reexec = oci.Protect
	var opts oci.ExecOptions
	var process, cwd, userSpec, apparmor, label string
	var env, caps, gids []string
	var tty, detach, nnp, ignored bool
	f := newFlags("exec", "ID COMMAND [ARGUMENT...]")
	f.text(&process, "process", "file with the process, as in config.json")
	f.text(&process, "p", "the same")
	f.text(&cwd, "cwd", "working directory")
	f.list(&env, "env", "NAME=VALUE, may be repeated")
	f.list(&env, "e", "the same")
	f.text(&userSpec, "user", "UID[:GID]")
	f.text(&userSpec, "u", "the same")
	f.list(&gids, "additional-gids", "groups, may be repeated")
	f.list(&gids, "g", "the same")
	f.list(&caps, "cap", "capability to add, may be repeated")
	f.list(&caps, "c", "the same")
	f.text(&apparmor, "apparmor", "profile")
	f.text(&label, "process-label", "of SELinux")
	f.flag(&tty, "tty", "a terminal")
	f.flag(&tty, "t", "the same")
	f.flag(&detach, "detach", "do not wait for its end")
	f.flag(&detach, "d", "the same")
	f.flag(&nnp, "no-new-privs", "set no_new_privs")
	f.flag(&ignored, "no-subreaper", "ignored: this program is none")
	f.flag(&opts.Paused, "ignore-paused", "also if the container is paused: it waits, then")
	f.each("cgroup", "[CONTROLLER,…:]GROUP below the container's", subgroup(&opts))
	f.text(&opts.PidFile, "pid-file", "file for the process's number")
	f.text(&opts.ConsoleSocket, "console-socket", "unix socket for the terminal's master")
	f.text(&opts.PidfdSocket, "pidfd-socket", "unix socket for a pidfd of the process")
	f.each("preserve-fds", "so many descriptors from 3 on are the process's", preserve(r))
	rest, err := f.parse(args, true)
	if err != nil {
		return 1, err
	}
	if len(rest) < 1 || process == "" && len(rest) < 2 {
		return 1, errors.New("exec wants a container's ID and a command, or --process")
	}
	opts.Process, err = r.Process(rest[0], func(p *specs.Process) error {
		if process != "" {
			return readProcess(process, p)
		}
		p.Args, p.Terminal, p.ConsoleSize = rest[1:], tty, nil
		if cwd != "" {
			p.Cwd = cwd
		}
		p.Env = append(p.Env, env...)
		p.NoNewPrivileges = p.NoNewPrivileges || nnp
		if apparmor != "" {
			p.ApparmorProfile = apparmor
		}
		if label != "" {
			p.SelinuxLabel = label
		}
		if err := addCapabilities(p, caps); err != nil {
			return err
		}
		return setUser(p, userSpec, gids)
	})
	if err != nil {
		return 255, err
	}
	if process != "" && tty {
		opts.Process.Terminal = true
	}
	var term *terminal
	if opts.Process.Terminal && opts.ConsoleSocket == "" && !detach {
		if term, err = newTerminal(); err != nil {
			return 255, err
		}
		defer term.close()
		opts.ConsoleSocket, opts.ConsolePlain = term.path, !isTerminal(1)
		if opts.Process.ConsoleSize == nil {
			opts.Process.ConsoleSize = ownSize()
		}
	}
	caught := catch(detach, term)
	pid, err := r.Exec(rest[0], opts)
	if err != nil {
		return 255, err
	}
	if detach {
		return 0, nil
	}
	if term != nil {
		term.relay()
	}
	go forward(caught, pid, term)
	status, err := oci.Wait(pid)
	if term != nil {
		term.drain()
	}
	return status, err
}

// subgroup reads --cgroup, which may be given once, or once for each controller.
func subgroup(opts *oci.ExecOptions) func(string) error {
	return func(s string) error {
		controllers, path, ok := strings.Cut(s, ":")
		if !ok {
			controllers, path = "", s
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			_, twice := opts.Groups[controller]
			if _, all := opts.Groups[""]; twice || all || ok && controller == "" ||
				!ok && opts.Groups != nil {
				return fmt.Errorf("%q: want a group, or groups each with controllers of its own", s)
			}
			if opts.Groups == nil {
				opts.Groups = map[string]string{}
			}
			opts.Groups[controller] = path
		}
		return nil
	}
}

func addCapabilities(p *specs.Process, caps []string) error {
	if len(caps) == 0 {
		return nil
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	known := initproc.Capabilities()
	for _, c := range caps {
		name := "CAP_" + strings.TrimPrefix(strings.ToUpper(c), "CAP_")
		if !slices.Contains(known, name) {
			return fmt.Errorf("--cap %q: there is no such capability", c)
		}
		s := p.Capabilities
		sets := []*[]string{&s.Bounding, &s.Effective, &s.Permitted}
		if slices.Contains(s.Inheritable, name) { // or a user other than root would not have it
			sets = append(sets, &s.Ambient)
		}
		for _, set := range sets {
			*set = append(*set, name)
		}
	}
	return nil
}

func setUser(p *specs.Process, spec string, gids []string) error {
	if spec != "" {
		uid, gid, hasGID := strings.Cut(spec, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return fmt.Errorf("--user %q: want UID[:GID], as numbers", spec)
		}
		p.User.UID = uint32(n)
		if hasGID {
			if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
				return fmt.Errorf("--user %q: want UID[:GID], as numbers", spec)
			}
			p.User.GID = uint32(n)
		}
	}
	for _, s := range gids {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("--additional-gids %q: want a number", s)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(n))
	}
	return nil
}

// readProcess reads a process from a file. What protects or limits it is the container's
// where the file does not say.
func readProcess(path string, p *specs.Process) error {
	own := *p
	*p = specs.Process{}
	if err := readJSONFile(path, p); err != nil {
		return err
	}
	if p.Capabilities == nil {
		p.Capabilities = own.Capabilities
	}
	if p.Rlimits == nil {
		p.Rlimits = own.Rlimits
	}
	if p.ApparmorProfile == "" {
		p.ApparmorProfile = own.ApparmorProfile
	}
	if p.SelinuxLabel == "" {
		p.SelinuxLabel = own.SelinuxLabel
	}
	return nil
}

func readJSONFile(path string, v any) error {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(os.Stdin)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func pause(frozen bool) func(*global, []string) (int, error) {
	return func(g *global, args []string) (int, error) {
		r, err := g.runtime()
		if err != nil {
			return 1, err
		}
		name := "resume"
		if frozen {
			name = "pause"
		}
		id, err := one(newFlags(name, "ID"), args)
		if err != nil {
			return 1, err
		}
		return 0, r.Pause(id, frozen)
	}
}

func ps(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	format := "table"
	f := newFlags("ps", "ID [OPTION OF PS...]")
	f.text(&format, "format", "table or json")
	f.text(&format, "f", "the same")
	rest, err := f.parse(args, true)
	if err != nil {
		return 1, err
	}
	if len(rest) < 1 {
		return 1, errors.New("ps wants a container's ID")
	}
	pids, err := r.Pids(rest[0])
	if err != nil {
		return 1, err
	}
	switch format {
	case "json":
		if pids == nil {
			pids = []int{}
		}
		return 0, json.NewEncoder(os.Stdout).Encode(pids)
	case "table":
		return 0, psTable(pids, rest[1:])
	}
	return 1, fmt.Errorf("--format %q: want table or json", format)
}

// psTable prints the lines of ps(1) that are about the container's processes.
func psTable(pids []int, args []string) error {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.Command("ps", args...).Output()
	if err != nil {
		return fmt.Errorf("ps (package procps): %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	column := -1
	for i, name := range strings.Fields(lines[0]) {
		if name == "PID" {
			column = i
		}
	}
	if column < 0 {
		return errors.New("ps prints no column PID with these options")
	}
	fmt.Println(lines[0])
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		for _, pid := range pids {
			if column < len(fields) && fields[column] == strconv.Itoa(pid) {
				fmt.Println(line)
			}
		}
	}
	return nil
}

func list(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	format := "table"
	var quiet bool
	f := newFlags("list", "")
	f.text(&format, "format", "table or json")
	f.text(&format, "f", "the same")
	f.flag(&quiet, "quiet", "IDs only")
	f.flag(&quiet, "q", "the same")
	if rest, err := f.parse(args, false); err != nil {
		return 1, err
	} else if len(rest) > 0 {
		return 1, errors.New("list takes no arguments")
	}
	if g.root != "" {
		if _, err := os.Stat(g.root); err != nil {
			return 1, err
		}
	}
	all, err := r.List()
	if err != nil {
		return 1, err
	}
	entries := []record{}
	for _, c := range all {
		owner := strconv.Itoa(c.Owner)
		if u, err := user.LookupId(owner); err == nil {
			owner = u.Username
		}
		entries = append(entries, newRecord(c, owner))
	}
	if quiet {
		for _, e := range entries {
			fmt.Println(e.ID)
		}
		return 0, nil
	}
	switch format {
	case "json":
		return 0, json.NewEncoder(os.Stdout).Encode(entries)
	case "table":
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
		fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
		for _, e := range entries {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", e.ID, e.Pid, e.Status, e.Bundle,
				e.Created.Format(time.RFC3339Nano), e.Owner)
		}
		return 0, w.Flush()
	}
	return 1, fmt.Errorf("--format %q: want table or json", format)
}

func events(g *global, args []string) (int, error) {
	r, err := g.runtime()
	if err != nil {
		return 1, err
	}
	var once bool
	interval := 5 * time.Second
	f := newFlags("events", "ID")
	f.flag(&once, "stats", "once")
	f.each("interval", "time between two (default 5s)", func(s string) error {
		interval, err = time.ParseDuration(s)
		if err == nil && interval <= 0 {
			err = errors.New("want more than 0")
		}
		return err
	})
	id, err := one(f, args)
	if err != nil {
		return 1, err
	}
	out := json.NewEncoder(os.Stdout)
	kills, _ := r.OOMKills(id)
	for {
		stats, err := r.Stats(id)
		if err != nil {
			return 1, err
		}
		if err := out.Encode(event{"stats", id, stats}); err != nil || once {
			return 0, err
		}
		for next := time.Now().Add(interval); time.Now().Before(next); {
			time.Sleep(min(time.Until(next), 200*time.Millisecond))
			now, _ := r.OOMKills(id)
			if now > kills {
				if err := out.Encode(event{"oom", id, nil}); err != nil {
					return 1, err
				}
			}
			kills = max(kills, now)
			c, err := r.Load(id)
			if err != nil || c.Status() == specs.StateStopped {
				return 0, nil // the events are over
			}
			c.Close()
		}
	}
}

// event is a line of "events".
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}
