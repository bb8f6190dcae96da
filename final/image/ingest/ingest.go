//go:build linux

// Package ingest takes layers in, in one pass: while the archive comes, from a registry or a file,
// it is written to the store, its digest computed, uncompressed, the digest of that computed, and
// unpacked, each on a processor of its own as far as there are some:
//
//	      ┌─> SHA-256, blob (a file)
//	in ───┴─> uncompress ─┬─> SHA-256
//	                      └─> unpack (package storage, by way of image.Layers)
//
// The last bytes are given to the unpacker only when both digests are right: it has all or
// nothing, and so there is nothing when they are wrong. Between two stages there are some 2 MiB,
// whatever a layer's size.
package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/compression"
)

// Job is a layer to be taken in.
type Job struct {
	// Lease is the work on the store that it is a part of.
	Lease *image.Lease
	// Archive is the layer as it comes, uncompressed or compressed by gzip or zstd.
	Archive io.Reader
	// Want is what it must be: its digest, "" for any; and its media type, "" for what is found.
	Want image.Descriptor
	// Stored says that Archive is read from the store: it is not to be written there again.
	Stored bool
	// Layers is the storage; nil if the layer is not to be unpacked. Layer says where it belongs
	// there, and what digest the uncompressed archive must have. Only Layer.Parent is known of an
	// archive that may be any.
	Layers image.Layers
	Layer  image.Layer
}

// Result is a layer that has been taken in.
type Result struct {
	Descriptor image.Descriptor // of the blob
	Layer      image.Layer
	Size       int64 // of the files in bytes, if it was unpacked
}

// Run takes a layer in. On an error, there is neither a blob nor a layer. A layer that somebody
// else has made meanwhile is none.
func (j Job) Run(ctx context.Context) (Result, error) {
	in, err := newIntake(ctx, j)
	if err != nil {
		return Result{}, err
	}
	defer in.close()
	plain, err := in.uncompressed()
	if err != nil {
		return Result{}, in.reason(err)
	}
	defer plain.close()
	r := Result{}
	again := false
	if j.Layers != nil {
		r.Size, err = j.Layers.Unpack(ctx, j.Layer, plain)
		again = j.Layer.ChainID == "" && !plain.read && err != nil
		if again || errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	// Nothing to unpack, or it was there: all has to be read nevertheless.
	if err == nil {
		_, err = io.Copy(io.Discard, plain)
	}
	if err != nil {
		return Result{}, in.reason(err)
	}
	r.Descriptor, r.Layer = in.descriptor(plain.kind), plain.layer()
	if again { // by a storage that wants the layer's name first
		r.Size, err = Unpack(ctx, j.Lease, j.Layers, r.Descriptor, r.Layer)
	} else if j.Layers != nil {
		r.Size, _ = j.Layers.Have(r.Layer.ChainID)
	}
	return r, err
}

// intake is the first stage: the archive is read, written to the store, and its digest compared.
type intake struct {
	job   Job
	ctx   context.Context
	blob  *image.Blob // nil: it is in the store
	hash  hash.Hash   // then
	size  int64
	ahead *ahead
	err   error // what was wrong with the archive itself
}

func newIntake(ctx context.Context, j Job) (*intake, error) {
	in := &intake{job: j, ctx: ctx}
	if j.Stored {
		in.hash = sha256.New()
	} else {
		var err error
		if in.blob, err = j.Lease.Blob(); err != nil {
			return nil, err
		}
	}
	in.ahead = readAhead(stage(in.read), nil)
	return in, nil
}

// stage is a function that reads.
type stage func(p []byte) (int, error)

func (s stage) Read(p []byte) (int, error) { return s(p) }

// read is the first stage. It gives io.EOF when the blob is in the store.
func (in *intake) read(p []byte) (int, error) {
	if err := in.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := in.job.Archive.Read(p)
	in.size += int64(n)
	if want := in.job.Want; want.Digest != "" && in.size > want.Size {
		err = fmt.Errorf("it has more than the %d bytes that it should have", want.Size)
	} else if in.blob != nil {
		if _, failed := in.blob.Write(p[:n]); failed != nil {
			err = fmt.Errorf("store a layer: %w", failed)
		}
	} else {
		in.hash.Write(p[:n])
	}
	if err == io.EOF { //nolint:errorlint // a wrapped one is that of a connection
		if failed := in.finish(); failed != nil {
			err = failed
		}
	}
	if err != nil && err != io.EOF { //nolint:errorlint // as above
		in.err = err
		n = 0
	}
	return n, err
}

// finish compares the digest, and puts the blob into the store.
func (in *intake) finish() error {
	want := in.job.Want
	if want.Digest != "" && in.size != want.Size {
		return fmt.Errorf("it has %d bytes, not the %d that it should have: %w",
			in.size, want.Size, io.ErrUnexpectedEOF)
	}
	if in.blob != nil {
		return in.blob.Commit(want.Digest.String())
	}
	if got := sum(in.hash); want.Digest != "" && got != want.Digest.String() {
		return fmt.Errorf("in the store it has digest %s: the disk is damaged; "+
			"remove the image and get it again", got)
	}
	return nil
}

// reason is what was wrong with the archive itself rather than what others made of that.
func (in *intake) reason(err error) error {
	if in.ahead.close(in.ctx); in.ctx.Err() != nil {
		return in.ctx.Err()
	}
	if in.err != nil {
		return in.err
	}
	return err
}

func (in *intake) close() {
	in.ahead.close(in.ctx)
	if in.blob != nil {
		_ = in.blob.Discard() // an error leaves a file that goes with the lease
	}
}

func (in *intake) descriptor(kind compression.Kind) image.Descriptor {
	d := image.Descriptor{MediaType: in.job.Want.MediaType, Size: in.size}
	if in.blob != nil {
		d.Digest = digest.Digest(in.blob.Digest())
	} else {
		d.Digest = digest.Digest(sum(in.hash))
	}
	if d.MediaType == "" {
		d.MediaType = MediaType(kind)
	}
	return d
}

// MediaType is that of a layer.
func MediaType(kind compression.Kind) string {
	if kind == compression.None {
		return imagespec.MediaTypeImageLayer
	}
	return imagespec.MediaTypeImageLayer + "+" + string(kind)
}

func sum(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// plain is the second stage: the archive uncompressed. It gives io.EOF if all digests are right.
type plain struct {
	in    *intake
	kind  compression.Kind
	z     io.ReadCloser
	hash  hash.Hash // nil: it is not compressed, and the first stage's is the same
	ahead *ahead
	read  bool // it was begun
}

func (in *intake) uncompressed() (*plain, error) {
	z, kind, err := compression.NewReader(in.ahead)
	if err != nil {
		return nil, fmt.Errorf("uncompress a layer: %w", err)
	}
	p := &plain{in: in, kind: kind, z: z}
	if kind != compression.None {
		p.hash = sha256.New()
		p.ahead = readAhead(z, p.hash)
	}
	return p, nil
}

func (p *plain) Read(b []byte) (int, error) {
	p.read = true
	var n int
	var err error
	if p.ahead != nil {
		n, err = p.ahead.Read(b)
	} else {
		n, err = p.z.Read(b)
	}
	if err != io.EOF { //nolint:errorlint // a wrapped one is that of a connection
		return n, err
	}
	// What comes after the compressed stream counts for the first digest.
	if _, err := io.Copy(io.Discard, p.in.ahead); err != nil {
		return 0, err
	}
	if want := p.in.job.Layer.DiffID; want != "" && want != p.digest() {
		return 0, fmt.Errorf("uncompressed it has digest %s, not the %s that the image says",
			p.digest(), want)
	}
	return n, io.EOF
}

// LayerID names a layer whose name was not known before its archive had been read. See
// image.Named.
func (p *plain) LayerID() (string, error) {
	id := p.layer().ChainID
	return id, p.in.job.Lease.Hold(id)
}

// layer is what the archive gives; when it has been read.
func (p *plain) layer() image.Layer { return image.LayerOn(p.in.job.Layer.Parent, p.digest()) }

func (p *plain) digest() string {
	switch {
	case p.hash != nil:
		return sum(p.hash)
	case p.in.blob != nil:
		return p.in.blob.Digest()
	}
	return sum(p.in.hash)
}

func (p *plain) close() {
	if p.ahead != nil {
		// Its goroutine may be waiting for the first stage's.
		p.in.ahead.close(p.in.ctx)
		p.ahead.close(p.in.ctx)
	}
	_ = p.z.Close() // all has been read, or there is another error
}

// Unpack unpacks a layer whose blob is in the store, unless the storage has it. It returns the
// size of the files.
func Unpack(
	ctx context.Context, lease *image.Lease, layers image.Layers, blob image.Descriptor,
	at image.Layer,
) (int64, error) {
	if layers == nil {
		return 0, nil
	}
	if err := lease.Hold(at.ChainID); err != nil {
		return 0, err
	}
	if size, ok := layers.Have(at.ChainID); ok {
		return size, nil
	}
	f, err := lease.Store().OpenBlob(blob.Digest.String())
	if err != nil {
		return 0, err
	}
	defer f.Close()
	job := Job{Lease: lease, Archive: f, Want: blob, Stored: true, Layers: layers, Layer: at}
	r, err := job.Run(ctx)
	return r.Size, err
}
