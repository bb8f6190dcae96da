//go:build linux

package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrPlatform says that a text is no platform.
var ErrPlatform = errors.New("unknown operating system or architecture")

// The words that may stand alone for a platform: Go's, which the OCI specification takes.
var (
	systems       = []string{"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd"}
	architectures = []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le",
		"mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "x86_64", "aarch64", "armhf", "armel"}
)

// CheckPlatform says whether a text is OS, ARCH or OS/ARCH[/VARIANT]; ErrPlatform.
func CheckPlatform(text string) error {
	parts := strings.Split(text, "/")
	wrong := len(parts) > 3
	for _, part := range parts {
		wrong = wrong || part == "" || strings.ContainsFunc(part, func(c rune) bool {
			return !strings.ContainsRune("._-", c) && (c < '0' || c > '9') && (c < 'a' || c > 'z') &&
				(c < 'A' || c > 'Z')
		})
	}
	if len(parts) == 1 {
		word := strings.ToLower(text)
		wrong = wrong || !slices.Contains(systems, word) && !slices.Contains(architectures, word)
	}
	if wrong {
		return fmt.Errorf("%q: %w", text, ErrPlatform)
	}
	return nil
}
