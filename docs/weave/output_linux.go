package main

import (
	"os"
	"regexp"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// output collects what shells, and all that they started, print.
type output struct {
	write *os.File      // the end to print to
	news  chan struct{} // has an item when there is more

	mu   sync.Mutex
	head []byte // what was printed, up to mostOutput
	tail []byte // the last of what is over
	cut  bool   // something between head and tail is lost
}

// tailBytes is more than a shell prints to say that a command has ended.
const tailBytes = 256

func newOutput() (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o := &output{write: w, news: make(chan struct{}, 1)}
	go func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := r.Read(buffer)
			o.add(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	return o, nil
}

func (o *output) add(text []byte) {
	o.mu.Lock()
	room := min(mostOutput-len(o.head), len(text))
	o.head = append(o.head, text[:room]...)
	o.tail = append(o.tail, text[room:]...)
	if extra := len(o.tail) - tailBytes; extra > 0 {
		o.tail, o.cut = o.tail[extra:], true
	}
	o.mu.Unlock()
	select {
	case o.news <- struct{}{}:
	default: // it has not noticed the last ones yet
	}
}

func (o *output) has(pattern *regexp.Regexp) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return pattern.Match(append(o.head[:len(o.head):len(o.head)], o.tail...))
}

// take returns what was printed since the last time.
func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := string(o.head)
	if o.cut {
		text += "\n(weave: the rest of the output is cut)\n"
	}
	text += string(o.tail)
	o.head, o.tail, o.cut = nil, nil, false
	return text
}

// procFolder is /proc as it was when the session began: a lesson may mount another
// one over it, with other numbers.
var procFolder *os.Root

func openProc() (err error) {
	procFolder, err = os.OpenRoot("/proc")
	return err
}

// processes are the numbers of all processes.
func processes() map[int]bool {
	found := map[int]bool{}
	dir, err := procFolder.Open(".")
	if err != nil {
		return found
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read is worth having
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			found[pid] = true
		}
	}
	return found
}

// killSince kills the processes that have begun since then.
func killSince(then map[int]bool) {
	for pid := range processes() {
		if !then[pid] {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
}
