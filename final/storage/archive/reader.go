//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
)

// reader reads a tar archive's entries. Most of them are plain: one header of the common format,
// which is read here. All others (long names, attributes, old and odd formats, and whatever is
// wrong) are archive/tar's, which gets to see that entry alone; and a sparse file's content is.
type reader struct {
	in     *input
	header tar.Header  // of the plain entries, the last one's
	left   int64       // of the current entry's content, if it is plain
	pad    int64       // and what fills its last block
	std    *tar.Reader // else, of a sparse file or a folder: reads its content
	source *counted    // what std reads
}

// next goes to the next entry. It is errEnd at the end of the archive. The header is good until
// the next call.
func (r *reader) next() (*tar.Header, error) {
	if err := r.finish(); err != nil {
		return nil, err
	}
	head, err := r.in.take(blockBytes)
	if err != nil {
		return nil, err
	}
	if len(head) < blockBytes { // the last block of the input, cut off
		return nil, io.ErrUnexpectedEOF
	}
	if plain(head, &r.header) {
		r.left = r.header.Size
		r.pad = -r.left & (blockBytes - 1)
		return &r.header, nil
	}
	first := bytes.NewReader(bytes.Clone(head))
	r.source = &counted{r: io.MultiReader(first, inputReader{r.in})}
	r.std = tar.NewReader(r.source)
	h, err := r.std.Next()
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // which is looked at elsewhere
		return nil, r.in.reason(err)
	}
	if h.Typeflag >= tar.TypeLink && h.Typeflag <= tar.TypeFifo {
		h.Size = 0 // these have no content, whatever is said
	}
	// Of a folder, only archive/tar knows whether it was said to be a file that ends with a slash,
	// which may have content that is to be passed over.
	if !isSparse(h) && h.Typeflag != tar.TypeDir {
		r.std, r.left, r.pad = nil, h.Size, -h.Size&(blockBytes-1)
	}
	return h, nil
}

// isSparse says whether the archive has not all of a file's content, but a map and the rest.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// finish passes over what has not been read of the current entry.
func (r *reader) finish() error {
	if r.std != nil {
		if _, err := io.Copy(io.Discard, r.std); err != nil {
			return r.in.reason(err)
		}
		r.std, r.left, r.pad = nil, 0, -r.source.n&(blockBytes-1)
	}
	if err := r.in.skip(r.left); err != nil {
		return unexpected(err)
	}
	// Nothing is lost if the archive ends in here.
	return r.in.skip(r.pad)
}

// content gives the next bytes of the current entry's content, with the block that they lie in,
// which the caller must release; errEnd at their end.
func (r *reader) content() ([]byte, *block, error) {
	if r.std != nil {
		b := &block{data: make([]byte, min(64<<10, inputBytes))}
		b.refs.Store(1)
		n, err := r.std.Read(b.data)
		if n > 0 {
			err = nil // it comes again
		}
		return b.data[:n], b, r.in.reason(err)
	}
	if r.left == 0 {
		return nil, nil, errEnd
	}
	p, err := r.in.take(r.left)
	if err != nil {
		return nil, nil, unexpected(err)
	}
	r.left -= int64(len(p))
	return p, r.in.current.hold(), nil
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// inputReader copies what is taken.
type inputReader struct{ *input }

func (r inputReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	from, err := r.take(int64(len(p)))
	if errors.Is(err, errEnd) {
		err = io.EOF
	}
	return copy(p, from), err
}

// plain reads a header of the common format (see ustar), or says that it is another.
func plain(b []byte, h *tar.Header) bool {
	magic := string(b[257:265])
	if magic != "ustar\x0000" && magic != "ustar  \x00" {
		return false
	}
	kind := b[156]
	if kind < tar.TypeReg || kind > tar.TypeFifo {
		return false
	}
	sum, ok := parseOctal(b[148:156])
	if !ok || sum != checksum(b) {
		return false
	}
	var fields [7]int64
	for i, field := range [][]byte{b[100:108], b[108:116], b[116:124], b[124:136], b[136:148],
		b[329:337], b[337:345]} {
		if fields[i], ok = parseOctal(field); !ok {
			return false
		}
	}
	name := text(b[0:100])
	if magic != "ustar\x0000" && (b[345] != 0 || b[357] != 0) {
		return false // GNU's times, or what an old Go wrote in their place
	}
	if magic == "ustar\x0000" {
		if string(b[508:512]) == "tar\x00" { // star's own, which has other fields
			return false
		}
		if prefix := text(b[345:500]); prefix != "" {
			name = prefix + "/" + name
		}
	}
	*h = tar.Header{
		Typeflag: kind, Name: name, Linkname: text(b[157:257]), Mode: fields[0],
		Uid: int(fields[1]), Gid: int(fields[2]), Size: fields[3], ModTime: time.Unix(fields[4], 0),
		Devmajor: fields[5], Devminor: fields[6],
	}
	if kind != tar.TypeReg {
		h.Size = 0 // as of the others
	}
	return true
}

// checksum is the sum of a header's bytes, its own taken for spaces.
func checksum(b []byte) int64 {
	sum := int64(8 * ' ')
	for _, c := range b[:148] {
		sum += int64(c)
	}
	for _, c := range b[156:blockBytes] {
		sum += int64(c)
	}
	return sum
}

// text is what a field has before the first zero byte.
func text(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}

// parseOctal reads a number of octal digits, with spaces and zero bytes around; an empty field
// is 0.
func parseOctal(field []byte) (int64, bool) {
	field = bytes.Trim(field, " \x00")
	var n int64
	for _, c := range field {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n<<3 | int64(c-'0')
	}
	return n, true // twelve digits at most: 36 bits
}
