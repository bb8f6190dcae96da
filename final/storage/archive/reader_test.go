//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"minidocker/final/storage/archive/archivetest"
)

// isHuge is for more than these tests read: a sparse file may say that it has an exabyte.
func isHuge(h *tar.Header) bool {
	return h.Size > 1<<20 && (h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse)
}

// entriesOf reads an archive and says what is in it: a line for each entry.
func entriesOf(r io.Reader) ([]string, error) {
	in := startInput(r)
	defer in.close()
	archive := &reader{in: in}
	var lines []string
	for {
		h, err := archive.next()
		if errors.Is(err, errEnd) {
			return lines, nil
		}
		if err != nil || isHuge(h) {
			return lines, err
		}
		hash := sha256.New()
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
			for {
				data, b, err := archive.content()
				if errors.Is(err, errEnd) {
					break
				}
				if err != nil {
					return lines, err
				}
				hash.Write(data)
				b.release()
			}
		}
		lines = append(lines, describe(h, hash.Sum(nil)))
	}
}

// stdEntriesOf does it with archive/tar alone.
func stdEntriesOf(r io.Reader) ([]string, error) {
	archive := tar.NewReader(r)
	var lines []string
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return lines, err
		}
		if isHuge(h) {
			return lines, nil
		}
		hash := sha256.New()
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
			if _, err := io.Copy(hash, archive); err != nil {
				return lines, err
			}
		}
		lines = append(lines, describe(h, hash.Sum(nil)))
	}
}

func describe(h *tar.Header, digest []byte) string {
	size := h.Size
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse {
		size = 0
	}
	var records []string
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		records = append(records, fmt.Sprintf("%q=%q", key, h.PAXRecords[key]))
	}
	return fmt.Sprintf("%c %q %q %o %d:%d %d %d.%d %d/%d %s %x", h.Typeflag, h.Name, h.Linkname,
		h.Mode, h.Uid, h.Gid, size, h.ModTime.Unix(), h.ModTime.Nanosecond(),
		h.Devmajor, h.Devminor, records, digest[:4])
}

// archives are some of all kinds.
func archives(t testing.TB) map[string][]byte {
	all := map[string][]byte{
		"nothing": {}, "one zero block": make([]byte, 512), "end": make([]byte, 1024),
		"no archive": []byte(strings.Repeat("no archive ", 200)),
		"pax": archivetest.Layer(t, archivetest.File("a", "1"), archivetest.Folder("b"),
			archivetest.Entry{Name: "c", Xattrs: map[string]string{"user.x": "y"}},
			archivetest.File("empty", ""), archivetest.File(strings.Repeat("long/", 60), ""),
			archivetest.File("big", strings.Repeat("0123456789", 300_000))),
	}
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatGNU} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for i, size := range []int{0, 1, 511, 512, 513} {
			h := &tar.Header{Name: fmt.Sprintf("%s/%d", strings.Repeat("n", 90), i), Format: format,
				Size: int64(size), Mode: 0o4755, Uid: 1000, Gid: 7, ModTime: time.Unix(1e9, 0)}
			if format == tar.FormatGNU {
				h.Name += strings.Repeat("x", 200)
				h.Uid = 1 << 30
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprint(format)] = buf.Bytes()
	}
	for name, data := range all {
		if len(data) > 2000 {
			all[name+", cut"] = data[:len(data)/2]
			all[name+", without its end"] = data[:len(data)-1024]
			all[name+", cut in a header"] = data[:700]
		}
	}
	all["sparse, old"], all["sparse, 1.0"] = sparseArchives()
	// Once this was a folder; with a type of its own it is none.
	var slash [blockBytes]byte
	if !ustar(&slash, &tar.Header{Name: "file/", Typeflag: tar.TypeReg, Size: 1,
		ModTime: time.Unix(0, 0)}) {
		t.Fatal("file/")
	}
	all["a file with a slash"] = append(slash[:], make([]byte, 3*blockBytes)...)
	return all
}

// sparseArchives are those that GNU tar makes of a file with one byte, at 1000.
func sparseArchives() (old, pax []byte) {
	header := func(name string, kind byte, size int) []byte {
		var b [blockBytes]byte
		if !ustar(&b, &tar.Header{Name: name, Typeflag: kind, Size: int64(size),
			ModTime: time.Unix(0, 0)}) {
			panic(name)
		}
		return b[:]
	}
	old = header("old", tar.TypeGNUSparse, 24)
	copy(old[257:], "ustar  \x00")
	clear(old[329:512]) // here GNU's header has other fields
	copy(old[386:], "00000001000\x0000000000030\x00")
	copy(old[483:], "00000001030\x00")
	sum := checksum(old)
	octal(old[148:155], sum)
	old = append(old, []byte(strings.Repeat("x", 24)+strings.Repeat("\x00", 488))...)

	record := func(text string) string {
		n := len(text) + 2
		return fmt.Sprintf("%d %s\n", n+len(fmt.Sprint(n+len(fmt.Sprint(n)))), text)
	}
	records := record("GNU.sparse.major=1") + record("GNU.sparse.minor=0") +
		record("GNU.sparse.name=pax") + record("GNU.sparse.realsize=600")
	pax = append(header("x", tar.TypeXHeader, len(records)), pad(records)...)
	pax = append(pax, header("GNUSparseFile.0/pax", tar.TypeReg, 512+24)...)
	pax = append(pax, pad("1\n512\n24\n")...)
	pax = append(pax, pad(strings.Repeat("y", 24))...)
	return append(old, make([]byte, 1024)...), append(pax, make([]byte, 1024)...)
}

func pad(text string) []byte {
	return append([]byte(text), make([]byte, -len(text)&(blockBytes-1))...)
}

func compare(t *testing.T, data []byte) {
	t.Helper()
	want, wantErr := stdEntriesOf(bytes.NewReader(data))
	got, err := entriesOf(bytes.NewReader(data))
	if !slices.Equal(got, want) || (err == nil) != (wantErr == nil) {
		t.Errorf("got\n\t%s\n\t%v\nwant\n\t%s\n\t%v", strings.Join(got, "\n\t"), err,
			strings.Join(want, "\n\t"), wantErr)
	}
}

func TestReader_AsArchiveTar(t *testing.T) {
	for name, data := range archives(t) {
		t.Run(name, func(t *testing.T) {
			compare(t, data)
			if strings.HasPrefix(name, "sparse") {
				got, err := entriesOf(bytes.NewReader(data))
				if err != nil || len(got) != 1 {
					t.Errorf("a sparse file: %q, %v", got, err)
				}
			}
		})
	}
}

func TestReader_SmallReads(t *testing.T) {
	for name, data := range archives(t) {
		want, _ := stdEntriesOf(bytes.NewReader(data))
		got, err := entriesOf(iotest.HalfReader(bytes.NewReader(data)))
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	// Also if it looks like an end, as that of a compressed stream that is cut off does.
	for _, broken := range []error{fmt.Errorf("the network is down: %w", io.EOF), io.ErrUnexpectedEOF} {
		for _, cut := range []int{0, 512, 1024, 2048, 5000} {
			r := io.MultiReader(bytes.NewReader(archives(t)["pax"][:cut]), iotest.ErrReader(broken))
			if _, err := entriesOf(r); !errors.Is(err, broken) {
				t.Errorf("an error after %d bytes: got %v, want the reader's", cut, err)
			}
		}
	}
}

// FuzzReader: whatever the bytes, our reader sees what archive/tar sees.
func FuzzReader(f *testing.F) {
	for _, data := range archives(f) {
		if len(data) < 20_000 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		compare(t, data)
		mend(data)
		compare(t, data)
	})
}

// mend makes the headers' checksums right, so that what else is wrong with them comes to bear.
func mend(data []byte) {
	for len(data) >= blockBytes {
		head := data[:blockBytes]
		octal(head[148:155], checksum(head))
		head[155] = ' '
		size, _ := parseOctal(head[124:136])
		if head[156] != tar.TypeReg && head[156] <= tar.TypeFifo {
			size = 0
		}
		next := blockBytes + (size+blockBytes-1)&^(blockBytes-1)
		data = data[min(next, int64(len(data))):]
	}
}

func TestUstar_AsArchiveTar(t *testing.T) {
	at := time.Unix(1e9, 0)
	plain := []tar.Header{
		{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, Size: 5, ModTime: at},
		{Name: strings.Repeat("n", 100), Typeflag: tar.TypeReg, Uid: 0o7777777, Size: 1<<33 - 1, ModTime: at},
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: time.Unix(1<<33-1, 0)},
		{Name: "l", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("t", 100), Mode: 0o777, ModTime: at},
		{Name: "h", Typeflag: tar.TypeLink, Linkname: "a", ModTime: at},
		{Name: "c", Typeflag: tar.TypeChar, Devmajor: 8, Devminor: 0o7777777, ModTime: at},
		{Name: "p", Typeflag: tar.TypeFifo, Gid: 100, ModTime: at},
	}
	odd := []tar.Header{
		{Name: strings.Repeat("n", 101), Typeflag: tar.TypeReg, ModTime: at},
		{Name: "é", Typeflag: tar.TypeReg, ModTime: at},
		{Name: "\xff", Typeflag: tar.TypeReg, ModTime: at},
		{Name: "a", Typeflag: tar.TypeReg, Uid: 0o7777777 + 1, ModTime: at},
		{Name: "a", Typeflag: tar.TypeReg, Size: 1 << 33, ModTime: at},
		{Name: "a", Typeflag: tar.TypeReg, ModTime: time.Unix(-1, 0)},
		{Name: "a", Typeflag: tar.TypeReg, ModTime: at, PAXRecords: map[string]string{"a.b": "c"}},
	}
	for i, h := range slices.Concat(plain, odd) {
		var want bytes.Buffer
		if err := tar.NewWriter(&want).WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		var block [blockBytes]byte
		ok := ustar(&block, &h)
		if ok != (i < len(plain)) {
			t.Errorf("%d, %q: is it plain? %v", i, h.Name, ok)
		}
		if ok && !bytes.Equal(block[:], want.Bytes()) {
			t.Errorf("%q: got\n%q\nwant\n%q", h.Name, block, want.Bytes())
		}
	}
}
