//go:build linux

package archive

import (
	"archive/tar"
	"strings"
)

// ustar writes an entry's header the plain way, a block of 512 bytes, if that can hold it: no
// long or foreign names, no attributes. It is as archive/tar would write it, which looks at much
// more before it knows that nothing of it is needed; of small files, that is a fifth of the time.
//
//	name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1 | link 100 |
//	"ustar" 0 "00" | user 32 | group 32 | major 8 | minor 8 | prefix 155 | 12 of nothing
//
// Numbers are octal digits that end with a zero byte. See pax(1), "ustar Interchange Format".
func ustar(block *[blockBytes]byte, h *tar.Header) bool {
	if len(h.Name) > 100 || len(h.Linkname) > 100 || !isPlain(h.Name) || !isPlain(h.Linkname) ||
		h.PAXRecords != nil || h.Format != tar.FormatUnknown {
		return false
	}
	*block = [blockBytes]byte{}
	copy(block[0:100], h.Name)
	block[156] = h.Typeflag
	copy(block[157:257], h.Linkname)
	copy(block[257:265], "ustar\x0000")
	fits := octal(block[100:108], h.Mode) && octal(block[108:116], int64(h.Uid)) &&
		octal(block[116:124], int64(h.Gid)) && octal(block[124:136], h.Size) &&
		octal(block[136:148], h.ModTime.Unix()) && octal(block[329:337], h.Devmajor) &&
		octal(block[337:345], h.Devminor)
	// The checksum is the sum of all bytes, its own taken for spaces.
	sum := int64(8 * ' ')
	for _, b := range block {
		sum += int64(b)
	}
	octal(block[148:155], sum)
	block[155] = ' '
	return fits
}

// isPlain says whether a name is one of letters that every tar knows.
func isPlain(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return r <= 0 || r >= 0x80 }) < 0
}

// octal fills a field, or says that the number is none for it.
func octal(field []byte, n int64) bool {
	if n < 0 {
		return false
	}
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
	return n == 0
}
