//go:build linux

package server

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"
)

// LogName is the log's name in the container's folder; ".1", ".2", … are older ones.
const LogName = "container-json.log"

// maxLine is how much of a line is one record: a longer one is several, of which only the last
// ends with a newline.
const maxLine = 16 << 10

// logFile writes what the container says, as Docker's json-file does: a line of JSON for each
// line, {"log":"text\n","stream":"stdout","time":"…"}.
type logFile struct {
	mu      sync.Mutex
	path    string
	file    *os.File // nil when it is closed
	size    int64
	max     int64
	files   int
	pending map[string][]byte // the begun line, by stream
	buffer  []byte
	failed  bool
}

func openLog(dir string, maxSize int64, maxFiles int) (*logFile, error) {
	l := &logFile{
		path: filepath.Join(dir, LogName), max: maxSize, files: max(maxFiles, 1),
		pending: map[string][]byte{},
	}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, info.Size()
	return nil
}

// write takes what came of a stream. What is no whole line yet waits for the rest. A disk that is
// full does not stop the container: what is not written is lost, and the log goes on when it can.
func (l *logFile) write(stream string, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	now := time.Now().UTC()
	l.buffer = l.buffer[:0]
	for len(data) > 0 {
		pending := l.pending[stream]
		end := bytes.IndexByte(data, '\n') + 1
		whole := end > 0
		if !whole {
			end = len(data)
		}
		if room := maxLine - len(pending); end > room {
			end, whole = room, true
		}
		line := data[:end]
		data = data[end:]
		if len(pending) > 0 || !whole {
			pending = append(pending, line...)
			line = pending
		}
		if !whole {
			l.pending[stream] = pending
			break
		}
		l.pending[stream] = pending[:0]
		l.buffer = appendRecord(l.buffer, line, stream, now)
	}
	return l.flush()
}

// flush writes the records that were made.
func (l *logFile) flush() error {
	if len(l.buffer) == 0 {
		return nil
	}
	if l.max > 0 && l.size > 0 && l.size+int64(len(l.buffer)) > l.max {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(l.buffer)
	l.size += int64(n)
	if cap(l.buffer) > 1<<18 {
		l.buffer = nil
	}
	first := err != nil && !l.failed
	l.failed = err != nil
	if first {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}

// rotate moves the files on by one, and begins a new one.
func (l *logFile) rotate() error {
	l.file.Close()
	for i := l.files - 1; i > 0; i-- {
		from := l.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", l.path, i-1)
		}
		_ = os.Rename(from, fmt.Sprintf("%s.%d", l.path, i)) // it need not be there
	}
	if l.files == 1 {
		if err := os.Remove(l.path); err != nil {
			return err
		}
	}
	return l.open()
}

// close writes begun lines, and closes the log.
func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	l.buffer = l.buffer[:0]
	for _, stream := range []string{"stdout", "stderr"} {
		if line := l.pending[stream]; len(line) > 0 {
			l.buffer = appendRecord(l.buffer, line, stream, time.Now().UTC())
		}
	}
	_ = l.flush()
	l.file.Close()
	l.file = nil
}

// appendRecord appends a record. It is written by hand because it is the one thing that a shim
// does a hundred thousand times a second.
func appendRecord(to, line []byte, stream string, at time.Time) []byte {
	to = append(to, `{"log":"`...)
	to = appendEscaped(to, line)
	to = append(to, `","stream":"`...)
	to = append(to, stream...)
	to = append(to, `","time":"`...)
	to = at.AppendFormat(to, time.RFC3339Nano)
	return append(to, "\"}\n"...)
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends text as it stands in a JSON string; what is no UTF-8 becomes U+FFFD.
func appendEscaped(to, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				to = append(to, '\\', c)
			case c == '\n':
				to = append(to, `\n`...)
			case c < ' ' || c == 0x7f:
				to = append(to, `\u00`...)
				to = append(to, hexDigits[c>>4], hexDigits[c&15])
			default:
				to = append(to, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			to = append(to, "\ufffd"...)
		} else {
			to = append(to, text[i:i+n]...)
		}
		i += n
	}
	return to
}
