//go:build linux

package network

import "testing"

// SetResolvedConf has another file stand for systemd-resolved's.
func SetResolvedConf(t *testing.T, path string) {
	saved := resolvedConf
	resolvedConf = path
	t.Cleanup(func() { resolvedConf = saved })
}
