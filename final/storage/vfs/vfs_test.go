//go:build linux

package vfs_test

import (
	"testing"

	"minidocker/final/storage/driver"
	"minidocker/final/storage/storagetest"
	"minidocker/final/storage/vfs"
)

func open(dir string) (driver.Driver, error) { return vfs.Open(dir) }

func TestMain(m *testing.M) { storagetest.Main(m, open) }

func TestDriver(t *testing.T) { storagetest.Suite{Open: open, Many: 20}.Run(t) }
