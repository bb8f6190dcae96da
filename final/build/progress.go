//go:build linux

package build

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Kind is what kind of an event it is.
type Kind int

// What happens to a step: it begins; prints; and ends in one way or another. Meta is an
// instruction about the configuration alone, done as soon as it begins.
const (
	Begun Kind = iota
	Printed
	Done
	Cached
	Failed
	Canceled
	Meta
)

// Event is what happens to a step of a build.
type Event struct {
	Step   int // steps count from 1
	Kind   Kind
	Name   string        // of the step: "[builder 2/3] RUN make"
	Source string        // the instruction, "RUN make"; "" for what is no instruction
	Text   string        // of Printed
	Since  time.Duration // since the step has begun
	Err    error
	Of     int // how many instructions there are to be done
}

// stepNumbers numbers the steps of a build, and lets them speak one at a time.
type stepNumbers struct {
	mu   sync.Mutex
	last int
}

// step is a step that is being done.
type step struct {
	b      *builder
	number int
	name   string
	source string
	start  time.Time
	tail   tail
}

func (b *builder) begin(name string, number int) *step { return b.beginStep(name, "", number) }

func (b *builder) beginStep(name, source string, number int) *step {
	b.steps.mu.Lock()
	if number == 0 {
		b.steps.last++
		number = b.steps.last
	}
	b.steps.mu.Unlock()
	s := &step{b: b, number: number, name: name, source: source, start: time.Now()}
	s.tell(Event{Kind: Begun})
	return s
}

func (s *step) tell(e Event) {
	s.b.steps.mu.Lock()
	defer s.b.steps.mu.Unlock()
	e.Step, e.Name, e.Source, e.Since = s.number, s.name, s.source, time.Since(s.start)
	e.Of = s.b.total
	s.b.Progress(e)
}

func (s *step) print(format string, args ...any) {
	s.tell(Event{Kind: Printed, Text: fmt.Sprintf(format, args...)})
}

// Write is for what a container says.
func (s *step) Write(p []byte) (int, error) {
	s.tail.add(p)
	s.tell(Event{Kind: Printed, Text: string(p)})
	return len(p), nil
}

func (s *step) done()   { s.tell(Event{Kind: Done}) }
func (s *step) cached() { s.tell(Event{Kind: Cached}) }

// failed ends a step; it returns the error.
func (s *step) failed(err error) error {
	if s.b.ctx.Err() != nil {
		s.tell(Event{Kind: Canceled, Err: err})
	} else {
		s.tell(Event{Kind: Failed, Err: err})
	}
	return err
}

// tail keeps the last lines of what was printed.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 4 << 10

func (t *tail) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - 2*tailBytes; extra > 0 {
		t.text = append([]byte{}, t.text[len(t.text)-tailBytes:]...)
	}
}

// lines are the last ten.
func (t *tail) lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.SplitAfter(strings.TrimSuffix(string(t.text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "")
}
