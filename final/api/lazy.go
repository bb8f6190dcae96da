//go:build linux

package api

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// lazy is the body of an answer that comes bit by bit. It begins when there is something, or when
// a moment has gone by without an error: an error before that is an answer of its own. What is
// written goes out soon, and many small writes together.
type lazy struct {
	w    http.ResponseWriter
	kind string // Content-Type

	mu      sync.Mutex
	buffer  []byte
	timer   *time.Timer
	begun   bool
	over    bool
	failure error
}

const (
	lazyBuffer = 32 << 10 // bytes
	lazyWait   = 10 * time.Millisecond
	lazyBegin  = 50 * time.Millisecond
)

func newLazy(w http.ResponseWriter, kind string) *lazy {
	// The answer may begin while the request's body is being read: without this the server would
	// read what is left of it, and throw it away. Of HTTP/2 it is so anyway, which is an error here.
	_ = http.NewResponseController(w).EnableFullDuplex()
	l := &lazy{w: w, kind: kind}
	l.timer = time.AfterFunc(lazyBegin, l.tick)
	return l
}

func (l *lazy) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.flush()
	}
}

// begin sends the head.
func (l *lazy) begin() {
	if l.begun {
		return
	}
	l.begun = true
	l.w.Header().Set("Content-Type", l.kind)
	l.w.WriteHeader(http.StatusOK)
}

func (l *lazy) flush() {
	l.begin()
	if l.failure != nil {
		return
	}
	if len(l.buffer) > 0 {
		_, l.failure = l.w.Write(l.buffer)
		l.buffer = l.buffer[:0]
	}
	if l.failure == nil {
		l.failure = http.NewResponseController(l.w).Flush()
	}
	if l.failure != nil {
		l.failure = errGone
	}
}

func (l *lazy) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		return 0, l.failure
	}
	if len(l.buffer) == 0 {
		l.timer.Reset(lazyWait)
	}
	l.buffer = append(l.buffer, data...)
	if len(l.buffer) >= lazyBuffer {
		l.flush()
	}
	return len(data), l.failure
}

// end sends what is left, if all went well; otherwise err is to be answered.
func (l *lazy) end(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.timer.Stop()
	if err == nil || l.begun || len(l.buffer) > 0 {
		l.flush()
	}
	return err
}

// messages is a stream of JSON values, from any goroutine.
type messages struct {
	*lazy
	mu sync.Mutex
	e  *json.Encoder
}

func newMessages(w http.ResponseWriter) *messages {
	l := newLazy(w, "application/json")
	e := json.NewEncoder(l)
	e.SetEscapeHTML(false)
	return &messages{lazy: l, e: e}
}

func (m *messages) send(value any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.e.Encode(value)
}
