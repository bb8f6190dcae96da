//go:build linux

package storagetest

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testHostile: whatever an archive says, nothing outside of the layer is written, and what is
// refused leaves nothing.
func testHostile(t *testing.T, b *bench) {
	outside := filepath.Dir(b.dir)
	secret := filepath.Join(outside, "secret")
	must(t, os.WriteFile(secret, []byte("untouched"), 0o600))
	up := strings.Repeat("../", 20)
	refused := map[string][]entry{
		"a path out":               {file("../evil", "x")},
		"a path out, later":        {folder("a"), file("a/../../evil", "x")},
		"a long way out":           {file(up+secret, "x")},
		"a folder out":             {folder("../evil")},
		"a hard link out":          {link("a", "../secret")},
		"a hard link to the disk":  {link("a", secret), file("a", "x")},
		"a hard link through one":  {symlink("out", outside), link("a", "out/secret"), file("a", "x")},
		"through a link that ends": {symlink("out", "nowhere"), file("out/evil", "x")},
		"a whiteout of the parent": {file(".wh...", "")},
		"a whiteout of itself":     {file(".wh..", ""), file("a", "")},
		"a whiteout of nothing":    {file(".wh.", "")},
		"a whiteout as a folder":   {folder(".wh.a"), file(".wh.a/b", "")},
		"a name that is too long":  {file(strings.Repeat("x", 256), "")},
		"a path that is too long":  {file(strings.Repeat("x/", 2500)+"x", "")},
		"an owner that cannot be":  {entry{Name: "a", UID: 1 << 33}},
		"a negative owner":         {entry{Name: "a", GID: -5}},
		"an unknown type":          {entry{Name: "a", Kind: 'Z'}},
		"a file as the root":       {file(".", "x")},
		"overlayfs's attributes": {entry{Name: "a/",
			Xattrs: map[string]string{"trusted.overlay.redirect": "/../.."}}},
		"the user's overlayfs's": {entry{Name: "a/",
			Xattrs: map[string]string{"user.overlay.opaque": "y"}}},
		"a link in the way": {symlink("a", "b"), symlink("b", "a"), file("a/x", "")},
	}
	for name, entries := range refused {
		t.Run(name, func(t *testing.T) {
			_, err := b.Apply(context.Background(), "evil", "", bytes.NewReader(layer(t, entries...)))
			if err == nil {
				t.Error("it became a layer")
				must(t, b.Remove("evil"))
			}
			if b.Exists("evil") {
				t.Error("it is visible")
			}
		})
	}
	t.Run("a claim of an exabyte", func(t *testing.T) { testClaim(t, b) })
	// Where Docker's and GNU's tar agree, links are followed as if the layer were "/", a slash at
	// the beginning is no matter, and what comes later takes the place of what came before.
	b.apply("odd", "",
		file("/absolute", "x"), file("a/../b/./c", "x"),
		folder(outside), symlink("out", outside), file("out/in-the-layer", "x"),
		folder("etc"), symlink("up", up+"etc"), file("up/passwd", "x"),
		file("twice", "1"), file("twice", "2"),
		file("changes", "1"), folder("changes"), file("changes/in", "2"),
		folder("gone"), file("gone/x", "1"), symlink("gone", outside), file("gone", "2"),
		symlink("first", "/etc"), folder("first"), file("first/x", "2"),
		entry{Name: "bits", Mode: 0o100644},
	)
	got := strings.Join(short(b.look("odd")), "\n")
	for _, line := range []string{
		`/absolute "x"`, `/b/c "x"`, outside + `/in-the-layer "x"`, `/etc/passwd "x"`, `/twice "2"`,
		`/changes/in "2"`, `/gone "2"`, `/first/x "2"`, `/bits ""`,
	} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is not in\n%s", line, got)
		}
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "untouched" {
		t.Errorf("a file outside says %q, %v", data, err)
	}
	for _, name := range []string{"evil", "in-the-layer"} {
		if _, err := os.Lstat(filepath.Join(outside, name)); err == nil {
			t.Errorf("%s was made outside", name)
		}
	}
}

// testClaim is an archive of a few bytes that says that a file has an exabyte, plain and sparse.
func testClaim(t *testing.T, b *bench) {
	for _, sparse := range []bool{false, true} {
		var buf bytes.Buffer
		h := &tar.Header{Name: "huge", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1 << 60,
			Format: tar.FormatGNU}
		must(t, tar.NewWriter(&buf).WriteHeader(h))
		data := buf.Bytes()
		if sparse { // the old GNU format: its map and real size are in the header
			data[156] = tar.TypeGNUSparse
			copy(data[124:], fmt.Sprintf("%011o\x00", 512)) // size in the archive
			copy(data[386:], fmt.Sprintf("%011o\x00%011o\x00", 0, 512))
			copy(data[483:], []byte("\x80\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00"))
			checksum(data)
		}
		data = append(data, make([]byte, 2048)...)
		_, err := b.Apply(context.Background(), "huge", "", bytes.NewReader(data))
		if err == nil || !strings.Contains(err.Error(), "claims") {
			t.Errorf("sparse %v: %v, want an error about its claim", sparse, err)
		}
		if b.Exists("huge") {
			t.Error("it is visible")
		}
	}
}

// checksum writes a tar header's.
func checksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header[:512] {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}
