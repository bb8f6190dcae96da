//go:build linux

package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minidocker/final/engine"
)

// folder is where builds work, and keep what RUN's caches have in them.
func folder(e *engine.Engine) (string, error) {
	store, err := e.ImageStore()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(store.Dir()), "build"), nil
}

// newTemp makes a folder below base that release deletes. It is locked meanwhile (flock(2)): those
// of processes that were killed are not, and are deleted here.
func newTemp(base string) (dir string, release func(), err error) {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", nil, err
	}
	old, err := filepath.Glob(filepath.Join(base, "tmp-*"))
	if err != nil {
		return "", nil, err
	}
	for _, path := range old {
		if lock, err := lockFolder(path); err == nil {
			os.RemoveAll(path)
			lock.Close()
		}
	}
	for {
		if dir, err = os.MkdirTemp(base, "tmp-"); err != nil {
			return "", nil, err
		}
		lock, err := lockFolder(dir)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
			continue // another process has taken it for a leftover
		}
		if err != nil {
			return "", nil, err
		}
		if _, err := os.Lstat(dir); err != nil {
			lock.Close()
			continue
		}
		return dir, func() { os.RemoveAll(dir); lock.Close() }, nil
	}
}

func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}

// tempDir makes a folder that goes with the build.
func (b *builder) tempDir() (string, error) {
	dir, release, err := newTemp(b.folder)
	if err == nil {
		b.atEnd(release)
	}
	return dir, err
}

// isURL says whether a source is on the web.
func isURL(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}
