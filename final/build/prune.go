//go:build linux

package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"minidocker/final/engine"
	"minidocker/final/storage/tree"
)

// Prune forgets what builds have kept for the next: layers that no image needs, and what RUN's
// caches hold. It returns how many bytes that has freed. A cache that is in use stays.
func Prune(ctx context.Context, e *engine.Engine) (int64, error) {
	base, err := folder(e)
	if err != nil {
		return 0, err
	}
	store, err := e.ImageStore()
	if err != nil {
		return 0, err
	}
	before, err := sizes(e)
	if err != nil {
		return 0, err
	}
	if err := os.RemoveAll(filepath.Join(base, "sums")); err != nil {
		return 0, err
	}
	freed, err := pruneCaches(filepath.Join(base, "caches"))
	if err != nil {
		return freed, err
	}
	if _, err := store.Forget(time.Now()); err != nil {
		return freed, err
	}
	if err := e.CollectImages(ctx); err != nil {
		return freed, err
	}
	after, err := sizes(e)
	return freed + max(before-after, 0), err
}

// sizes adds up the layers.
func sizes(e *engine.Engine) (int64, error) {
	driver, err := e.Storage()
	if err != nil {
		return 0, err
	}
	ids, err := e.Layers().List()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, id := range ids {
		if u, err := driver.Usage(id); err == nil { // it may have gone
			sum += u.Bytes
		}
	}
	return sum, nil
}

func pruneCaches(base string) (int64, error) {
	dirs, err := filepath.Glob(filepath.Join(base, "*"))
	if err != nil {
		return 0, err
	}
	var freed int64
	for _, dir := range dirs {
		lock, err := lockFolder(dir)
		if err != nil {
			continue // a build has it
		}
		bytes, _, err := tree.Usage(dir)
		if err == nil {
			err = os.RemoveAll(dir)
		}
		lock.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return freed, err
		}
		freed += bytes
	}
	return freed, nil
}
