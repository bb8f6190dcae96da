//go:build linux

package fuse_test

import (
	"os"
	"testing"

	"minidocker/final/storage/driver"
	"minidocker/final/storage/fuse"
	"minidocker/final/storage/storagetest"
	"minidocker/final/storage/union"
)

// serve makes the test program the server as well.
const serve = "union-serve"

func open(dir string) (driver.Driver, error) { return fuse.Open(dir, os.Args[0], serve) }

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serve {
		if union.Main() != nil {
			os.Exit(1)
		}
		return
	}
	storagetest.Main(m, open)
}

func TestDriver(t *testing.T) { storagetest.Suite{Open: open}.Run(t) }

func TestWorks(t *testing.T) {
	if err := fuse.Works(t.TempDir(), os.Args[0], serve); err != nil {
		t.Error(err)
	}
	if err := fuse.Works(t.TempDir(), "/nosuch"); err == nil {
		t.Error("without a server: no error")
	}
}
