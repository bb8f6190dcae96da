//go:build linux

// Package images_test tests images with the real storage: final/image does not know it.
package images_test

import (
	"context"
	"io"
	"testing"

	"minidocker/final/image"
	"minidocker/final/storage"
)

// layers is the storage as package image wants it. All of its layers are images'.
type layers struct{ storage.Driver }

func (l layers) Have(id string) (int64, bool) {
	usage, err := l.Usage(id)
	return usage.Bytes, err == nil
}

func (l layers) Unpack(ctx context.Context, at image.Layer, archive io.Reader) (int64, error) {
	return l.Apply(ctx, at.ChainID, at.Parent, archive)
}

// open makes a store and a storage in dir.
func open(t testing.TB, dir string) (*image.Store, layers) {
	t.Helper()
	s, err := image.Open(dir + "/image")
	if err != nil {
		t.Fatal(err)
	}
	d, err := storage.Open(dir+"/storage", "overlay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) //nolint:errcheck // nothing is lost
	return s, layers{d}
}
