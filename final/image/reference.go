package image

import (
	"errors"
	"fmt"
	"strings"
)

// Reference is an image's name: where it is, and which of those that are there.
//
//	docker.io/library/busybox:1.36@sha256:3fbc…
//	└ Domain  └ Path          └ Tag └ Digest
//
// Docker leaves out what everybody knows: "busybox" is docker.io/library/busybox:latest. The
// rules are those of github.com/distribution/reference, which its tests compare with; that one
// compiles regular expressions when a program starts, for a millisecond.
type Reference struct {
	Domain string // the registry's host, and perhaps a port
	Path   string // of the repository there
	Tag    string // "" if there is none
	Digest string // "sha256:…" of the manifest or index, "" if there is none
}

// defaultDomain is where the images are that are named without a registry.
const defaultDomain = "docker.io"

// ErrReference says that a text is no name of an image.
var ErrReference = errors.New("invalid reference format")

// ParseReference reads a name as users write it. The tag is "" if there is none: see WithTag.
func ParseReference(name string) (Reference, error) {
	r, err := parseReference(name)
	if err != nil {
		return r, fmt.Errorf("image name %q: %w", name, err)
	}
	return r, nil
}

func parseReference(name string) (Reference, error) {
	if isHex(name, 64) {
		return Reference{}, fmt.Errorf("%w: 64 hexadecimal digits are an image's ID", ErrReference)
	}
	domain, rest := splitDomain(name)
	// After the last slash a colon begins the tag: before it, a port was possible.
	rest, digest, hasDigest := strings.Cut(rest, "@")
	path, tag, hasTag := strings.Cut(rest, ":")
	r := Reference{Domain: domain, Path: path, Tag: tag, Digest: digest}
	switch {
	case path != strings.ToLower(path):
		return r, fmt.Errorf("%w: repository name must be lowercase", ErrReference)
	case !isDomain(domain) || !isPath(path):
		return r, ErrReference
	case hasTag && !isTag(tag):
		return r, fmt.Errorf("%w: tag %q: want at most 128 letters, digits and _ . -",
			ErrReference, tag)
	case hasDigest && CheckDigest(digest) != nil:
		return r, fmt.Errorf("%w: %w", ErrReference, CheckDigest(digest))
	case len(path) > 255:
		return r, fmt.Errorf("%w: repository name must not be more than 255 characters",
			ErrReference)
	}
	return r, nil
}

// splitDomain takes the registry off the front. A first word is one if it could be no
// repository's: it has a dot, a port or a capital letter, or is localhost.
func splitDomain(name string) (domain, rest string) {
	first, after, found := strings.Cut(name, "/")
	switch {
	case !found:
		domain, rest = defaultDomain, name
	case first == "index.docker.io":
		domain, rest = defaultDomain, after
	case first == "localhost", strings.ContainsAny(first, ".:"), strings.ToLower(first) != first:
		domain, rest = first, after
	default:
		domain, rest = defaultDomain, name
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	return domain, rest
}

// Name is the repository: "docker.io/library/busybox".
func (r Reference) Name() string { return r.Domain + "/" + r.Path }

// String is the whole name: "docker.io/library/busybox:latest".
func (r Reference) String() string { return r.Name() + r.suffix() }

// Familiar is the name as Docker prints it: "busybox:latest".
func (r Reference) Familiar() string { return r.FamiliarName() + r.suffix() }

// FamiliarName is the repository as Docker prints it: "busybox".
func (r Reference) FamiliarName() string {
	if r.Domain != defaultDomain {
		return r.Name()
	}
	if short, ok := strings.CutPrefix(r.Path, "library/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return r.Path
}

func (r Reference) suffix() string {
	var s string
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// WithTag has the tag "latest" if there is neither tag nor digest.
func (r Reference) WithTag() Reference {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r
}

// WithDigest names one manifest in the same repository, whatever its tags.
func (r Reference) WithDigest(digest string) Reference {
	return Reference{Domain: r.Domain, Path: r.Path, Digest: digest}
}

// key is the name under which references.json has it: of a tag and a digest, the digest counts.
func (r Reference) key() string {
	if r.Digest != "" {
		r.Tag = ""
	}
	return r.WithTag().String()
}

// isDomain knows a host's name or address, and perhaps a port.
func isDomain(s string) bool {
	if strings.HasPrefix(s, "[") {
		address, after, ok := strings.Cut(s[1:], "]")
		return ok && address != "" && strings.Trim(address, "0123456789abcdefABCDEF:") == "" &&
			(after == "" || after[0] == ':' && isDigits(after[1:]))
	}
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && !isDigits(port) {
		return false
	}
	for part := range strings.SplitSeq(host, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' || !each(part, isHostByte) {
			return false
		}
	}
	return true
}

// isPath knows a repository's path: words of lower-case letters and digits, between them a
// slash, a dot, one or two underscores, or any number of dashes.
func isPath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		separator := "x" // which may stand neither first nor last, as if it were a wrong one
		for i := range len(part) {
			if isLowerByte(part[i]) {
				if !isSeparator(separator) {
					return false
				}
				separator = ""
				continue
			}
			separator += part[i : i+1]
			if i == 0 {
				return false
			}
		}
		if separator != "" {
			return false
		}
	}
	return true
}

func isSeparator(s string) bool {
	return s == "" || s == "x" || s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

func isTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' && each(s, func(c byte) bool {
		return isHostByte(c) || c == '_' || c == '.'
	})
}

func isDigits(s string) bool {
	return s != "" && each(s, func(c byte) bool { return '0' <= c && c <= '9' })
}

func isLowerByte(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isHostByte(c byte) bool { return isLowerByte(c) || 'A' <= c && c <= 'Z' || c == '-' }

func each(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

// isHex says whether s is of hexadecimal digits, n of them.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// CheckDigest says whether a text is a digest that the store can have: of SHA-256.
func CheckDigest(digest string) error {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || !isHex(hex, 64) {
		return fmt.Errorf("%q is no digest: want sha256: and 64 hexadecimal digits", digest)
	}
	return nil
}
