//go:build linux

package initproc

import (
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		options string
		want    mountOptions
	}{
		{"ro nosuid", mountOptions{flags: unix.MS_RDONLY | unix.MS_NOSUID}},
		{"ro rw", mountOptions{clear: unix.MS_RDONLY}},
		{"rw ro", mountOptions{flags: unix.MS_RDONLY}},
		{"rbind rslave", mountOptions{flags: unix.MS_BIND | unix.MS_REC,
			propagation: []uintptr{unix.MS_SLAVE | unix.MS_REC}}},
		{"size=1k mode=700", mountOptions{data: "size=1k,mode=700"}},
		{"defaults", mountOptions{}},
		{"rro rrw", mountOptions{unset: unix.MOUNT_ATTR_RDONLY}},
		{"rnoexec rro", mountOptions{set: unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_RDONLY}},
		{"rnoatime", mountOptions{set: unix.MOUNT_ATTR_NOATIME, unset: unix.MOUNT_ATTR__ATIME}},
		{"rnoatime rstrictatime", mountOptions{set: unix.MOUNT_ATTR_STRICTATIME, unset: unix.MOUNT_ATTR__ATIME}},
		{"tmpcopyup", mountOptions{copyUp: true}},
		{"idmap", mountOptions{idmap: true}},
		{"ridmap", mountOptions{idmap: true, ridmap: true}},
	} {
		got, err := parseOptions(strings.Fields(c.options))
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.options, *got, err, c.want)
		}
	}
	if _, err := parseOptions([]string{"ro", ""}); err == nil {
		t.Error("an empty option is accepted")
	}
	// Every word that features names is understood.
	for _, word := range MountOptions() {
		if o, err := parseOptions([]string{word}); err != nil || o.data != "" {
			t.Errorf("%s: %+v, %v", word, o, err)
		}
	}
}
