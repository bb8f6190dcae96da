//go:build linux

package image_test

import (
	"strings"
	"testing"

	"github.com/distribution/reference"

	"minidocker/final/image"
)

// references are names, good and bad, for the comparison with the library and for the fuzzer.
var references = []string{
	"busybox", "busybox:1.36", "library/busybox", "docker.io/busybox", "index.docker.io/a/b",
	"index.docker.io/busybox", "localhost/a", "localhost:5000/a:b", "quay.example/a/b/c:v1",
	"127.0.0.1:5000/x", "[::1]:5000/x", "[::1]/x", "[]:5000/x", "UPPER/x", "Upper", "a/B", "a__b",
	"a___b", "a_b", "a-----b", "a..b", "a._b", "-a", "a-", "a.", "_a", "a//b", "/a", "a/", "", ":",
	"a:", "a:-", "a:.x", "a:x.y-z_A9", "a:" + strings.Repeat("x", 128), "a:" + strings.Repeat("x", 129),
	strings.Repeat("a", 247), strings.Repeat("a", 248), strings.Repeat("a/", 127) + "b",
	strings.Repeat("a/", 128) + "b", strings.Repeat("a", 64), strings.Repeat("g", 64),
	"sha256:" + strings.Repeat("a", 64), "a@sha256:" + strings.Repeat("a", 64),
	"a:t@sha256:" + strings.Repeat("0", 64), "a@sha256:" + strings.Repeat("A", 64),
	"a@sha256:" + strings.Repeat("a", 63), "a@", "a@b@c", "a b", "a\n", "ä", "a:ä", "example.com",
	"example.com/", "example.com:x/a", "example.com:/a", "ex-.com/a", "-ex.com/a", "e..x/a", ".x/a",
	"a:5000/b:c:d", "a:b/c", "docker.io/library/a/b", "docker.io/a", "localhost", "ftp://a/b",
	"xn--n3h.com/a", "a.b/c_/d", "0/1", "A/b", "a:b@sha256:" + strings.Repeat("1", 64) + "/c",
}

func TestParseReference(t *testing.T) {
	for _, name := range references {
		compare(t, name)
	}
}

func FuzzParseReference(f *testing.F) {
	for _, name := range references {
		f.Add(name)
	}
	f.Fuzz(compare)
}

// compare sees that a name is read as the library reads it.
func compare(t *testing.T, name string) {
	want, wantErr := reference.ParseNormalizedNamed(name)
	got, err := image.ParseReference(name)
	if digested, ok := want.(reference.Digested); wantErr == nil && ok {
		if digested.Digest().Algorithm() != "sha256" {
			wantErr = err // the library knows others too
		}
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: got error %v, want %v", name, err, wantErr)
	}
	if err != nil {
		return
	}
	if got.String() != want.String() || got.Name() != want.Name() {
		t.Errorf("%q: got %q of %q, want %q of %q", name, got, got.Name(), want, want.Name())
	}
	if f := reference.FamiliarString(want); got.Familiar() != f {
		t.Errorf("%q: familiar: got %q, want %q", name, got.Familiar(), f)
	}
	if f := reference.FamiliarString(reference.TagNameOnly(want)); got.WithTag().Familiar() != f {
		t.Errorf("%q: with tag: got %q, want %q", name, got.WithTag().Familiar(), f)
	}
}
