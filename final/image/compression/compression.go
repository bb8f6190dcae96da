//go:build linux

// Package compression reads archives as they come, compressed or not, and compresses layers for
// a registry.
//
// Memory is bounded, whatever an archive says of itself: a format that lets its header ask for
// gigabytes to begin with gets none.
package compression

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// Kind is a way of compression, "" for none. It is also the suffix of a layer's media type:
// application/vnd.oci.image.layer.v1.tar+gzip.
type Kind string

// The ways of compression. Layers have None, Gzip or Zstd, other archives may have any.
const (
	None  Kind = ""
	Gzip  Kind = "gzip"
	Zstd  Kind = "zstd"
	Bzip2 Kind = "bzip2"
	Xz    Kind = "xz"
)

var magics = []struct {
	kind  Kind
	bytes string
}{
	{Gzip, "\x1f\x8b\x08"},
	{Zstd, "\x28\xb5\x2f\xfd"},
	{Bzip2, "BZh"},
	{Xz, "\xfd7zXZ\x00"},
}

// Detect tells from the first bytes, six of them, how an archive is compressed.
func Detect(head []byte) Kind {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.bytes)) {
			return m.kind
		}
	}
	// zstd may begin with a frame to be skipped: 0x184D2A50 to 0x184D2A5F, little-endian.
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		return Zstd
	}
	return None
}

// maxWindow is how far back zstd may point, and so what it needs in memory: the 128 MiB that the
// zstd program takes without being asked, too (--long=27).
const maxWindow = 128 << 20

// NewReader reads an archive uncompressed. Close it, also after an error; it does not close r.
func NewReader(r io.Reader) (io.ReadCloser, Kind, error) {
	buffered, ok := r.(*bufio.Reader)
	if !ok {
		buffered = bufio.NewReaderSize(r, 64<<10)
	}
	head, err := buffered.Peek(6)
	if err != nil && err != io.EOF { //nolint:errorlint // a wrapped one is that of a connection
		return nil, None, err
	}
	kind := Detect(head)
	plain, err := kind.reader(buffered)
	return plain, kind, err
}

func (k Kind) reader(r io.Reader) (io.ReadCloser, error) {
	switch k {
	case Gzip:
		return gzip.NewReader(r)
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case Xz:
		return xzReader(r)
	}
	return io.NopCloser(r), nil
}

// xzReader lets the program xz do it, as Docker does.
func xzReader(r io.Reader) (io.ReadCloser, error) {
	cmd := exec.Command("xz", "--decompress", "--stdout", "--memlimit-decompress=256MiB")
	stderr := &bytes.Buffer{}
	cmd.Stdin, cmd.Stderr = r, stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the archive is compressed by xz, which needs the program xz "+
			"(package xz-utils): %w", err)
	}
	return &xz{ReadCloser: out, cmd: cmd, stderr: stderr}, nil
}

type xz struct {
	io.ReadCloser
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	ended  bool
}

// Read gives an error at the end if xz had one.
func (x *xz) Read(p []byte) (int, error) {
	n, err := x.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !x.ended {
		x.ended = true
		if failed := x.cmd.Wait(); failed != nil {
			err = fmt.Errorf("xz: %w: %s", failed, bytes.TrimSpace(x.stderr.Bytes()))
		}
	}
	return n, err
}

// Close ends the program.
func (x *xz) Close() error {
	if !x.ended {
		x.ended = true
		x.ReadCloser.Close()
		_ = x.cmd.Process.Kill() // its error and the next say that it was ended
		_ = x.cmd.Wait()
	}
	return nil
}

// gzipLevel is a compromise: 1 takes half the time of 6 and gives a tenth more.
const gzipLevel = 3

// gzipBlock is what is compressed as one piece, by one processor.
const gzipBlock = 512 << 10

// NewGzipWriter compresses what it is given, on all processors. The same bytes give the same
// bytes, on every machine and however they come. Close it to write the end.
func NewGzipWriter(w io.Writer) (io.WriteCloser, error) {
	z, err := pgzip.NewWriterLevel(w, gzipLevel)
	if err != nil {
		return nil, err
	}
	if err := z.SetConcurrency(gzipBlock, 2*runtime.GOMAXPROCS(0)); err != nil {
		return nil, err
	}
	return z, nil
}
