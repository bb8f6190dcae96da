//go:build linux

package overlay_test

import (
	"testing"

	"minidocker/final/storage/driver"
	"minidocker/final/storage/overlay"
	"minidocker/final/storage/storagetest"
)

func open(dir string) (driver.Driver, error) { return overlay.Open(dir) }

func TestMain(m *testing.M) { storagetest.Main(m, open) }

func TestDriver(t *testing.T) { storagetest.Suite{Open: open}.Run(t) }

func BenchmarkCreate(b *testing.B) {
	d, err := open(b.TempDir() + "/driver")
	if err != nil {
		b.Fatal(err)
	}
	if err := d.Create("base", "", driver.Options{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := d.Create("c", "base", driver.Options{}); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Mounts("c", driver.MountOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := d.Remove("c"); err != nil {
			b.Fatal(err)
		}
	}
}
