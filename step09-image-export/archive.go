//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// index is index.json of an OCI layout, and what an image for several platforms has in
// the place of a manifest.
type index struct {
	SchemaVersion int          `json:"schemaVersion"` // 2
	MediaType     string       `json:"mediaType,omitempty"`
	Manifests     []descriptor `json:"manifests"`
}

// refName is the annotation with an image's name in index.json.
const refName = "org.opencontainers.image.ref.name"

// dockerImage is an element of manifest.json, docker's own form of the same: the files of
// the configuration and of the layers, lowest first.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func saveCommand() *cli.Command {
	return &cli.Command{
		Name:         "save",
		Usage:        "write images as an archive: an OCI layout, with docker's manifest.json",
		ArgsUsage:    "IMAGE [IMAGE...]",
		OnUsageError: usageError,
		Flags:        []cli.Flag{outputFlag},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return errors.New("no image given: minidocker save IMAGE [IMAGE...]")
			}
			return save(c.Args().Slice(), c.String("output"))
		},
	}
}

func save(names []string, file string) error {
	store, err := openStore(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer store.Close()
	all := index{SchemaVersion: 2, MediaType: mediaIndex}
	var forDocker []dockerImage
	blobs := map[string]bool{} // each once, whoever shares it
	for _, name := range names {
		img, err := findImage(name)
		if err != nil {
			return err
		}
		m, _, err := img.read()
		if err != nil {
			return err
		}
		name, _ = imageName(name) // findImage has looked at it
		size, err := sizeOf(img.Manifest)
		if err != nil {
			return err
		}
		all.Manifests = append(all.Manifests, descriptor{
			MediaType: cmp.Or(m.MediaType, mediaManifest), Digest: img.Manifest, Size: size,
			Annotations: map[string]string{refName: name},
		})
		d := dockerImage{Config: blobName(m.Config.Digest), RepoTags: []string{name}}
		for _, layer := range m.Layers {
			d.Layers = append(d.Layers, blobName(layer.Digest))
			blobs[layer.Digest] = true
		}
		forDocker = append(forDocker, d)
		blobs[m.Config.Digest], blobs[img.Manifest] = true, true
	}
	out, err := openOutput(file)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	for _, digest := range slices.Sorted(maps.Keys(blobs)) {
		if err := packBlob(archive, digest); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name    string
		content any
	}{
		{"index.json", all},
		{"manifest.json", forDocker},
		{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}},
	} {
		data, err := json.Marshal(f.content)
		if err != nil {
			return err
		}
		if err := packBytes(archive, f.name, int64(len(data)), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), out.Close())
}

// sizeOf is the size of a blob in bytes.
func sizeOf(digest string) (int64, error) {
	f, err := openBlob(digest)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// blobName is a blob's name in an OCI layout.
func blobName(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func packBlob(archive *tar.Writer, digest string) error {
	f, err := openBlob(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := sizeOf(digest)
	if err != nil {
		return err
	}
	return packBytes(archive, blobName(digest), size, f)
}

func packBytes(archive *tar.Writer, name string, size int64, content io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(archive, content)
	return err
}

func loadCommand() *cli.Command {
	return &cli.Command{
		Name:         "load",
		Usage:        "read images from an archive: an OCI layout, or docker's form",
		OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "input", Aliases: []string{"i"},
				Usage: "`FILE` to read (default: standard input)",
			},
		},
		Action: func(c *cli.Context) error {
			var in io.Reader = os.Stdin
			if file := c.String("input"); file != "" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			// The archive's index is of no use any more, nor what came before an error.
			return errors.Join(load(in), collectGarbage())
		},
	}
}

// loaded are the files of an archive: blobs in the store, by their names in the archive.
type loaded map[string]descriptor

func load(in io.Reader) error {
	store, err := openStore(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer store.Close()
	unix.Umask(0o022)
	plain, err := decompress(in)
	if err != nil {
		return err
	}
	files, err := readArchive(plain)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	images, err := files.images()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return changeImages(func(all map[string]image) error {
		for _, name := range slices.Sorted(maps.Keys(images)) {
			all[name] = images[name]
			fmt.Println("Loaded image:", name)
		}
		return nil
	})
}

// readArchive stores all files of an archive as blobs. One that is named by a digest must
// have it.
func readArchive(plain io.Reader) (loaded, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(stateDir, &st); err != nil {
		return nil, fmt.Errorf("statfs %q: %w", stateDir, err)
	}
	free := int64(st.Bavail) * st.Bsize
	files := loaded{}
	links := map[string]string{}
	archive := tar.NewReader(plain)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the tar archive, plain or of gzip: %w", err)
		}
		if !filepath.IsLocal(h.Name) {
			return nil, fmt.Errorf("entry %q: its path leads out of the archive", h.Name)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			if free -= h.Size; free < 0 {
				return nil, fmt.Errorf("%q claims %d bytes, more than there are left", name, h.Size)
			}
			d, err := addBlob(archive, "")
			if err != nil {
				return nil, err
			}
			if digest, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && d.Digest != "sha256:"+digest {
				return nil, fmt.Errorf("%s has digest %s: the archive is damaged", name, d.Digest)
			}
			files[name] = d
		case tar.TypeSymlink: // docker's way to have a layer twice
			links[name] = path.Join(path.Dir(name), h.Linkname)
		}
	}
	for name, target := range links {
		if d, ok := files[target]; ok {
			files[name] = d
		}
	}
	return files, nil
}

// images returns the archive's images by name, with all layers unpacked.
func (files loaded) images() (map[string]image, error) {
	var docker []dockerImage
	names, isDocker := files["manifest.json"]
	if isDocker {
		if err := readJSON(names.Digest, &docker); err != nil {
			return nil, fmt.Errorf("manifest.json: %w", err)
		}
	}
	top, isLayout := files["index.json"]
	if !isDocker && !isLayout {
		return nil, errors.New("neither index.json nor manifest.json is in it: is it one of save?")
	}
	if isLayout {
		return loadLayout(top.Digest, docker)
	}
	images := map[string]image{}
	for _, d := range docker {
		img, err := files.loadDocker(d)
		if err != nil {
			return nil, err
		}
		addNames(images, img, d.RepoTags)
	}
	return images, nil
}

// loadLayout returns the images of index.json. The whole name of one is in docker's
// manifest.json, if there is that too: docker writes no more than the tag into index.json.
func loadLayout(digest string, docker []dockerImage) (map[string]image, error) {
	var all index
	if err := readJSON(digest, &all); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	tags := map[string][]string{}
	for _, d := range docker {
		config := path.Clean(d.Config)
		tags[config] = append(tags[config], d.RepoTags...)
	}
	images := map[string]image{}
	for _, d := range all.Manifests {
		if !d.fits() {
			continue
		}
		img, err := loadManifest(d, 0)
		if err != nil {
			return nil, err
		}
		m, _, err := img.read()
		if err != nil {
			return nil, err
		}
		names := tags[blobName(m.Config.Digest)]
		if name := d.Annotations[refName]; len(names) == 0 || slices.Contains(names, name) {
			names = []string{name}
		}
		addNames(images, img, names)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("index.json has no image for linux/%s", runtime.GOARCH)
	}
	return images, nil
}

// addNames adds the image by its names in the archive, or by one made up of its digest if
// it has none, or one with a port: "tag" gives it a better one.
func addNames(images map[string]image, img image, names []string) {
	if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		full, err := imageName(name)
		if err != nil {
			full = "loaded:" + img.shortID()
		}
		images[full] = img
	}
}

// fits says whether a descriptor is of an image for this machine, or does not tell.
func (d descriptor) fits() bool {
	p := d.Platform
	return p == nil || p.OS == "linux" && p.Architecture == runtime.GOARCH
}

// checkSize compares the size of a blob with what a descriptor says. The digest says
// which bytes they are; a lie about the size would be passed on by save.
func checkSize(d descriptor) error {
	size, err := sizeOf(d.Digest)
	if err == nil && size != d.Size {
		err = fmt.Errorf("blob %s has %d bytes, not %d as is claimed", d.Digest, size, d.Size)
	}
	return err
}

// loadManifest unpacks the layers of the image that a descriptor leads to.
func loadManifest(d descriptor, depth int) (image, error) {
	var both struct {
		manifest
		Manifests []descriptor `json:"manifests"`
	}
	if err := checkSize(d); err != nil {
		return image{}, err
	}
	if err := readJSON(d.Digest, &both); err != nil {
		return image{}, err
	}
	if both.Manifests == nil {
		return unpackImage(d.Digest, both.manifest)
	}
	// An index: of images for several platforms, one of which may be this machine's.
	for _, d := range both.Manifests {
		if d.fits() && depth < 3 {
			return loadManifest(d, depth+1)
		}
	}
	return image{}, fmt.Errorf("no image for linux/%s in %s", runtime.GOARCH, d.Digest)
}

// loadDocker makes a manifest for an image in docker's form.
func (files loaded) loadDocker(d dockerImage) (image, error) {
	m := manifest{SchemaVersion: 2, MediaType: mediaManifest}
	var ok bool
	if m.Config, ok = files[path.Clean(d.Config)]; !ok {
		return image{}, fmt.Errorf("manifest.json names %q, which is not in the archive", d.Config)
	}
	m.Config.MediaType = mediaConfig
	for _, name := range d.Layers {
		layer, ok := files[path.Clean(name)]
		if !ok {
			return image{}, fmt.Errorf("manifest.json names %q, which is not in the archive", name)
		}
		var err error
		if layer.MediaType, err = layerType(layer.Digest); err != nil {
			return image{}, err
		}
		m.Layers = append(m.Layers, layer)
	}
	top, err := addJSON(m, mediaManifest)
	if err != nil {
		return image{}, err
	}
	return unpackImage(top.Digest, m)
}

// unpackImage unpacks the layers and compares them with what the configuration says.
func unpackImage(digest string, m manifest) (image, error) {
	var config imageConfig
	if err := readJSON(m.Config.Digest, &config); err != nil {
		return image{}, err
	}
	if config.OS != "linux" || len(config.RootFS.DiffIDs) != len(m.Layers) || len(m.Layers) == 0 {
		return image{}, fmt.Errorf("manifest %s is of no image for Linux: %d layers, %d digests of "+
			"them, operating system %q", digest, len(m.Layers), len(config.RootFS.DiffIDs), config.OS)
	}
	if err := checkSize(m.Config); err != nil {
		return image{}, err
	}
	for i, d := range m.Layers {
		if err := checkSize(d); err != nil {
			return image{}, err
		}
		layer, err := unpackBlob(d.Digest)
		if err != nil {
			return image{}, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		if want := config.RootFS.DiffIDs[i]; layer != want {
			return image{}, fmt.Errorf("layer %s unpacked has digest %s, the image says %s",
				d.Digest, layer, want)
		}
	}
	return image{Layers: config.RootFS.DiffIDs, Created: time.Now(), Manifest: digest}, nil
}
