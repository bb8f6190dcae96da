//go:build linux

package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"minidocker/final/shim"
	"minidocker/final/shim/server"
)

// LogOptions say what of a log to give.
type LogOptions struct {
	Stdout, Stderr      bool
	Follow              bool // go on with what comes, until the container's end
	Timestamps, Details bool
	Since, Until        string // times, see parseTime
	Tail                string // the last so many lines; "" or all: all
	since, until        time.Time
	tail                int    // -1: all
	prefix              string // of each line, by Details
}

// logLine is a record of the log.
type logLine struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// Logs writes what a container has said. With a terminal all is out.
func (e *Engine) Logs(ctx context.Context, ref string, o LogOptions, out, err io.Writer) error {
	r, _, failure := e.get(ref)
	if failure != nil {
		return failure
	}
	if r.HostConfig.LogConfig.Type == "none" {
		return failed(Unavailable, "configured logging driver does not support reading")
	}
	if failure := o.parse(r); failure != nil {
		return failure
	}
	l := &logReader{o: &o, out: out, err: err, dir: e.dir(r.ID), whole: map[string]bool{}}
	return l.run(ctx, func() bool { return shim.Alive(e.runDir(r.ID)) })
}

func (o *LogOptions) parse(r *record) error {
	if !o.Stdout && !o.Stderr {
		return failed(Invalid, "you must choose at least one stream")
	}
	now := time.Now()
	for _, one := range []struct {
		text string
		to   *time.Time
	}{{o.Since, &o.since}, {o.Until, &o.until}} {
		if one.text == "" || one.text == "0" {
			continue
		}
		t, err := parseTime(one.text, now)
		if err != nil {
			return err
		}
		*one.to = t
	}
	o.tail = -1
	if o.Tail != "" && o.Tail != "all" {
		n, err := strconv.Atoi(o.Tail)
		if err == nil && n >= 0 {
			o.tail = n
		}
	}
	if o.Details {
		var pairs []string
		for _, name := range strings.Split(r.HostConfig.LogConfig.Config["labels"], ",") {
			if v, ok := r.Config.Labels[name]; ok {
				pairs = append(pairs, name+"="+v)
			}
		}
		o.prefix = strings.Join(pairs, ",") + " "
	}
	return nil
}

// logReader reads a log's files, the oldest first, and then what is appended.
type logReader struct {
	o        *LogOptions
	out, err io.Writer
	dir      string
	file     *os.File
	rest     []byte // the beginning of a record
	whole    map[string]bool
	over     bool // a record after until has come
}

func (l *logReader) run(ctx context.Context, alive func() bool) error {
	files, err := l.files()
	if err != nil {
		return err
	}
	defer func() { closeFiles(files) }()
	if l.o.tail >= 0 && len(files) > 0 {
		if files, err = seekTail(files, l.o.tail); err != nil {
			return err
		}
	}
	for _, f := range files {
		l.file = f
		if err := l.read(ctx); err != nil || l.over {
			return err
		}
	}
	if !l.o.Follow {
		return nil
	}
	return l.follow(ctx, alive)
}

// files opens the log's files. If they move on by one meanwhile, it begins anew.
func (l *logReader) files() ([]*os.File, error) {
	path := filepath.Join(l.dir, server.LogName)
	for {
		first, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		files := []*os.File{first}
		for i := 1; ; i++ {
			f, err := os.Open(fmt.Sprintf("%s.%d", path, i))
			if err != nil {
				break
			}
			files = append(files, f)
		}
		mine, err := first.Stat()
		if err != nil {
			return nil, err
		}
		if now, err := os.Stat(path); err == nil && os.SameFile(mine, now) {
			slices.Reverse(files)
			return files, nil
		}
		closeFiles(files)
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// seekTail goes to where the last so many records begin, reading from the end.
func seekTail(files []*os.File, lines int) ([]*os.File, error) {
	left := lines + 1 // the newline before the first of them
	for i := len(files) - 1; i >= 0; i-- {
		end, err := files[i].Seek(0, io.SeekEnd)
		if err != nil {
			return nil, err
		}
		block := make([]byte, 64<<10)
		for at := end; at > 0; {
			n := min(at, int64(len(block)))
			at -= n
			if _, err := files[i].ReadAt(block[:n], at); err != nil {
				return nil, err
			}
			for j := int(n) - 1; j >= 0; j-- {
				if block[j] != '\n' {
					continue
				}
				if left--; left == 0 {
					_, err := files[i].Seek(at+int64(j)+1, io.SeekStart)
					return files[i:], err
				}
			}
		}
		if _, err := files[i].Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		// The beginning of a file is as good as a newline before it.
		if i > 0 && left == 1 {
			return files[i:], nil
		}
	}
	return files, nil
}

// read gives what is in the file from where it is read.
func (l *logReader) read(ctx context.Context) error {
	r := bufio.NewReaderSize(l.file, 64<<10)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := r.ReadBytes('\n')
		if len(l.rest) > 0 {
			line = append(l.rest, line...)
			l.rest = nil
		}
		if err != nil {
			l.rest = bytes.Clone(line)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := l.give(line); err != nil || l.over {
			return err
		}
	}
}

// give writes one record.
func (l *logReader) give(text []byte) error {
	var line logLine
	if json.Unmarshal(text, &line) != nil {
		return nil // half a record, of a machine that crashed
	}
	o := l.o
	if !o.since.IsZero() && line.Time.Before(o.since) {
		return nil
	}
	if !o.until.IsZero() && line.Time.After(o.until) {
		l.over = true
		return nil
	}
	to, wanted := l.out, o.Stdout
	if line.Stream == "stderr" {
		to, wanted = l.err, o.Stderr
	}
	if !wanted || to == nil {
		return nil
	}
	begin := ""
	if !l.whole[line.Stream] { // not in the middle of a long line
		if o.Timestamps {
			begin = line.Time.UTC().Format(timeNano) + " "
		}
		begin += o.prefix
	}
	l.whole[line.Stream] = !strings.HasSuffix(line.Log, "\n")
	_, err := io.WriteString(to, begin+line.Log)
	return err
}

// timeNano is RFC 3339 with all nine digits, so that the columns stand.
const timeNano = "2006-01-02T15:04:05.000000000Z07:00"

// follow goes on with what is appended, also to a new file, until the container has ended.
func (l *logReader) follow(ctx context.Context, alive func() bool) error {
	watch, err := folders.watch(l.dir)
	if err != nil {
		return err
	}
	defer watch.close()
	for {
		ends := !alive() // before the last look
		if err := l.catchUp(ctx); err != nil || l.over || ends {
			return err
		}
		if !l.o.until.IsZero() && time.Now().After(l.o.until) {
			return nil
		}
		if err := watch.wait(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// catchUp reads to the end, and goes on to newer files.
func (l *logReader) catchUp(ctx context.Context) error {
	for {
		if l.file != nil {
			if err := l.read(ctx); err != nil || l.over {
				return err
			}
		}
		next, err := os.Open(filepath.Join(l.dir, server.LogName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if l.file != nil {
			mine, err := l.file.Stat()
			now, err2 := next.Stat()
			if err := errors.Join(err, err2); err != nil {
				next.Close()
				return err
			}
			if os.SameFile(mine, now) {
				next.Close()
				return nil
			}
			if err := l.read(ctx); err != nil { // what came before it was moved on
				next.Close()
				return err
			}
			l.file.Close()
		}
		l.file, l.rest = next, nil
	}
}
