//go:build linux && !amd64

package spawn

// HasTrampoline says whether ExecProtected is there.
const HasTrampoline = false

// elf returns nothing: this architecture has no trampoline yet.
func elf(uint32) []byte { return nil }
