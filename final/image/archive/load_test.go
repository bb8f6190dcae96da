//go:build linux

package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/imagetest"
)

// make3 makes an image of three layers, plain, gzip and zstd, by import and commit.
func make3(t testing.TB, s *image.Store, layers image.Layers, names ...string) *image.Image {
	t.Helper()
	img, err := archive.Import(t.Context(), s, layers,
		bytes.NewReader(imagetest.Tar(t, "a", "one")), archive.ImportOptions{Created: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for kind, text := range map[string]string{"gzip": "two", "zstd": "three"} {
		layer := compressions[kind](t, imagetest.Tar(t, kind, text))
		img, err = archive.Commit(t.Context(), s, layers, img, bytes.NewReader(layer),
			archive.CommitOptions{Created: time.Unix(1, 0), CreatedBy: kind})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		if err := s.Tag(img.ID, n); err != nil {
			t.Fatal(err)
		}
	}
	if img, err = s.Lookup(img.ID); err != nil {
		t.Fatal(err)
	}
	return img
}

func save(t testing.TB, s *image.Store, format archive.Format, names ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := archive.Save(t.Context(), s, &out, names, format); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// toFile writes a file, to be read anywhere; a bytes.Reader is a stream.
func toFile(t testing.TB, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return openFile(t, path)
}

func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestSaveLoad has the same image, to the last digest, after a way through each form.
func TestSaveLoad(t *testing.T) {
	from, fromLayers := imagetest.Open(t), &imagetest.Layers{}
	img := make3(t, from, fromLayers, "fruits", "example.com:5000/f:1")
	dir := filepath.Join(t.TempDir(), "layout")
	if err := archive.SaveDir(t.Context(), from, dir, []string{"fruits"}, archive.FormatOCI); err != nil {
		t.Fatal(err)
	}
	names := []string{"fruits", "example.com:5000/f:1"}
	docker := save(t, from, archive.FormatDocker, names...)
	oci := save(t, from, archive.FormatOCI, names...)
	for name, test := range map[string]struct {
		in   io.Reader
		tags int
	}{
		"docker, a stream":  {bytes.NewReader(docker), 2},
		"docker, a file":    {toFile(t, docker), 2},
		"docker, gzip":      {toFile(t, compressions["gzip"](t, docker)), 2},
		"OCI, a stream":     {bytes.NewReader(oci), 2},
		"OCI, a file":       {toFile(t, oci), 2},
		"OCI, zstd":         {bytes.NewReader(compressions["zstd"](t, oci)), 2},
		"OCI, a folder":     {openFile(t, dir), 1},
		"one in the middle": {offset(t, oci), 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, layers := imagetest.Open(t), &imagetest.Layers{Ordered: strings.Contains(name, "file")}
			loaded, err := archive.Load(t.Context(), s, layers, test.in, archive.LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(loaded) != 1 || len(loaded[0].Names) != test.tags {
				t.Fatalf("got %v", loaded)
			}
			got, err := s.Lookup("fruits")
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != img.ID || got.Manifest.Digest != img.Manifest.Digest || got.Size != img.Size {
				t.Errorf("got %v, want %v", got, img)
			}
			for _, id := range img.ChainIDs {
				if !bytes.Equal(layers.Archive(id), fromLayers.Archive(id)) {
					t.Errorf("layer %s is another", id)
				}
			}
			if again := save(t, s, archive.FormatOCI, "fruits"); !bytes.Equal(again, save(t, from, archive.FormatOCI, "fruits")) {
				t.Error("what is saved again is another archive")
			}
		})
	}
}

// offset is a file that is to be read from somewhere in it.
func offset(t testing.TB, content []byte) *os.File {
	t.Helper()
	f := toFile(t, append([]byte("something else"), content...))
	if _, err := f.Seek(14, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSave_Others lets another implementation read what is saved.
func TestSave_Others(t *testing.T) {
	s := imagetest.Open(t)
	img := make3(t, s, &imagetest.Layers{}, "fruits")
	file := toFile(t, save(t, s, archive.FormatDocker, "fruits"))
	tag, err := name.NewTag("fruits")
	if err != nil {
		t.Fatal(err)
	}
	docker, err := tarball.ImageFromPath(file.Name(), &tag)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := docker.ConfigName(); err != nil || id.String() != img.ID {
		t.Errorf("docker: got %v, %v, want %s", id, err, img.ID)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if err := archive.SaveDir(t.Context(), s, dir, []string{"fruits"}, archive.FormatOCI); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, s.Dir()} {
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(m.Manifests, func(d v1.Descriptor) bool {
			return d.Digest.String() == img.Manifest.Digest.String() &&
				strings.HasSuffix(d.Annotations[imagespec.AnnotationRefName], "latest")
		}) {
			t.Errorf("layout: got %v", m)
		}
	}
}

// TestLoad_Old reads archives as docker wrote them before there were OCI layouts in them.
func TestLoad_Old(t *testing.T) {
	one, two := imagetest.Tar(t, "a", "one"), imagetest.Tar(t, "b", "two")
	config := configOf(t, one, two, one)
	for name, layers := range map[string][]any{
		"plain":      {one, two, one},
		"compressed": {compressions["gzip"](t, one), two, compressions["gzip"](t, one)},
		"links":      {one, two, link("../1/layer.tar")},
	} {
		t.Run(name, func(t *testing.T) {
			content := tarOf(t, map[string]any{
				"config.json": config, "1/layer.tar": layers[0], "2/layer.tar": layers[1],
				"3/layer.tar": layers[2], "1/VERSION": "1.0", "repositories": "{}",
				"manifest.json": marshal(t, []any{map[string]any{
					"Config": "config.json", "RepoTags": []string{"fruits:ripe", "a/b:c"},
					"Layers": []string{"1/layer.tar", "2/layer.tar", "3/layer.tar"},
				}}),
			})
			for _, in := range []io.Reader{bytes.NewReader(content), toFile(t, content)} {
				s, l := imagetest.Open(t), &imagetest.Layers{}
				if _, err := archive.Load(t.Context(), s, l, in, archive.LoadOptions{}); err != nil {
					t.Fatal(err)
				}
				got, err := s.Lookup("fruits:ripe")
				if err != nil || got.ID != imagetest.Digest(config) || len(got.RepoTags) != 2 {
					t.Errorf("got %v, %v", got, err)
				}
				if len(got.ChainIDs) != 3 || !bytes.Equal(l.Archive(got.Top()), one) {
					t.Errorf("the layers are %v", got.ChainIDs)
				}
			}
		})
	}
}

type link string

// tarOf is an archive of files; a value is the content, as text or bytes, or a link.
func tarOf(t testing.TB, files map[string]any) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Mode: 0o644}
		var content []byte
		switch v := files[name].(type) {
		case link:
			h.Typeflag, h.Linkname = tar.TypeSymlink, string(v)
		case string:
			content = []byte(v)
		case []byte:
			content = v
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func configOf(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	var ids []string
	for _, l := range layers {
		ids = append(ids, imagetest.Digest(l))
	}
	return marshal(t, map[string]any{
		"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
}

// layoutOf is an OCI layout's archive with these blobs; index.json has the last as its image.
func layoutOf(t testing.TB, mediaType string, blobs ...[]byte) map[string]any {
	t.Helper()
	files := map[string]any{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}
	for _, b := range blobs {
		files["blobs/sha256/"+imagetest.Digest(b)[7:]] = b
	}
	last := blobs[len(blobs)-1]
	files["index.json"] = marshal(t, map[string]any{
		"schemaVersion": 2, "manifests": []any{descriptor(mediaType, last)},
	})
	return files
}

func descriptor(mediaType string, blob []byte) map[string]any {
	return map[string]any{
		"mediaType": mediaType, "digest": imagetest.Digest(blob), "size": len(blob),
	}
}

func manifestOf(t testing.TB, config []byte, layers ...[]byte) map[string]any {
	t.Helper()
	all := []any{}
	for _, l := range layers {
		all = append(all, descriptor(imagespec.MediaTypeImageLayer, l))
	}
	return map[string]any{
		"schemaVersion": 2, "mediaType": imagespec.MediaTypeImageManifest,
		"config": descriptor(imagespec.MediaTypeImageConfig, config), "layers": all,
	}
}

// TestLoad_Hostile has archives that lie. Each is an error, and leaves nothing.
func TestLoad_Hostile(t *testing.T) {
	layer := imagetest.Tar(t, "a", "one")
	config := configOf(t, layer)
	good := manifestOf(t, config, layer)
	with := func(key string, v any) []byte {
		m := maps.Clone(good)
		m[key] = v
		return marshal(t, m)
	}
	layout := func(manifest []byte) map[string]any {
		return layoutOf(t, imagespec.MediaTypeImageManifest, layer, config, manifest)
	}
	changed := func(name string, v any) map[string]any {
		files := layout(marshal(t, good))
		if v == nil {
			delete(files, name)
		} else {
			files[name] = v
		}
		return files
	}
	blob := "blobs/sha256/" + imagetest.Digest(layer)[7:]
	sized := func(n int) []any {
		d := descriptor(imagespec.MediaTypeImageLayer, layer)
		d["size"] = n
		return []any{d}
	}
	typed := func(mediaType string) []any { return []any{descriptor(mediaType, layer)} }
	url := descriptor(imagespec.MediaTypeImageLayer, layer)
	url["urls"] = []string{"http://127.0.0.1:1/layer"}
	docker := func(config, layer string, layers ...string) map[string]any {
		return map[string]any{
			"c.json": config, "l.tar": layer,
			"manifest.json": marshal(t, []any{map[string]any{"Config": "c.json", "Layers": layers}}),
		}
	}
	ring := map[string]any{}
	for name, files := range map[string]map[string]any{
		"nothing":                     {},
		"a root file system":          {"bin/sh": "#!"},
		"a path that leads out":       {"../index.json": "{}"},
		"a path within":               {"a/../../index.json": "{}"},
		"index.json is no JSON":       {"index.json": "{"},
		"index.json is huge":          {"index.json": strings.Repeat(" ", image.MaxJSON) + "{}"},
		"deep nesting":                {"index.json": strings.Repeat("[", 100000)},
		"an index of nothing":         {"index.json": `{"schemaVersion":2,"manifests":[]}`},
		"a digest that is a path":     {"index.json": `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x"}]}`},
		"a digest of another kind":    {"index.json": `{"schemaVersion":2,"manifests":[{"digest":"sha512:` + strings.Repeat("a", 128) + `"}]}`},
		"no blobs":                    {"index.json": layout(marshal(t, good))["index.json"]},
		"a layer is missing":          changed(blob, nil),
		"a layer is another":          changed(blob, imagetest.Tar(t, "a", "two")),
		"a layer is a link in a ring": changed(blob, link(filepath.Base(blob))),
		"a layer is a link out":       changed(blob, link("../../../../../../etc/passwd")),
		"a layer is cut off":          changed(blob, layer[:600]),
		"a size that lies, more":      layout(with("layers", sized(len(layer)+1))),
		"a size that lies, less":      layout(with("layers", sized(len(layer)-1))),
		"a negative size":             layout(with("layers", sized(-1))),
		"a foreign layer":             layout(with("layers", []any{url})),
		"a foreign media type":        layout(with("layers", typed("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"))),
		"an encrypted layer":          layout(with("layers", typed(imagespec.MediaTypeImageLayer+"+encrypted"))),
		"a layer too many":            layout(with("layers", append(typed(imagespec.MediaTypeImageLayer), typed(imagespec.MediaTypeImageLayer)...))),
		"no layer":                    layout(with("layers", []any{})),
		"schema 1":                    layout([]byte(`{"schemaVersion":1,"fsLayers":[]}`)),
		"manifest and index at once":  layout(with("manifests", []any{})),
		"it says that it is an index": layout(with("mediaType", imagespec.MediaTypeImageIndex)),
		"an artifact":                 layout(with("config", descriptor("application/vnd.oci.empty.v1+json", config))),
		"a layer for configuration":   layout(with("config", descriptor(imagespec.MediaTypeImageConfig, layer))),
		"another diff ID": layoutOf(t, imagespec.MediaTypeImageManifest, layer, configOf(t, config),
			marshal(t, manifestOf(t, configOf(t, config), layer))),
		"for Windows": layoutOf(t, imagespec.MediaTypeImageManifest, layer,
			[]byte(`{"os":"windows","rootfs":{"diff_ids":["`+imagetest.Digest(layer)+`"]}}`),
			marshal(t, manifestOf(t, []byte(`{"os":"windows","rootfs":{"diff_ids":["`+imagetest.Digest(layer)+`"]}}`), layer))),
		"an index of itself":        ring,
		"docker: no configuration":  docker("", string(layer), "l.tar"),
		"docker: no layer":          docker(string(config), string(layer), "m.tar"),
		"docker: a layer too many":  docker(string(config), string(layer), "l.tar", "l.tar"),
		"docker: another layer":     docker(string(config), "x", "l.tar"),
		"docker: a path out":        docker(string(config), string(layer), "../../../../../etc/passwd"),
		"docker: broken gzip":       docker(string(config), "\x1f\x8b\x08 what", "l.tar"),
		"docker: diff ID is a path": docker(`{"os":"linux","rootfs":{"diff_ids":["sha256:../../../x"]}}`, string(layer), "l.tar"),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "an index of itself" { // five levels; a true ring needs a broken SHA-256
				text := marshal(t, good)
				blobs, kind := [][]byte{layer, config, text}, imagespec.MediaTypeImageManifest
				for range 5 {
					text = marshal(t, map[string]any{"schemaVersion": 2, "manifests": []any{descriptor(kind, text)}})
					blobs, kind = append(blobs, text), imagespec.MediaTypeImageIndex
				}
				files = layoutOf(t, kind, blobs...)
			}
			content := tarOf(t, files)
			for _, in := range []io.Reader{bytes.NewReader(content), toFile(t, content), unpacked(t, files)} {
				if in == nil {
					continue
				}
				hostile(t, in)
			}
		})
	}
	if t.Failed() {
		return
	}
	content := tarOf(t, layout(marshal(t, good)))
	if _, err := archive.Load(t.Context(), imagetest.Open(t), &imagetest.Layers{},
		bytes.NewReader(content), archive.LoadOptions{}); err != nil {
		t.Errorf("what they are all made of: %v", err)
	}
	for _, size := range []int{0, 1, 100, 512, 700, 1024, len(content) / 2, len(content) - 1800} {
		hostile(t, bytes.NewReader(content[:size]))
		hostile(t, toFile(t, content[:size]))
	}
}

// unpacked is a folder with files, or nil if they cannot be in one.
func unpacked(t testing.TB, files map[string]any) io.Reader {
	t.Helper()
	dir := t.TempDir()
	for name, v := range files {
		if !filepath.IsLocal(name) {
			return nil
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := v.(link); ok {
			err = os.Symlink(string(to), path)
		} else {
			err = os.WriteFile(path, fmt.Append(nil, asText(v)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return openFile(t, dir)
}

func asText(v any) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return v.(string)
}

// hostile sees that an archive gives an error, and that nothing is left of it.
func hostile(t testing.TB, in io.Reader) {
	t.Helper()
	s, layers := imagetest.Open(t), &imagetest.Layers{}
	loaded, err := archive.Load(t.Context(), s, layers, in, archive.LoadOptions{})
	if err == nil {
		t.Errorf("got %v", loaded)
		return
	}
	t.Log(err)
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("images: %v, %v", all, err)
	}
	if err := s.Collect(image.RemoveOptions{Layers: layers}); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, s, layers)
}

func TestLoad_Platform(t *testing.T) {
	layers := [][]byte{imagetest.Tar(t, "a", "amd64"), imagetest.Tar(t, "a", "arm64")}
	var blobs [][]byte
	var manifests []any
	for i, arch := range []string{"amd64", "arm64"} {
		config := bytes.Replace(configOf(t, layers[i]), []byte("amd64"), []byte(arch), 1)
		m := marshal(t, manifestOf(t, config, layers[i]))
		blobs = append(blobs, layers[i], config, m)
		d := descriptor(imagespec.MediaTypeImageManifest, m)
		d["platform"] = map[string]any{"os": "linux", "architecture": arch}
		manifests = append(manifests, d)
	}
	files := layoutOf(t, "", append(blobs, blobs[0])...)
	direct := maps.Clone(files)
	direct["index.json"] = marshal(t, map[string]any{"schemaVersion": 2, "manifests": manifests})
	nested := layoutOf(t, imagespec.MediaTypeImageIndex,
		append(blobs, direct["index.json"].([]byte))...)
	for name, files := range map[string]map[string]any{"direct": direct, "nested": nested} {
		for _, arch := range []string{"amd64", "arm64"} {
			s, l := imagetest.Open(t), &imagetest.Layers{}
			loaded, err := archive.Load(t.Context(), s, l, bytes.NewReader(tarOf(t, files)),
				archive.LoadOptions{Platform: "linux/" + arch})
			if err != nil || len(loaded) != 1 || loaded[0].Image.Config.Architecture != arch {
				t.Errorf("%s, %s: got %v, %v", name, arch, loaded, err)
			}
		}
		_, err := archive.Load(t.Context(), imagetest.Open(t), &imagetest.Layers{},
			bytes.NewReader(tarOf(t, files)), archive.LoadOptions{Platform: "linux/riscv64"})
		if err == nil || !strings.Contains(err.Error(), "--platform") {
			t.Errorf("%s, riscv64: got %v", name, err)
		}
	}
}

func TestSave_Fails(t *testing.T) {
	s := imagetest.Open(t)
	img := make3(t, s, &imagetest.Layers{}, "fruits")
	if err := archive.Save(t.Context(), s, io.Discard, []string{"nuts"}, archive.FormatOCI); !errors.Is(err, image.ErrNotExist) {
		t.Errorf("what is not there: got %v", err)
	}
	if err := archive.Save(t.Context(), s, io.Discard, []string{"fruits"}, "zip"); err == nil {
		t.Error("a format that is none: no error")
	}
	if err := os.Remove(filepath.Join(s.Dir(), "blobs/sha256", img.Layers[1].Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	if err := archive.Save(t.Context(), s, io.Discard, []string{"fruits"}, archive.FormatOCI); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that is gone: got %v", err)
	}
}

func TestCommit(t *testing.T) {
	s, layers := imagetest.Open(t), &imagetest.Layers{}
	base, err := archive.Import(t.Context(), s, layers, bytes.NewReader(imagetest.Tar(t, "a", "1")),
		archive.ImportOptions{Name: "base", Created: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	changes := imagetest.Tar(t, "b", "2")
	commit := func(changes []byte) *image.Image {
		t.Helper()
		img, err := archive.Commit(t.Context(), s, layers, base, bytes.NewReader(changes),
			archive.CommitOptions{
				Name: "child", Author: "me", Message: "why", CreatedBy: "sh", Created: time.Unix(2, 0),
				Change: func(c *image.Config) error {
					c.Config.Env = []string{"A=1"}
					return nil
				},
			})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	img := commit(changes)
	if len(img.ChainIDs) != 2 || img.ChainIDs[0] != base.Top() || !bytes.Equal(layers.Archive(img.Top()), changes) {
		t.Errorf("the layers are %v", img.ChainIDs)
	}
	if h := img.Config.History[1]; h.Author != "me" || h.Comment != "why" || h.CreatedBy != "sh" || h.EmptyLayer {
		t.Errorf("the history is %+v", h)
	}
	if again := commit(changes); again.ID != img.ID || again.Manifest.Digest != img.Manifest.Digest {
		t.Error("the same commit gives another image")
	}
	empty := commit(make([]byte, 1024))
	if len(empty.ChainIDs) != 1 || !empty.Config.History[1].EmptyLayer {
		t.Errorf("a commit of nothing has layers %v and history %v", empty.ChainIDs, empty.Config.History)
	}
	if got, err := s.Lookup("base"); err != nil || got.ID != base.ID || len(got.Config.Config.Env) != 0 {
		t.Errorf("the base is %v, %v", got, err)
	}
}
