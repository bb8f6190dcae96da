//go:build linux

package cli

import (
	"strings"
	"testing"
)

// FuzzCreate gives words to create, which has the flags of run. Whatever they are, they become a request or an error.
func FuzzCreate(f *testing.F) {
	for _, words := range []string{
		"-it\nbusybox\nsh", "-p\n[::1]:80-90:80-90/udp\nbusybox", "--mount\ntype=bind,\"src=a\",ro\nbusybox", "-v\n:\nbusybox",
		"--network\nname=a,ip=1\nbusybox", "--device\na:b:c\nbusybox", "--cpus\n.\nbusybox", "--ulimit\na=1:\nbusybox",
		"--add-host\na=[\nbusybox", "--restart\n:\nbusybox", "-e=\nbusybox", "--\n", "-é\n", "--device-cgroup-rule\na *: r\nbusybox",
	} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, words string) {
		if strings.Contains(words, "cidfile") { // it would make one
			return
		}
		s := newSession().run(append([]string{"create"}, strings.Split(words, "\n")...)...)
		if s.status != 0 && s.err.Len() == 0 || s.status == 0 && s.fake.created == nil && s.out.Len() == 0 {
			t.Errorf("status %d, %+v, %q", s.status, s.fake.created, s.err.String())
		}
	})
}
