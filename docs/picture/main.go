// Command picture draws a session at a terminal: it starts a program on a terminal of its
// own, types what a reader would type, and writes what is then on the screen as SVG to
// standard output. The picture in the README is made with it, by "make picture".
//
//	picture PROMPT PROGRAM [ARG...] <TYPED
//
// PROMPT is what the program prints when it waits for a line, as "/ # ". TYPED are the
// lines, without the one that ends it. It knows no cursor movements but those back to the
// beginning of a line and over one character.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"html"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/creack/pty"
)

const (
	// Of the terminal, in characters.
	columns, rows = 92, 40
	// Of a character, in the units of the picture.
	charWidth, lineHeight = 8.4, 20
	margin                = 16
	// patience is how long the program may take to print its prompt.
	patience = 10 * time.Minute
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: picture PROMPT PROGRAM [ARG...] <TYPED")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(prompt string, command []string) error {
	var typed []string
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		typed = append(typed, in.Text())
	}
	screen, err := record(prompt, command, typed)
	if err != nil {
		return err
	}
	lines := append([]string{"$ " + strings.Join(command, " ")}, screen...)
	_, err = io.WriteString(os.Stdout, draw(lines, prompt))
	return err
}

// record runs the command and returns the lines that are on its terminal at the end.
func record(prompt string, command, typed []string) ([]string, error) {
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // it is what the user asks for
	cmd.Env = append(os.Environ(), "TERM=dumb", "NO_COLOR=1", "MAKEFLAGS=s")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: columns})
	if err != nil {
		return nil, fmt.Errorf("start %q: %w", command[0], err)
	}
	defer tty.Close()
	var output strings.Builder
	for _, line := range append(typed, "exit") {
		if err := await(tty, &output, prompt); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(tty, line+"\n"); err != nil {
			return nil, fmt.Errorf("type %q: %w", line, err)
		}
	}
	// Reading a terminal that nobody writes to any more is an error, EIO.
	rest, _ := io.ReadAll(tty)
	output.Write(rest)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("run %q: %w", command[0], err)
	}
	return screenLines(output.String()), nil
}

// await reads what the program prints, up to its prompt.
func await(tty *os.File, output *strings.Builder, prompt string) error {
	if err := tty.SetReadDeadline(time.Now().Add(patience)); err != nil &&
		!errors.Is(err, os.ErrNoDeadline) {
		return err
	}
	buf := make([]byte, 4096)
	seen := output.Len()
	for {
		n, err := tty.Read(buf)
		output.Write(buf[:n])
		fresh := escapes.ReplaceAllString(output.String()[seen:], "")
		if strings.HasSuffix(fresh, prompt) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for %q after %q: %w", prompt, fresh, err)
		}
	}
}

// escapes are what a terminal is told that is not seen.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// screenLines is what a terminal shows of the output.
func screenLines(output string) []string {
	var lines []string
	output = strings.ReplaceAll(escapes.ReplaceAllString(output, ""), "\r\n", "\n")
	for line := range strings.SplitSeq(strings.TrimRight(output, "\n"), "\n") {
		lines = append(lines, overwrite(line))
	}
	return lines
}

// overwrite carries out a line's returns and backspaces.
func overwrite(line string) string {
	var cells []rune
	at := 0
	for _, c := range line {
		switch {
		case c == '\r':
			at = 0
		case c == '\b':
			at = max(0, at-1)
		case at < len(cells):
			cells[at] = c
			at++
		default:
			cells = append(cells, c)
			at++
		}
	}
	return strings.TrimRight(string(cells), " ")
}

// draw is the picture of the lines; what was typed at a prompt stands out.
func draw(lines []string, prompt string) string {
	var b strings.Builder
	width, height := columns*charWidth+2*margin, len(lines)*lineHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" role="img">`+"\n",
		width, height)
	fmt.Fprintf(&b, "<title>%s, at a terminal</title>\n", html.EscapeString(lines[0]))
	b.WriteString(`<style>text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, ` +
		`monospace; fill: #d8dee9; white-space: pre } .p { fill: #88c0d0 } ` +
		`.t { fill: #fff; font-weight: bold }</style>` + "\n")
	b.WriteString(`<rect width="100%" height="100%" rx="8" fill="#20242c"/>` + "\n")
	for i, line := range lines {
		mark := prompt
		if i == 0 {
			mark = "$ "
		}
		text := html.EscapeString(line)
		if rest, ok := strings.CutPrefix(line, mark); ok {
			text = fmt.Sprintf(`<tspan class="p">%s</tspan><tspan class="t">%s</tspan>`,
				html.EscapeString(mark), html.EscapeString(rest))
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" xml:space="preserve">%s</text>`+"\n",
			margin, margin+i*lineHeight+14, text)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
