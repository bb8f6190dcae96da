//go:build linux

package tests

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// tarTypes are the words for the types of entries.
var tarTypes = map[string]byte{
	"file": tar.TypeReg, "dir": tar.TypeDir, "link": tar.TypeSymlink, "hard": tar.TypeLink,
	"fifo": tar.TypeFifo, "char": tar.TypeChar, "block": tar.TypeBlock, "unknown": 'V',
	"comment": tar.TypeXGlobalHeader,
}

// cmdTarball writes an archive with entries that no tar program would make. An ENTRY is
// one word of the script, with fields between blanks:
//
//	TYPE NAME [FIELD=VALUE ...]
//
//	text=T         the content         to=T          where a link leads
//	mode=0644      in octal, any bits  uid=0 gid=0   the owner
//	mtime=0        in seconds          dev=1:3       numbers of a device
//	size=N         a size claimed, with no content behind it
//	sparse=N       the same in GNU's sparse format: a hole of that size
//	ATTRIBUTE=V    an extended attribute, if there is a dot in its name
func cmdTarball(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: tarball FILE [ENTRY…]")
	}
	var archive bytes.Buffer
	for _, entry := range args[1:] {
		ts.Check(writeEntry(&archive, entry))
	}
	archive.Write(make([]byte, 2*512)) // the end
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), archive.Bytes(), 0o644))
}

func writeEntry(archive *bytes.Buffer, entry string) error {
	words := strings.Split(entry, " ")
	if len(words) < 2 || tarTypes[words[0]] == 0 {
		return fmt.Errorf("entry %q: want TYPE NAME [FIELD=VALUE ...]", entry)
	}
	h := &tar.Header{
		Typeflag: tarTypes[words[0]], Name: words[1], Mode: 0o755,
		ModTime: time.Unix(1e9, 0), PAXRecords: map[string]string{}, Format: tar.FormatPAX,
	}
	var text string
	var sparse int64
	for _, word := range words[2:] {
		field, value, _ := strings.Cut(word, "=")
		number, err := strconv.ParseInt(value, 10, 64)
		switch field {
		case "text":
			text, err = value+"\n", nil
			h.Size = int64(len(text))
		case "to":
			h.Linkname, err = value, nil
		case "mode":
			h.Mode, err = strconv.ParseInt(value, 8, 64)
		case "uid":
			h.Uid = int(number)
		case "gid":
			h.Gid = int(number)
		case "mtime":
			h.ModTime = time.Unix(number, 0)
		case "dev":
			_, err = fmt.Sscanf(value, "%d:%d", &h.Devmajor, &h.Devminor)
		case "size":
			h.Size = number
		case "sparse":
			sparse = number
		default:
			if !strings.Contains(field, ".") {
				return fmt.Errorf("entry %q: unknown field %q", entry, field)
			}
			h.PAXRecords["SCHILY.xattr."+field], err = value, nil
		}
		if err != nil {
			return fmt.Errorf("entry %q: %w", entry, err)
		}
	}
	if sparse != 0 {
		h.Format = tar.FormatGNU
		h.PAXRecords = nil
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		h = &tar.Header{Typeflag: h.Typeflag, PAXRecords: map[string]string{"comment": h.Name}}
	}
	start := archive.Len()
	w := tar.NewWriter(archive)
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if sparse != 0 {
		makeSparse(archive.Bytes()[start:], sparse)
	}
	if h.Size > int64(len(text)) {
		return nil // claimed, and not there
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return w.Flush() // not Close, which would write the end
}

// makeSparse turns the header of an empty file into that of one that is a hole, in the
// old GNU format: see "Storing Sparse Files" in the manual of GNU tar.
func makeSparse(header []byte, size int64) {
	number := func(at int, n int64) { // base 256, for what is too big for octal digits
		binary.BigEndian.PutUint64(header[at+4:], uint64(n))
		header[at] = 0x80
	}
	header[156] = tar.TypeGNUSparse
	number(386, size) // the only data begin where the hole ends
	number(398, 0)
	number(483, size)
	sum := 8 * int(' ')
	for i, b := range header[:512] {
		if i < 148 || i >= 156 {
			sum += int(b)
		}
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
}
