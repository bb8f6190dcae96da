package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostOutput is how many bytes of a command's output are kept.
	mostOutput = 256 << 10
	// killWait is how long a shell may take to notice that its command was killed.
	killWait = time.Second
)

// bash is a shell that runs one command after the other.
//
// It reads them as a script, from a fifo: bash hides a script's descriptor from what
// it starts, so that the commands' standard input is /dev/null and they have no other.
type bash struct {
	fifo   *os.File
	output *output
	end    *regexp.Regexp // what it prints after a command, with the exit status
	prefix *regexp.Regexp // what it puts before its own error messages
	killed *regexp.Regexp // what it says of a command that a signal ended
	pid    int
	exited chan struct{} // closed when it has ended
}

// startBash starts a shell. It prints to out, which may be that of another shell as well.
func startBash(fifo string, cmd *exec.Cmd, out *output) (*bash, error) {
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: fifo, Err: err}
	}
	cmd.Args = []string{"bash", "--noprofile", "--norc", fifo}
	cmd.Stdout, cmd.Stderr = out.write, out.write
	// A session of its own: there is no terminal, as there is none in a test.
	cmd.SysProcAttr.Setsid = true
	if c := cmd.SysProcAttr.Credential; c != nil {
		if err := os.Chown(fifo, int(c.Uid), int(c.Gid)); err != nil {
			return nil, err
		}
	}
	// Open for both, so that neither side waits for the other.
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	mark := "weave-" + rand.Text()
	b := &bash{
		fifo:   f,
		output: out,
		end:    regexp.MustCompile("\x1e" + mark + ` \d+` + "\x1e"),
		prefix: regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(fifo) +
			`: (?:eval: )?(?:line \d+: )?`),
		killed: regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(fifo) +
			`: line \d+: +\d+ (\S.*?)  .*$`),
		pid:    cmd.Process.Pid,
		exited: make(chan struct{}),
	}
	go func() {
		_ = cmd.Wait() // how it ended does not matter
		close(b.exited)
	}()
	// Job control, which a shell at a prompt has as well, gives each command a process
	// group of its own. __weave leaves $? as it was.
	_, err = fmt.Fprintf(f, "set -m\n"+
		`__weave() { local s=$?; printf '\036%s %%d\036' "$s"; return "$s"; }`+"\n", mark)
	return b, err
}

// result is what came of a command.
type result struct {
	output string
	late   bool // it was killed, since it took too long
	dead   bool // the shell has ended
}

// run runs a command to its end, or kills what it started.
func (b *bash) run(text string, timeout time.Duration) (result, error) {
	before := processes()
	quoted := "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	if _, err := fmt.Fprintf(b.fifo, "eval %s\n__weave\n", quoted); err != nil {
		return result{}, err
	}
	if b.await(timeout) {
		return result{output: b.taken()}, nil
	}
	res := result{output: b.taken(), late: b.alive()}
	for range 3 { // some may start others meanwhile
		killSince(before)
	}
	if !b.await(killWait) {
		res.dead = true
		_ = unix.Kill(b.pid, unix.SIGKILL) // it may have ended
	}
	b.output.take() // what it says of those that were killed
	return res, nil
}

// taken is the output so far, in which the shell's own errors are as they are at a prompt.
func (b *bash) taken() string {
	text := b.end.ReplaceAllString(b.output.take(), "")
	text = b.killed.ReplaceAllString(text, "$1")
	return b.prefix.ReplaceAllString(text, "bash: ")
}

func (b *bash) alive() bool {
	select {
	case <-b.exited:
		return false
	default:
		return true
	}
}

// await waits until the shell says that the command has ended.
func (b *bash) await(timeout time.Duration) bool {
	late := time.After(timeout)
	for {
		if b.output.has(b.end) {
			return true
		}
		select {
		case <-b.output.news:
		case <-late:
			return b.output.has(b.end)
		case <-b.exited:
			time.Sleep(50 * time.Millisecond) // for its last words to be read
			return b.output.has(b.end)
		}
	}
}
