//go:build linux

package heavy

import (
	"fmt"
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	mdcli "minidocker/final/cli"
	"minidocker/final/image"
	"minidocker/final/image/ingest"
	"minidocker/final/image/registry"
)

// layers shows what happens to layers: bars on a terminal, else a line for each that begins or is
// done. A nil shows nothing.
type layers struct {
	out  io.Writer
	bars *mpb.Progress // nil: lines

	mu    sync.Mutex
	lines map[string]string // what was said last of a layer
	bar   map[string]*bar
}

// bar is a layer's.
type bar struct {
	*mpb.Bar
	mu     sync.Mutex
	status string
}

func newLayers(out io.Writer) *layers {
	l := &layers{out: out, lines: map[string]string{}, bar: map[string]*bar{}}
	if mdcli.IsTerminal(out) {
		l.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(50))
	}
	return l
}

// end ends the bars where they are.
func (l *layers) end() {
	if l == nil || l.bars == nil {
		return
	}
	for _, b := range l.bar {
		b.EnableTriggerComplete()
		b.Abort(false)
	}
	l.bars.Wait()
}

// show says how far a layer is. Bytes are of all that come; both are 0 if nothing does.
func (l *layers) show(d image.Descriptor, status string, bytes int64, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := short(d.Digest.Encoded())
	if l.bars == nil {
		if l.lines[id] != status {
			l.lines[id] = status
			fmt.Fprintf(l.out, "%s: %s\n", id, status)
		}
		return
	}
	b := l.bar[id]
	if b == nil {
		b = l.newBar(id, d.Size)
		l.bar[id] = b
	}
	b.mu.Lock()
	b.status = status
	b.mu.Unlock()
	if done {
		b.SetTotal(d.Size, true)
	} else {
		b.SetCurrent(min(bytes, d.Size))
	}
}

func (l *layers) newBar(id string, size int64) *bar {
	b := &bar{}
	status := decor.Any(func(decor.Statistics) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		return fmt.Sprintf("%s: %-14s ", id, b.status)
	})
	// With a total from the beginning, a bar is complete when all bytes have come, and its status
	// would stay what it is then.
	b.Bar = l.bars.AddBar(0, mpb.PrependDecorators(status),
		mpb.AppendDecorators(decor.CountersKibiByte(" % .1f / % .1f")), mpb.BarFillerClearOnComplete())
	b.SetTotal(size, false)
	return b
}

func short(id string) string { return id[:min(12, len(id))] }

func (l *layers) pulled(e ingest.Event) {
	status, done := pullStatus(e.Status)
	l.show(e.Layer, status, e.Bytes, done)
}

func (l *layers) pushed(e registry.PushEvent) {
	switch e.Status {
	case registry.PushWaiting:
		l.show(e.Layer, "Waiting", 0, false)
	case registry.Pushing:
		l.show(e.Layer, "Pushing", e.Bytes, false)
	case registry.Pushed:
		l.show(e.Layer, "Pushed", e.Bytes, true)
	case registry.PushExists:
		l.show(e.Layer, "Layer already exists", 0, true)
	case registry.Mounted:
		l.show(e.Layer, "Mounted from "+e.From, 0, true)
	}
}

func pullStatus(s ingest.Status) (status string, done bool) {
	switch s {
	case ingest.Waiting:
		return "Waiting", false
	case ingest.Fetching:
		return "Downloading", false
	case ingest.Unpacking:
		return "Extracting", false
	case ingest.Exists:
		return "Already exists", true
	}
	return "Pull complete", true
}
