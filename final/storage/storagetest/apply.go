//go:build linux

package storagetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/storage/driver"
)

// capability is what "setcap cap_net_raw+ep" writes: struct vfs_cap_data.
const capability = "\x01\x00\x00\x02" + "\x00\x20\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00"

func testApply(t *testing.T, b *bench) {
	long := strings.Repeat("long-name/", 30) + strings.Repeat("x", 255)
	big := strings.Repeat("0123456789abcdef", 200_000) // 3.2 MB, more than one buffer
	hole := "begin" + strings.Repeat("\x00", 5_000_000) + "end"
	n := b.apply("base", "",
		folder("bin"),
		entry{Name: "bin/su", Data: "#!", Mode: 0o4755},
		entry{Name: "bin/ping", Data: "elf", Mode: 0o755,
			Xattrs: map[string]string{"security.capability": capability}},
		entry{Name: "etc/", Mode: 0o700, UID: 10, GID: 20},
		entry{Name: "etc/shadow", Data: "secret", Mode: 0o640, UID: 1, GID: 42},
		entry{Name: "etc/date", Time: time.Unix(-100, 5)},
		entry{Name: "group/", Mode: 0o2775, GID: 50},
		file("group/of-root", ""),
		entry{Name: "tmp/", Mode: 0o1777},
		link("bin/su2", "bin/su"),
		symlink("sh", "bin/su"),
		entry{Name: "lib", Kind: tar.TypeSymlink, Link: "/usr/lib", UID: 7, GID: 8},
		entry{Name: "pipe", Kind: tar.TypeFifo, Mode: 0o622},
		entry{Name: "null", Kind: tar.TypeChar, Mode: 0o666, Device: [2]int64{1, 3}},
		entry{Name: "loop", Kind: tar.TypeBlock, Mode: 0o660, Device: [2]int64{7, 300}, GID: 6},
		file("no/entry/for/the/folders", "x"),
		file(long, "deep"),
		file("no-utf8-\xff\xfe", "bytes"),
		file("big", big),
		file("hole", hole),
		entry{Name: "user", Xattrs: map[string]string{"user.a": "1", "user.b": "\x00\xff"}},
		entry{Name: "tagged/", Xattrs: map[string]string{"user.dir": "yes"}},
	)
	want := []string{
		"/big 100644 0:0 1600000000.123456789 (3200000 bytes, 7e8cd2d4cfa1e7a5e6b1d2",
		"/bin 40755 0:0",
		"/bin/ping 100755 0:0 security.capability=" + fmt.Sprintf("%q", capability) +
			` 1600000000.123456789 "elf"`,
		`/bin/su 104755 0:0 1600000000.123456789 "#!"`,
		`/bin/su2 104755 0:0 1600000000.123456789 "#!" = /bin/su`,
		"/etc 40700 10:20",
		`/etc/date 100644 0:0 -100.000000005 ""`,
		`/etc/shadow 100640 1:42 1600000000.123456789 "secret"`,
		"/group 42775 0:50",
		`/group/of-root 100644 0:0 1600000000.123456789 ""`,
		"/hole 100644 0:0 1600000000.123456789 (5000008 bytes, ",
		"/lib 120777 7:8 1600000000.123456789 -> /usr/lib",
	}
	got := b.look("base")
	for i, line := range want {
		if i >= len(got) || !strings.HasPrefix(strings.ReplaceAll(got[i], " (", " ("), cutDigest(line)) {
			t.Errorf("got\n\t%s\nwant line %d\n\t%s", strings.Join(got, "\n\t"), i, line)
			break
		}
	}
	rest := strings.Join(short(got[len(want):]), "\n")
	for _, line := range []string{
		"/loop 7/300", "/no/entry/for/the/folders \"x\"", "/no-utf8-\xff\xfe \"bytes\"", "/null 1/3",
		"/sh -> bin/su", "/" + long + " \"deep\"",
	} {
		if !strings.Contains(rest, line) {
			t.Errorf("%q is not in\n%s", line, rest)
		}
	}
	all := strings.Join(got, "\n")
	for _, line := range []string{
		"/pipe 10622 0:0", "/tmp 41777 0:0", "/loop 60660 0:6", "/null 20666 0:0",
		`/user 100644 0:0 user.a="1" user.b="\x00\xff"`, `/tagged 40755 0:0 user.dir="yes"`,
	} {
		if !strings.Contains(all, line) {
			t.Errorf("%q is not in\n%s", line, all)
		}
	}
	b.with("base", driver.MountOptions{ReadOnly: true}, func(_ *os.File, path string) {
		var st unix.Stat_t
		must(t, unix.Stat(path+"/hole", &st))
		if st.Blocks*512 > 1<<20 {
			t.Errorf("a file of zeros takes %d bytes of the disk", st.Blocks*512)
		}
		must(t, unix.Stat(path+"/etc", &st))
		if st.Mtim.Sec != stamp.Unix() || st.Mtim.Nsec != int64(stamp.Nanosecond()) {
			t.Errorf("time of a folder: %v, want %v", st.Mtim, stamp)
		}
	})
	size := int64(2+3+6+1+4+5) + int64(len(big)+len(hole))
	if n != size {
		t.Errorf("apply returned %d bytes of content, want %d", n, size)
	}
}

func cutDigest(line string) string {
	before, _, _ := strings.Cut(line, " bytes, ")
	return before
}

func testAllOrNothing(t *testing.T, b *bench) {
	b.apply("base", "", file("a", "1"))
	whole := layer(t, file("x", "1"), file("big", strings.Repeat("x", 3<<20)), file("y", "2"))
	for _, size := range []int{1, 300, 1300, 5000, 1 << 20, len(whole) - 1540, len(whole) - 1024} {
		_, err := b.Apply(context.Background(), "broken", "base", bytes.NewReader(whole[:size]))
		if size == len(whole)-1024 { // without its end, as some write them: tolerated
			must(t, err, b.Remove("broken"))
			continue
		}
		if err == nil {
			t.Fatalf("the first %d bytes of an archive were a layer", size)
		}
		if b.Exists("broken") {
			t.Errorf("after %v, the layer is there", err)
		}
		b.noLeftovers()
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &slow{data: whole, after: 1 << 20, do: cancel}
	if _, err := b.Apply(ctx, "broken", "base", r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if b.Exists("broken") {
		t.Error("after a cancelled Apply, the layer is there")
	}
	b.noLeftovers()
	b.apply("broken", "base", file("x", "now it works"))
}

// slow calls do after so many bytes.
type slow struct {
	data  []byte
	after int
	do    func()
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 10_000)], s.data)
	s.data = s.data[n:]
	if s.after -= n; s.after < 0 && s.do != nil {
		s.do()
		s.do = nil
	}
	return n, nil
}
