//go:build linux

package image_test

import (
	"testing"
	"time"

	"minidocker/final/image"
)

func TestKeep(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	key, blob := "0123", put(t, l, []byte("layer"), "x").Digest.String()
	if err := s.Keep(key, "value", blob, "chain"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	collect := func() int {
		if err := s.Collect(image.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		return len(blobs(t, s))
	}
	if n := collect(); n != 1 {
		t.Errorf("what is kept is collected: %d blobs are left", n)
	}
	var value string
	if !s.Kept(key, &value) || value != "value" {
		t.Errorf("got %q", value)
	}
	if s.Kept("4567", &value) {
		t.Error("another key has a value")
	}
	if n, err := s.Forget(time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("%d values are forgotten that were used just now, %v", n, err)
	}
	if n, err := s.Forget(time.Now().Add(time.Hour)); n != 1 || err != nil || s.Kept(key, &value) {
		t.Errorf("%d values are forgotten, %v", n, err)
	}
	if n := collect(); n != 0 {
		t.Errorf("what is forgotten stays: %d blobs", n)
	}
}
