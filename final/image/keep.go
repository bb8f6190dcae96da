//go:build linux

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// kept is a file below "kept": what a build has made and wants to find again, an image's or not.
// What it holds is deleted by nobody until it is forgotten.
type kept struct {
	Holds []string        `json:"holds"` // digests of blobs and chain IDs
	Value json.RawMessage `json:"value"` // whatever the build wants to know
}

// Keep keeps a value under a key of hexadecimal digits, and with it blobs (by digest) and storage
// layers (by chain ID), until Forget. A lease must hold them now. It need not outlive a crash of
// the machine.
func (s *Store) Keep(key string, value any, holds ...string) error {
	text, err := json.Marshal(value)
	if err == nil {
		text, err = json.Marshal(kept{Holds: holds, Value: text})
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.path("kept"), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.path("kept"), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), s.path("kept", key))
}

// Kept reads the value of a key, and says whether there is one. What it held may be gone.
func (s *Store) Kept(key string, value any) bool {
	k, err := readKept(s.path("kept", key))
	if err != nil || json.Unmarshal(k.Value, value) != nil {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(s.path("kept", key), now, now) // when it was used last, for Forget
	return true
}

func readKept(path string) (*kept, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k := &kept{}
	if err := json.Unmarshal(text, k); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return k, nil
}

// Forget forgets what has not been used since then, and says how many values that were. What they
// held goes with the next Collect, unless somebody else needs it.
func (s *Store) Forget(before time.Time) (int, error) {
	entries, err := os.ReadDir(s.path("kept"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.ModTime().After(before) {
			continue // another process forgets as well
		}
		if err := os.Remove(s.path("kept", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		n++
	}
	return n, nil
}

// keptHolds adds what all values hold to the names. One that cannot be read holds nothing.
func (s *Store) keptHolds(names map[string]bool) error {
	entries, err := os.ReadDir(s.path("kept"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if k, err := readKept(filepath.Join(s.path("kept"), e.Name())); err == nil {
			for _, name := range k.Holds {
				names[name] = true
			}
		}
	}
	return nil
}
