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
	systems       = []string{"linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd"}
	architectures = []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le",
		"mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "x86_64", "aarch64", "armhf", "armel"}
)

// letters are those that a platform's words are made of.
const letters = "abcdefghijklmnopqrstuvwxyz0123456789._-"

// CheckPlatform says whether a text is OS, ARCH or OS/ARCH[/VARIANT]; ErrPlatform.
func CheckPlatform(text string) error {
	parts := strings.Split(text, "/")
	for i, part := range parts {
		if strings.Trim(strings.ToLower(part), letters) != "" || part == "" {
			what := []string{"OS", "architecture", "variant"}[min(i, 2)]
			return fmt.Errorf("%q is an invalid %s component of %q: %w", part, what, text, ErrPlatform)
		}
	}
	word := strings.ToLower(text)
	if len(parts) > 3 || len(parts) == 1 && !slices.Contains(systems, word) &&
		!slices.Contains(architectures, word) {
		return fmt.Errorf("%q: %w", text, ErrPlatform)
	}
	return nil
}
