//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An image as the OCI image specification has it is a tree of blobs, files that are named
// by the SHA-256 digest of their bytes: an index or manifest.json leads to a manifest, and
// the manifest to the configuration and to the layers' archives.
const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar" // with +gzip if it is
)

// descriptor points at a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"` // in bytes
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// manifest is an image: its configuration and its layers, lowest first.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"` // 2
	MediaType     string       `json:"mediaType,omitempty"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// imageConfig is how an image is run, and where its layers came from.
type imageConfig struct {
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
	OS           string `json:"os"`
	// Config is kept as it came: see runDefaults for what is read of it.
	Config json.RawMessage `json:"config,omitempty"`
	RootFS struct {
		Type    string   `json:"type"`     // "layers"
		DiffIDs []string `json:"diff_ids"` // of the uncompressed archives, lowest first
	} `json:"rootfs"`
	History []history `json:"history,omitempty"`
}

// history says how a layer, or a change of the configuration only, came about.
type history struct {
	Created    string `json:"created,omitempty"` // as RFC 3339 has times
	CreatedBy  string `json:"created_by,omitempty"`
	Comment    string `json:"comment,omitempty"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

// noTime stands where a time is expected. No time is in what has a digest: the same layers
// are the same image, whenever.
const noTime = "1970-01-01T00:00:00Z"

// runDefaults are what run takes from an image's configuration.
type runDefaults struct {
	User            string
	Env             []string
	Entrypoint, Cmd []string
	WorkingDir      string
}

// blobPath is the file of a blob. A digest from an archive may be anything.
func blobPath(digest string) (string, error) {
	if !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(digest) {
		return "", fmt.Errorf("%q is no SHA-256 digest", digest)
	}
	return filepath.Join(stateDir, "blobs", strings.TrimPrefix(digest, "sha256:")), nil
}

// addBlob stores all that it reads as a blob, which appears when it is whole.
func addBlob(content io.Reader, mediaType string) (descriptor, error) {
	tmp, err := os.CreateTemp(filepath.Join(stateDir, "tmp"), "")
	if err != nil {
		return descriptor{}, err
	}
	defer os.RemoveAll(tmp.Name()) // gone by then, unless something failed
	defer tmp.Close()
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(tmp, hash), content)
	if err != nil {
		return descriptor{}, fmt.Errorf("store a blob: %w", err)
	}
	d := descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)), Size: size}
	path, err := blobPath(d.Digest)
	if err != nil {
		return d, err
	}
	return d, os.Rename(tmp.Name(), path)
}

// addJSON stores v as a blob. The same v gives the same bytes, and so the same digest.
func addJSON(v any, mediaType string) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return addBlob(bytes.NewReader(data), mediaType)
}

// readJSON reads a blob of JSON into v; 4 MiB are the most that registries take too.
func readJSON(digest string, v any) error {
	f, err := openBlob(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, 4<<20)).Decode(v); err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	return nil
}

// openBlob opens a blob of the store.
func openBlob(digest string) (*os.File, error) {
	path, err := blobPath(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("blob %s is not here: %w", digest, err)
	}
	return f, nil
}

// addArchive stores a layer's archive as a blob, as it is, and unpacks it. It returns the
// digests of both: of the blob, and of the archive uncompressed.
func addArchive(archive io.Reader) (descriptor, string, error) {
	d, err := addBlob(archive, mediaLayer)
	if err != nil {
		return d, "", err
	}
	if d.MediaType, err = layerType(d.Digest); err != nil {
		return d, "", err
	}
	layer, err := unpackBlob(d.Digest)
	return d, layer, err
}

// layerType looks at the first two bytes of a layer's archive for gzip's.
func layerType(digest string) (string, error) {
	f, err := openBlob(digest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var magic [2]byte
	if _, err := f.ReadAt(magic[:], 0); err == nil && magic == [2]byte{0x1f, 0x8b} {
		return mediaLayer + "+gzip", nil
	}
	return mediaLayer, nil
}

// unpackBlob unpacks a layer whose archive is in the store.
func unpackBlob(digest string) (string, error) {
	f, err := openBlob(digest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return addLayer(f)
}

// stackLayer makes an image of one more layer on top of a base, which may be none.
func stackLayer(base image, d descriptor, layer string, by history) (image, error) {
	m, config := manifest{SchemaVersion: 2, MediaType: mediaManifest}, imageConfig{}
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Config = json.RawMessage("{}") // as others write it, so that they keep the digest
	config.RootFS.Type = "layers"
	if base.Layers != nil {
		var err error
		if m, config, err = base.read(); err != nil {
			return image{}, err
		}
		m.MediaType = mediaManifest
	}
	m.Layers = append(m.Layers, d)
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer)
	by.Created = noTime
	config.History = append(config.History, by)
	var err error
	if m.Config, err = addJSON(config, mediaConfig); err != nil {
		return image{}, err
	}
	top, err := addJSON(m, mediaManifest)
	return image{Layers: config.RootFS.DiffIDs, Created: time.Now(), Manifest: top.Digest}, err
}

// read returns what the image's manifest leads to.
func (img image) read() (m manifest, config imageConfig, err error) {
	if img.Manifest == "" {
		return m, config, errors.New("the image was made by step 07 or 08, which keep no archives: " +
			"import it again")
	}
	if err := readJSON(img.Manifest, &m); err != nil {
		return m, config, err
	}
	return m, config, readJSON(m.Config.Digest, &config)
}

// shortID is the beginning of the manifest's digest, as docker prints it.
func (img image) shortID() string {
	if img.Manifest == "" {
		return "none"
	}
	return img.Manifest[len("sha256:"):][:12]
}

// applyDefaults completes cfg, whose arguments may be none, from the image.
func (img image) applyDefaults(cfg *config) error {
	if img.Manifest == "" {
		return nil
	}
	_, stored, err := img.read()
	if err != nil {
		return err
	}
	var d runDefaults
	if stored.Config != nil {
		if err := json.Unmarshal(stored.Config, &d); err != nil {
			return fmt.Errorf("the image's configuration: %w", err)
		}
	}
	if !slices.Contains([]string{"", "0", "root", "0:0", "root:root"}, d.User) {
		return fmt.Errorf("the image wants to run as user %q, and all run as root here", d.User)
	}
	if len(cfg.Args) == 0 {
		cfg.Args = d.Cmd
	}
	cfg.Args = append(d.Entrypoint, cfg.Args...)
	cfg.ImageEnv, cfg.Dir = d.Env, d.WorkingDir
	return nil
}

// tidyAfter removes what an attempt that failed has added.
func tidyAfter(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(err, collectGarbage())
}

// collectGarbage removes the blobs and layers that no image and no container uses any
// more, unless somebody is busy with the store: the next one will do it.
func collectGarbage() error {
	store, err := openStore(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer store.Close()
	images, err := readImages()
	if err != nil {
		return err
	}
	containers, err := readContainers()
	if err != nil {
		return err
	}
	for id, ctr := range containers {
		images["container "+id] = image{Layers: ctr.Layers, Manifest: ctr.Manifest}
	}
	used := map[string]bool{}
	for name, img := range images {
		for _, layer := range img.Layers {
			used[layerDir(layer)] = true
		}
		if img.Manifest == "" {
			continue
		}
		m, _, err := img.read()
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		for _, d := range append(m.Layers, m.Config, descriptor{Digest: img.Manifest}) {
			path, err := blobPath(d.Digest)
			if err != nil {
				return err
			}
			used[path] = true
		}
	}
	for _, folder := range []string{"layers", "blobs"} {
		paths, err := filepath.Glob(filepath.Join(stateDir, folder, "*"))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if used[path] {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}
