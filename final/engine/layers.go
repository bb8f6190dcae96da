//go:build linux

package engine

import (
	"context"
	"io"
	"slices"

	"minidocker/final/image"
	"minidocker/final/storage"
)

// imageLayers is the storage as package image wants it: without the containers' own layers.
type imageLayers struct {
	storage.Driver
	e *Engine
}

// Layers is the storage as package image wants it. The engine must be open.
func (e *Engine) Layers() image.Layers { return imageLayers{e.layers, e} }

// Have says whether there is a layer, and how many bytes its files have.
func (l imageLayers) Have(id string) (int64, bool) {
	usage, err := l.Usage(id)
	return usage.Bytes, err == nil
}

// Unpack makes a layer.
func (l imageLayers) Unpack(ctx context.Context, at image.Layer, archive io.Reader) (int64, error) {
	return l.Apply(ctx, at.ChainID, at.Parent, archive)
}

// List are the layers that are no container's. A container's layer has its ID.
func (l imageLayers) List() ([]string, error) {
	all, err := l.Driver.List()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(id string) bool { return exists(l.e.dir(id)) }), nil
}
