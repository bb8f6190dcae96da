//go:build linux

package storagetest

import (
	"slices"
	"strings"
	"testing"

	"minidocker/final/storage/archive/archivetest"
)

// The words of which the tests' archives are made.
type entry = archivetest.Entry

var (
	stamp    = archivetest.Stamp
	file     = archivetest.File
	folder   = archivetest.Folder
	link     = archivetest.Link
	symlink  = archivetest.Symlink
	whiteout = archivetest.Whiteout
	opaque   = archivetest.Opaque
	layer    = archivetest.Layer
	look     = archivetest.Look
)

// short leaves of each line the path and what follows mode, owner and time.
func short(lines []string) []string {
	var all []string
	for _, line := range lines {
		words := strings.Fields(line)
		keep := words[0]
		if len(words) > 4 {
			keep += " " + strings.Join(words[4:], " ")
		} else if len(words) == 3 {
			keep += "/"
		}
		all = append(all, keep)
	}
	return all
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%s: got\n\t%s\nwant\n\t%s", what,
		strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
}
