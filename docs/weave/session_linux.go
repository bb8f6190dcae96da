package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/tests/sandbox"
)

// sessionVerb is how weave run starts itself for one file. It is in no help text.
const sessionVerb = "session"

// session runs the console blocks of a file.
type session struct {
	scratch *scratch
	page    *page
	out     *call
	update  bool
	verbose bool
	timeout time.Duration

	output *output
	root   *bash
	user   *bash // nil until a command wants it

	blocks, run, notRun int
	dead                bool // a shell has ended: nothing more can be run
	problems            problemList
	updates             []update
}

// sessionCommand is weave session [flags] SCRATCH FILE, in a sandbox.
func sessionCommand(c *call) int {
	fs := flags(sessionVerb)
	s := &session{out: c}
	sessionFlags(fs, s)
	if err := c.parse(fs, 2, 2); err != nil {
		return exitStatus(c, err)
	}
	writable := []string{c.args[0]}
	if cache := os.Getenv("GOCACHE"); cache != "" { // for lessons that build a program
		writable = append(writable, cache)
	}
	return sandbox.RunFirst(func() int {
		return exitStatus(c, s.inSandbox(c.args[0], c.args[1]))
	}, writable...)
}

func (s *session) inSandbox(dir, file string) error {
	r, err := openRepo(s.out.dir)
	if err != nil {
		return err
	}
	if s.page, err = r.page(file); err != nil {
		return err
	}
	s.scratch = r.scratchFor(s.page)
	s.scratch.dir = dir
	// A command gets no descriptor of whoever started weave. Since Linux 5.11.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	if err := s.scratch.ownTemp(); err != nil {
		return err
	}
	if err := s.runAll(); err != nil {
		return err
	}
	if err := s.save(); err != nil {
		return err
	}
	err = s.problems.report(s.out.stdout)
	fmt.Fprintf(s.out.stdout, "%s: %d blocks, %d commands run, %d not run\n",
		s.page.file, s.blocks, s.run, s.notRun)
	return err
}

// inTemp says that /tmp must stay as it is, since the repository is there.
func (s *scratch) inTemp() bool { return strings.HasPrefix(s.dir, "/tmp/") }

// ownTemp makes a /tmp that can be written to.
func (s *scratch) ownTemp() error {
	if s.inTemp() {
		return nil
	}
	err := unix.Mount("tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	if err != nil {
		return fmt.Errorf("mount tmpfs on /tmp: %w", err)
	}
	return nil
}

func (s *session) runAll() error {
	if err := openProc(); err != nil {
		return err
	}
	var err error
	if s.output, err = newOutput(); err != nil {
		return err
	}
	if s.root, err = s.start(false); err != nil {
		return err
	}
	blocks, problems := s.page.consoles()
	s.problems = append(s.problems, problems...)
	for _, b := range blocks {
		if err := s.block(b); err != nil {
			return err
		}
	}
	return nil
}

// start starts root's shell or the ordinary user's.
func (s *session) start(user bool) (*bash, error) {
	env := s.scratch.settings(s.scratch.plainEnv())
	name, dir := "root.fifo", "work"
	attr := &syscall.SysProcAttr{}
	if user {
		env = s.scratch.userSettings(env)
		name, dir = "user.fifo", "home"
		attr.Credential = s.scratch.credential()
	}
	shell, err := exec.LookPath("bash")
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: shell, Env: env, Dir: s.scratch.path(dir), SysProcAttr: attr}
	b, err := startBash(s.scratch.path(name), cmd, s.output)
	if user && errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("user %d cannot come to %q: the folders on the way there must be "+
			"open to others (chmod o+x): %w", s.scratch.uid, cmd.Dir, err)
	}
	return b, err
}

func (s *scratch) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}
}

func (s *session) block(b console) error {
	s.blocks++
	why := b.skip()
	if why == "" && s.dead {
		why = "the shell has ended"
	}
	if why != "" {
		s.notRun += len(b.commands)
		if s.verbose {
			fmt.Fprintf(s.out.stdout, "%s:%d: not run: %s\n", s.page.file, b.fence.from, why)
		}
		return nil
	}
	for i, c := range b.commands {
		if s.dead {
			s.notRun += len(b.commands) - i
			break
		}
		s.run++
		if err := s.command(b, c); err != nil {
			return err
		}
	}
	return nil
}

// skip says why a block is not run; nothing if it is.
func (b console) skip() string {
	if b.norun != nil {
		return b.norun.reason
	}
	if b.only != nil && b.only.cgroup != cgroupVersion() {
		return fmt.Sprintf("only for cgroup v%d", b.only.cgroup)
	}
	return ""
}

// cgroupVersion is 2 where /sys/fs/cgroup is the unified hierarchy: cgroups(7).
func cgroupVersion() int {
	var st unix.Statfs_t
	err := unix.Statfs("/sys/fs/cgroup", &st)
	if err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return 2
	}
	return 1
}

func (s *session) command(b console, c command) error {
	shell := s.root
	if c.user {
		if s.user == nil {
			var err error
			if s.user, err = s.start(true); err != nil {
				return err
			}
		}
		shell = s.user
	}
	res, err := shell.run(c.text, s.timeout)
	if err != nil {
		return err
	}
	got := trimOutput(splitLines(res.output))
	s.dead = res.dead
	ended := ""
	if res.dead {
		ended = "the shell has ended and nothing after this is run; "
	}
	switch {
	case res.late:
		s.problem(c, fmt.Sprintf("still running after %s and killed; %sit printed:",
			s.timeout, ended), got)
	case res.dead:
		s.problem(c, ended+"it printed:", got)
	default:
		s.compare(b, c, got)
	}
	return nil
}

func (s *session) problem(c command, text string, detail []string) {
	line, _, more := strings.Cut(c.text, "\n")
	if more {
		line += " …"
	}
	text = fmt.Sprintf("%s: %s", line, text)
	s.problems = append(s.problems, problem{
		file: s.page.file, line: c.line, text: text, detail: detail,
	})
}
