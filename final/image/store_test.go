//go:build linux

package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
)

func open(t testing.TB) *image.Store {
	t.Helper()
	s, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lease(t testing.TB, s *image.Store) *image.Lease {
	t.Helper()
	l, err := s.Lease()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) //nolint:errcheck // it may have been closed
	return l
}

// add makes an image with one layer for each of the texts, and gives it names.
func add(t testing.TB, s *image.Store, names []string, layers ...string) *image.Image {
	t.Helper()
	l := lease(t, s)
	defer l.Close() //nolint:errcheck // the test asserts what is in the store
	img, err := l.Add(putManifest(t, l, layers...), int64(len(layers)), references0(t, names)...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func references0(t testing.TB, names []string) []image.Reference {
	t.Helper()
	var refs []image.Reference
	for _, name := range names {
		r, err := image.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, r)
	}
	return refs
}

// putManifest stores the blobs of an image.
func putManifest(t testing.TB, l *image.Lease, layers ...string) image.Descriptor {
	t.Helper()
	m := imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
	}
	var c image.Config
	c.OS, c.Architecture, c.RootFS.Type = "linux", "amd64", "layers"
	for _, text := range layers {
		d := put(t, l, []byte(text), imagespec.MediaTypeImageLayer)
		m.Layers = append(m.Layers, d)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, d.Digest)
	}
	m.Config = put(t, l, marshal(t, c), imagespec.MediaTypeImageConfig)
	return put(t, l, marshal(t, m), imagespec.MediaTypeImageManifest)
}

func put(t testing.TB, l *image.Lease, content []byte, mediaType string) image.Descriptor {
	t.Helper()
	d, err := l.Put(content, mediaType)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// blobs are the names of the blobs in the store.
func blobs(t testing.TB, s *image.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir(), "blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestLookup(t *testing.T) {
	s := open(t)
	digest := "sha256:" + strings.Repeat("ab", 32)
	img := add(t, s, []string{"fruits", "example.com/a/b:c", "fruits@" + digest}, "apple", "pear")
	add(t, s, []string{"other"}, "nut")
	for _, name := range []string{
		"fruits", "fruits:latest", "docker.io/library/fruits", "library/fruits:latest",
		"index.docker.io/fruits", "example.com/a/b:c", "fruits@" + digest, "fruits:any@" + digest,
		img.ID, img.ID[7:], img.ID[:11], img.ID[:30], img.ID[7:19],
	} {
		got, err := s.Lookup(name)
		if err != nil || got.ID != img.ID {
			t.Errorf("%q: got %v, %v", name, got, err)
		}
	}
	for _, name := range []string{
		"fruit", "fruits:ripe", "a/b:c", "example.com/a/b", img.ID[7:10], "sha256:" + strings.Repeat("0", 64),
		strings.Repeat("0", 64), "other@" + digest, "0000",
	} {
		if got, err := s.Lookup(name); !errors.Is(err, image.ErrNotExist) {
			t.Errorf("%q: got %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "Fruits", "a b", "fruits:", "../x"} {
		if got, err := s.Lookup(name); !errors.Is(err, image.ErrReference) {
			t.Errorf("%q: got %v, %v", name, got, err)
		}
	}
	got, err := s.Lookup("fruits")
	if err != nil {
		t.Fatal(err)
	}
	chain := []string{
		digestOf("apple")[7:], digestOf(digestOf("apple") + " " + digestOf("pear"))[7:],
	}
	if !slices.Equal(got.ChainIDs, chain) || got.Top() != chain[1] {
		t.Errorf("got chain IDs %q, want %q", got.ChainIDs, chain)
	}
	if want := []string{"example.com/a/b:c", "fruits:latest"}; !slices.Equal(got.RepoTags, want) {
		t.Errorf("got tags %q, want %q", got.RepoTags, want)
	}
	if want := []string{"fruits@" + digest}; !slices.Equal(got.RepoDigests, want) {
		t.Errorf("got digests %q, want %q", got.RepoDigests, want)
	}
	if got.Size != 2 || len(got.Layers) != 2 || got.Config.OS != "linux" {
		t.Errorf("got %+v", got)
	}
}

func digestOf(s string) string { return digest.FromString(s).String() }

// TestLayout reads the store as another tool would.
func TestLayout(t *testing.T) {
	s := open(t)
	img := add(t, s, []string{"fruits", "fruits:ripe"}, "apple")
	add(t, s, nil, "stone")
	var index imagespec.Index
	text, err := os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, d := range index.Manifests {
		names[d.Annotations[imagespec.AnnotationRefName]] = d.Digest.String()
	}
	if len(names) != 3 || names["fruits:ripe"] != img.Manifest.Digest.String() || names[""] == "" {
		t.Errorf("got %v", names)
	}
}

func TestTag(t *testing.T) {
	s := open(t)
	a, b := add(t, s, []string{"a"}, "1"), add(t, s, []string{"b"}, "2")
	if err := s.Tag("a", "b"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup("b"); err != nil || got.ID != a.ID {
		t.Errorf("b is %v, %v", got, err)
	}
	if got, err := s.Lookup(b.ID); err != nil || len(got.RepoTags) != 0 {
		t.Errorf("the one that was b is %v, %v", got, err)
	}
	if err := s.Tag("c", "d"); !errors.Is(err, image.ErrNotExist) {
		t.Errorf("tag what is not there: got %v", err)
	}
	for _, name := range []string{"A", "a@" + digestOf("x"), ""} {
		if err := s.Tag("a", name); err == nil {
			t.Errorf("tag %q: no error", name)
		}
	}
}

func TestBlob_WrongDigest(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	b, err := l.Blob()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte("what came")); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(digestOf("what was wanted")); err == nil {
		t.Error("no error")
	}
	if got := blobs(t, s); len(got) != 0 {
		t.Errorf("there are blobs: %q", got)
	}
}

// TestAdd_Incomplete sees that what is not whole is no image.
func TestAdd_Incomplete(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	layer := put(t, l, []byte("x"), imagespec.MediaTypeImageLayer)
	config := func(diffIDs ...string) image.Descriptor {
		text := fmt.Sprintf(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}`,
			strings.Join(diffIDs, `","`))
		return put(t, l, []byte(text), imagespec.MediaTypeImageConfig)
	}
	good := config(digestOf("x"))
	wrongSize, missing := layer, layer
	wrongSize.Size++
	missing.Digest = digest.FromString("nothing")
	for name, m := range map[string]imagespec.Manifest{
		"a layer that is missing":       {Config: good, Layers: []image.Descriptor{missing}},
		"a layer with a lie":            {Config: good, Layers: []image.Descriptor{wrongSize}},
		"more layers than diff IDs":     {Config: good, Layers: []image.Descriptor{layer, layer}},
		"fewer layers than diff IDs":    {Config: good},
		"a configuration that is none":  {Config: layer, Layers: []image.Descriptor{layer}},
		"a diff ID that is none":        {Config: config("sha256:../../x"), Layers: []image.Descriptor{layer}},
		"a configuration that is no ID": {Config: image.Descriptor{Digest: "sha256:../.."}},
	} {
		d := put(t, l, marshal(t, m), imagespec.MediaTypeImageManifest)
		if img, err := l.Add(d, 0); err == nil {
			t.Errorf("%s: got %v", name, img)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("images: %v, %v", all, err)
	}
}

// TestRemove has docker's rules.
func TestRemove(t *testing.T) {
	at := digestOf("at")
	stopped := []image.Use{{Container: "c0ffee", Image: "img"}}
	running := []image.Use{{Container: "c0ffee", Image: "img", Running: true}}
	for _, test := range []struct {
		name   string
		names  []string
		uses   []image.Use
		remove string // "" is the ID
		force  bool
		want   string // what is removed, U a name, D the image; or an error's text
		left   []string
	}{
		{"the only name", []string{"a"}, nil, "a", false, "U a:latest D", nil},
		{"one name of two", []string{"a", "b"}, nil, "a", false, "U a:latest", []string{"b:latest"}},
		{"name with digest", []string{"a", "a@" + at}, nil, "a", false, "U a:latest U a@" + at + " D", nil},
		{
			"one tag of two with digest", []string{"a:1", "a:2", "a@" + at}, nil, "a:1", false,
			"U a:1", []string{"a:2", "a@" + at},
		},
		{
			"digests of that repository only", []string{"a", "a@" + at, "b"}, nil, "a", false,
			"U a:latest U a@" + at, []string{"b:latest"},
		},
		{"by digest", []string{"a@" + at}, nil, "a@" + at, false, "U a@" + at + " D", nil},
		{"by ID", []string{"a"}, nil, "", false, "U a:latest D", nil},
		{"by ID with digest", []string{"a", "a@" + at}, nil, "", false, "U a:latest U a@" + at + " D", nil},
		{"by ID, dangling", nil, nil, "", false, "D", nil},
		{
			"by ID, two names", []string{"a", "b"}, nil, "", false,
			"must be forced) - image is referenced in multiple repositories", []string{"a:latest", "b:latest"},
		},
		{"by ID, two names, force", []string{"a", "b"}, nil, "", true, "U a:latest U b:latest D", nil},
		{
			"used", []string{"a"}, stopped, "a", false,
			`unable to remove repository reference "a" (must force)`, []string{"a:latest"},
		},
		{"used, force", []string{"a"}, stopped, "a", true, "U a:latest D", nil},
		{"used, another name is left", []string{"a", "b"}, stopped, "a", false, "U a:latest", []string{"b:latest"}},
		{
			"used, by ID", []string{"a"}, stopped, "", false,
			"(must be forced) - image is being used by stopped container c0ffee", []string{"a:latest"},
		},
		{"used, by ID, force", []string{"a"}, stopped, "", true, "U a:latest D", nil},
		{
			"running, by ID, force", []string{"a"}, running, "", true,
			"(cannot be forced) - image is being used by running container c0ffee", []string{"a:latest"},
		},
		{"running, force", []string{"a"}, running, "a", true, "U a:latest", []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			keep := add(t, s, []string{"keep"}, "shared", "k")
			img := add(t, s, test.names, "shared", "x")
			uses := slices.Clone(test.uses)
			for i := range uses {
				uses[i].Image = img.ID
			}
			name := test.remove
			if name == "" {
				name = img.ID[7:19]
			}
			removed, err := s.Remove(name, image.RemoveOptions{
				Force: test.force, Uses: func() ([]image.Use, error) { return uses, nil },
			})
			got := describe(removed, err, img.ID)
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if err != nil && !errors.Is(err, image.ErrConflict) {
				t.Errorf("the error is no conflict: %v", err)
			}
			left, err := s.Lookup(img.ID)
			if test.left == nil {
				if !errors.Is(err, image.ErrNotExist) {
					t.Errorf("it is still there: %v, %v", left, err)
				}
				if got := len(blobs(t, s)); got != 4 {
					t.Errorf("there are %d blobs, want the 4 of the other image", got)
				}
			} else if err != nil || !slices.Equal(append(left.RepoTags, left.RepoDigests...), test.left) {
				t.Errorf("left are %v (%v), want %q", left, err, test.left)
			}
			if got, err := s.Lookup("keep"); err != nil || !reflect.DeepEqual(got, keep) {
				t.Errorf("the other image is %v, %v", got, err)
			}
		})
	}
}

func describe(removed []image.Removed, err error, id string) string {
	if err != nil {
		return err.Error()
	}
	var words []string
	for _, r := range removed {
		switch {
		case r.Untagged != "":
			words = append(words, "U "+r.Untagged)
		case r.Deleted == id:
			words = append(words, "D")
		default:
			words = append(words, "D "+r.Deleted)
		}
	}
	return strings.Join(words, " ")
}

// TestLease_Holds sees that nobody deletes what somebody is at work with, and that it goes when
// he has gone.
func TestLease_Holds(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	manifest := putManifest(t, l, "shared", "x")
	add(t, s, []string{"a"}, "shared", "y")
	if _, err := s.Remove("a", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(manifest, 0, references0(t, []string{"b"})...); err != nil {
		t.Fatalf("what the lease holds has been deleted: %v", err)
	}
	put(t, l, []byte("waste"), "")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := len(blobs(t, s)); got != 4 {
		t.Errorf("there are %d blobs, want the 4 of the image", got)
	}
	if entries, err := os.ReadDir(filepath.Join(s.Dir(), "leases")); err != nil || len(entries) != 0 {
		t.Errorf("leases: %v, %v", entries, err)
	}
}

// TestOpen_Twice sees that a store that is there is opened as it is.
func TestOpen_Twice(t *testing.T) {
	s := open(t)
	img := add(t, s, []string{"a"}, "1")
	again, err := image.Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Lookup("a")
	if err != nil || !reflect.DeepEqual(got, img) {
		t.Errorf("got %v, %v, want %v", got, err, img)
	}
	f, err := again.OpenBlob(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(f); err != nil || digestOf(text.String()) != img.ID {
		t.Errorf("the configuration is %q, %v", text.String(), err)
	}
}
