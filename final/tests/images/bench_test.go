//go:build linux

package images_test

import (
	"os"
	"testing"

	"minidocker/final/image/archive"
)

// BenchmarkImport imports the archive that IMAGE_TAR names.
func BenchmarkImport(b *testing.B) {
	file := os.Getenv("IMAGE_TAR")
	if file == "" {
		b.Skip("set IMAGE_TAR to an archive of a root file system")
	}
	for b.Loop() {
		b.StopTimer()
		dir, err := os.MkdirTemp("", "bench-")
		if err != nil {
			b.Fatal(err)
		}
		s, l := open(b, dir)
		f, err := os.Open(file)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := archive.Import(b.Context(), s, l, f, archive.ImportOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		f.Close()
		// Not deleted before the end: ext4 passes over inodes that were deleted just now, slowly.
		b.Cleanup(func() { os.RemoveAll(dir) })
		b.StartTimer()
	}
}
