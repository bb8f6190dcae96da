//go:build linux

package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/ingest"
)

// CommitOptions is what an image made of a container is to be.
type CommitOptions struct {
	Name      string // "" for none
	Author    string
	Message   string
	CreatedBy string // the command that ran, for the history
	// Change, if set, changes the configuration, which is the base image's to begin with.
	Change func(*image.Config) error
	// Created is the image's time; zero is now. See Now.
	Created time.Time
}

// Commit makes an image of a base, nil for none, and a layer on top: a tar archive, as the storage
// gives it of a container. A layer in which nothing is, is left out.
func Commit(
	ctx context.Context, store *image.Store, layers image.Layers, base *image.Image,
	changes io.Reader, o CommitOptions,
) (*image.Image, error) {
	names, err := namesOf(o.Name)
	if err != nil {
		return nil, err
	}
	lease, err := store.Lease()
	if err != nil {
		return nil, err
	}
	img, err := commit(ctx, lease, layers, base, changes, o, names)
	if err != nil {
		err = fmt.Errorf("commit: %w", err)
	}
	return img, lease.End(err)
}

func commit(
	ctx context.Context, lease *image.Lease, layers image.Layers, base *image.Image,
	changes io.Reader, o CommitOptions, names []image.Reference,
) (*image.Image, error) {
	d := draft{lease: lease, layers: layers, created: o.Created}
	if err := d.from(base); err != nil {
		return nil, err
	}
	buffered := bufio.NewReaderSize(changes, 64<<10)
	empty, err := isEmpty(buffered)
	if err != nil {
		return nil, err
	}
	if !empty {
		if err := d.add(ctx, buffered); err != nil {
			return nil, err
		}
	}
	if o.Author != "" {
		d.config.Author = o.Author
	}
	if o.Change != nil {
		if err := o.Change(&d.config); err != nil {
			return nil, err
		}
	}
	return d.finish(imagespec.History{
		Author: o.Author, Comment: o.Message, CreatedBy: o.CreatedBy, EmptyLayer: empty,
	}, names)
}

// from begins with what a base has.
func (d *draft) from(base *image.Image) error {
	if base == nil {
		return nil
	}
	base, err := d.lease.Find(base.ID)
	if err != nil {
		return err
	}
	d.config = base.Config
	d.config.RootFS.DiffIDs = slices.Clone(base.Config.RootFS.DiffIDs)
	d.config.History = slices.Clone(base.Config.History)
	for _, l := range base.Layers {
		l.MediaType = ingest.OCILayerType(l.MediaType) // the manifest will be OCI's
		d.manifest.Layers = append(d.manifest.Layers, l)
	}
	d.top, d.size = base.Top(), base.Size
	return nil
}

// isEmpty knows an archive without entries: two blocks of zeros.
func isEmpty(r *bufio.Reader) (bool, error) {
	head, err := r.Peek(1025)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return len(head) <= 1024 && len(bytes.Trim(head, "\x00")) == 0, nil
}

// Now is the time for what is made: the environment's SOURCE_DATE_EPOCH, in seconds since 1970,
// if it is set, so that the same input gives the same image whenever.
// See https://reproducible-builds.org/specs/source-date-epoch/.
func Now() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
