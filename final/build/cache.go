//go:build linux

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/ingest"
)

// cacheVersion changes when the same key would mean another layer.
const cacheVersion = "minidocker build 1"

// key is the digest of all that a layer depends on. Words of any content stay apart.
func key(words ...string) string {
	h := sha256.New()
	for _, w := range append([]string{cacheVersion}, words...) {
		fmt.Fprintf(h, "%d:%s,", len(w), w)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// result is what is kept under a key: the layer that came of it.
type result struct {
	Empty   bool // nothing has changed
	Blob    image.Descriptor
	DiffID  string
	Created time.Time
}

// making is a layer to be made, unless it has been made before.
type making struct {
	source string // the instruction
	by     string // for the image's history
	// keys give what the layer depends on, the cheapest first: a later one is asked for only if
	// nothing is kept under those before. What is made is kept under all.
	keys []func() (string, error)
	// always says that a layer that has been made before is of no use: as under --no-cache.
	always bool
	// make makes it; nil for a layer says that nothing has changed.
	make func(v *step) (*layer, error)
}

// known is a key that is known already.
func known(k string) func() (string, error) { return func() (string, error) { return k, nil } }

// layer puts a layer on top: one that was made before, or a new one.
func (s *stage) layer(at *state, m making) error {
	b := s.b
	v := b.beginStep(s.label(m.source), m.source, 0)
	var keys []string
	for _, f := range m.keys {
		k, err := f()
		if err != nil {
			return v.failed(err)
		}
		if !b.epoch.IsZero() {
			k = key(k, fmt.Sprint(b.epoch.Unix()))
		}
		keys = append(keys, k)
		if r := b.kept(k, at.top()); r != nil && !b.NoCache && !m.always {
			if err := b.keep(at, keys[:len(keys)-1], r); err != nil {
				return v.failed(err)
			}
			v.cached()
			at.put(r, m.by)
			return nil
		}
	}
	last := keys[len(keys)-1]
	made := false
	err := b.once(b.flights, last, func() error {
		made = true
		return b.makeLayer(at, keys, m, v)
	})
	if err != nil {
		return v.failed(err)
	}
	r := b.kept(last, at.top())
	if r == nil {
		return v.failed(errors.New("the layer that was made is gone"))
	}
	if made {
		v.done()
	} else {
		v.cached() // another stage has made it meanwhile
	}
	at.put(r, m.by)
	return nil
}

func (b *builder) makeLayer(at *state, keys []string, m making, v *step) error {
	l, err := m.make(v)
	if err != nil {
		return err
	}
	r := &result{Empty: true, Created: b.now()}
	if l != nil {
		r.Empty, r.Blob, r.DiffID = false, l.Blob, l.Layer.DiffID
	}
	return b.keep(at, keys, r)
}

// put adds what came of an instruction.
func (s *state) put(r *result, by string) {
	s.created = r.Created
	s.note(imagespec.History{CreatedBy: by, EmptyLayer: r.Empty})
	if r.Empty {
		return
	}
	s.layers = append(s.layers, layer{Blob: r.Blob, Layer: image.LayerOn(s.top(), r.DiffID)})
	s.config.RootFS.DiffIDs = append(s.config.RootFS.DiffIDs,
		s.layers[len(s.layers)-1].Layer.Digest())
}

// keep keeps a result under keys.
func (b *builder) keep(at *state, keys []string, r *result) error {
	for _, k := range keys {
		holds := at.chain()
		if !r.Empty {
			holds = append(holds, image.LayerOn(at.top(), r.DiffID).ChainID, r.Blob.Digest.String())
		}
		if err := b.store.Keep(k, r, holds...); err != nil {
			return fmt.Errorf("keep a layer: %w", err)
		}
	}
	return nil
}

// kept finds a result that is whole, and holds it for this build; nil if there is none. Its archive
// is unpacked where only that is missing.
func (b *builder) kept(k, parent string) *result {
	r := &result{}
	if !b.store.Kept(k, r) {
		return nil
	}
	if r.Empty {
		return r
	}
	at := image.LayerOn(parent, r.DiffID)
	if b.lease.Hold(at.ChainID, r.Blob.Digest.String()) != nil || b.store.Has(r.Blob) != nil {
		return nil
	}
	if _, err := ingest.Unpack(b.ctx, b.lease, b.layers, r.Blob, at); err != nil {
		return nil
	}
	return r
}

// take makes a layer of an archive.
func (b *builder) take(ctx context.Context, parent string, r io.Reader) (*layer, error) {
	taken, err := ingest.Job{
		Lease: b.lease, Archive: r, Layers: b.layers, Layer: image.Layer{Parent: parent},
	}.Run(ctx)
	if err != nil {
		return nil, err
	}
	return &layer{Blob: taken.Descriptor, Layer: taken.Layer, Size: taken.Size}, nil
}

// flight is something that several may want, and one makes.
type flight struct {
	done chan struct{}
	err  error
}

// once calls f, or waits for the one who does for the same key, and has the same error then.
func (b *builder) once(all map[string]*flight, k string, f func() error) error {
	b.mu.Lock()
	fl, ok := all[k]
	if !ok {
		fl = &flight{done: make(chan struct{})}
		all[k] = fl
	}
	b.mu.Unlock()
	if ok {
		select {
		case <-fl.done:
			return fl.err
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
	fl.err = f()
	close(fl.done)
	return fl.err
}
