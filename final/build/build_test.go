//go:build linux

package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"minidocker/final/build"
)

// files makes files of their names and contents in a new folder. A name that ends with a slash is a
// folder's; a content that begins with -> is a link's target.
func files(t *testing.T, all ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(all); i += 2 {
		name, content := filepath.Join(dir, all[i]), all[i+1]
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, name)
		} else if strings.HasSuffix(all[i], "/") {
			err = os.MkdirAll(name, 0o755)
		} else {
			err = os.WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCopy(t *testing.T) {
	context := files(t, "a", "A", "b", "B", "d/x", "X", "d/e/y", "Y", "link", "->d", "flink", "->a",
		"out", "->../../../../../etc/passwd", ".dockerignore", "# no\n*.log\n!keep.log\nign\n!ign/in/this\n",
		"z.log", "", "keep.log", "", "ign/no", "", "ign/in/this", "T", "ign/in/not", "")
	lower := files(t, "etc/passwd", "web:x:33:44::/:/bin/sh\n", "etc/group", "web:x:44:\nadm:x:55:\n",
		"srv/old", "", "ln", "->srv", "dangling", "->srv/new/place", "loop", "->loop", "f", "file")
	tests := []struct {
		line string
		want string // names, or the error's text behind "!"
	}{
		{"COPY a /", "a"},
		{"COPY a /new", "new"},
		{"COPY a /new/", "new/ new/a"},
		{"COPY a b /n/m/", "n/ n/m/ n/m/a n/m/b"},
		{"COPY a .", "work/ work/a"},
		{"COPY a rel", "work/ work/rel"},
		{"COPY d /d2", "d2/ d2/e/ d2/e/y d2/x"},
		{"COPY d /srv", "srv/ srv/e/ srv/e/y srv/x"},
		{"COPY d /", "e/ e/y x"},
		{"COPY a /srv", "srv/ srv/a"},
		{"COPY a /ln/", "srv/ srv/a"},
		{"COPY a /dangling/", "srv/ srv/new/ srv/new/place/ srv/new/place/a"},
		{"COPY a /loop/", "!too many levels"},
		{"COPY link /d2/", "d2/ d2/e/ d2/e/y d2/x"},
		{"COPY flink /x", "x"},
		{"COPY out /x", "!\"/out\": not found"},
		{"COPY ../../etc/passwd /x", "!\"/etc/passwd\": not found"},
		{"COPY nix /x", "!\"/nix\": not found"},
		{"COPY [ab] /g/", "g/ g/a g/b"},
		{"COPY d/*/y /g/", "g/ g/y"},
		{"COPY *.log /g/", "g/ g/keep.log"},
		{"COPY z.log /g/", "!not found"},
		{"COPY ign/no /g/", "!not found"},
		{"COPY ign /g/", "g/ g/in/ g/in/this"},
		{"COPY --exclude=e d /d2", "d2/ d2/x"},
		{"COPY --exclude=**/y d /d2", "d2/ d2/e/ d2/x"},
		{"COPY --parents d/e/y /p/", "p/ p/d/ p/d/e/ p/d/e/y"},
		{"COPY --parents d/./e/y /p/", "p/ p/e/ p/e/y"},
		{"COPY d /f", "!cannot copy to non-directory: /f"},
		{"COPY a /f/x", "!cannot copy to non-directory: /f"},
		{"COPY --link a /ln/", "ln/ ln/a"},
	}
	for _, test := range tests {
		got, err := build.Layer(t, context, lower, test.line)
		if want, ok := strings.CutPrefix(test.want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want an error with %q", test.line, err, want)
			}
			continue
		}
		names := strings.Join(slices.Sorted(maps.Keys(got)), " ")
		if err != nil || names != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.line, names, err, test.want)
		}
	}
}

func TestCopy_Attributes(t *testing.T) {
	context := files(t, "d/x", "X", "run", "#!")
	lower := files(t, "etc/passwd", "web:x:33:44::/:/bin/sh\n", "etc/group", "adm:x:55:\n", "srv/", "")
	for _, err := range []error{
		os.Chmod(filepath.Join(context, "d"), 0o750), syscall.Chmod(filepath.Join(context, "run"), 0o4755),
		syscall.Chmod(filepath.Join(lower, "srv"), 0o1777), os.Chown(filepath.Join(lower, "srv"), 7, 8),
		os.Chtimes(filepath.Join(context, "run"), time.Unix(5, 0), time.Unix(5, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	type attributes struct {
		mode     int64
		uid, gid int
	}
	tests := []struct {
		line, name string
		want       attributes
	}{
		{"COPY d /n", "n/", attributes{0o750, 0, 0}},
		{"COPY run /srv", "srv/run", attributes{0o4755, 0, 0}},
		{"COPY run /srv", "srv/", attributes{0o1777, 7, 8}},
		{"COPY --chown=web run /srv", "srv/run", attributes{0o4755, 33, 44}},
		{"COPY --chown=web run /srv", "srv/", attributes{0o1777, 7, 8}},
		{"COPY --chown=web run /new/", "new/", attributes{0o755, 33, 44}},
		{"COPY --chown=web:adm run /", "run", attributes{0o4755, 33, 55}},
		{"COPY --chown=9 run /", "run", attributes{0o4755, 9, 9}},
		{"COPY --chown=9:3 --chmod=600 run /", "run", attributes{0o600, 9, 3}},
		{"COPY --chmod=go-rx,u+w run /", "run", attributes{0o4700, 0, 0}},
		{"COPY --chmod=a=rX d /n", "n/x", attributes{0o444, 0, 0}},
		{"COPY --chmod=a=rX d /n", "n/", attributes{0o555, 0, 0}},
	}
	for _, test := range tests {
		all, err := build.Layer(t, context, lower, test.line)
		h := all[test.name]
		if err != nil || h == nil {
			t.Errorf("%s: %v, %v", test.line, all, err)
			continue
		}
		if got := (attributes{h.Mode, h.Uid, h.Gid}); got != test.want {
			t.Errorf("%s: %s is %+v, want %+v", test.line, test.name, got, test.want)
		}
	}
	all, err := build.Layer(t, context, lower, "COPY run /")
	if err != nil || !all["run"].ModTime.Equal(time.Unix(5, 0)) {
		t.Errorf("the file's time: %v, %v", all["run"], err)
	}
	for _, line := range []string{"COPY --chown=nobody run /", "COPY --chmod=9 run /", "COPY --chmod=z+r run /"} {
		if _, err := build.Layer(t, context, lower, line); err == nil {
			t.Errorf("%s is no error", line)
		}
	}
}

func TestCopy_Hostile(t *testing.T) {
	lower := files(t)
	whiteout := files(t, "d/.wh.x", "")
	if _, err := build.Layer(t, whiteout, lower, "COPY d /d"); err == nil {
		t.Error("a file of a whiteout's name is copied")
	}
	device := files(t, "d/ok", "")
	if err := syscall.Mknod(filepath.Join(device, "d/null"), syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	if _, err := build.Layer(t, device, lower, "COPY d /d"); err == nil ||
		!strings.Contains(err.Error(), "is a device") {
		t.Errorf("a device is copied: %v", err)
	}
	fifo := files(t, "d/ok", "")
	if err := syscall.Mkfifo(filepath.Join(fifo, "d/p"), 0o644); err != nil {
		t.Fatal(err)
	}
	if all, err := build.Layer(t, fifo, lower, "COPY d /d"); err != nil || all["d/p"] == nil {
		t.Errorf("a FIFO: %v, %v", all, err)
	}
	links := files(t, "d/a", "A")
	if err := os.Link(filepath.Join(links, "d/a"), filepath.Join(links, "d/b")); err != nil {
		t.Fatal(err)
	}
	if all, err := build.Layer(t, links, lower, "COPY d /n"); err != nil || all["n/b"].Linkname != "n/a" {
		t.Errorf("a hard link: %v, %v", all, err)
	}
}

// archive is a tar archive, compressed.
func archive(t *testing.T, headers ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		h.Mode = 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAdd(t *testing.T) {
	good := archive(t, tar.Header{Typeflag: tar.TypeDir, Name: "./"},
		tar.Header{Typeflag: tar.TypeReg, Name: "./a"}, tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"},
		tar.Header{Typeflag: tar.TypeReg, Name: "ln/c"})
	context := files(t, "a.tgz", good, "f.gz", "\x1f\x8bnot at all",
		"up.tgz", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "../up"}),
		"through.tgz", archive(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc"},
			tar.Header{Typeflag: tar.TypeReg, Name: "l/x"}),
		"link.tgz", archive(t, tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "../../etc/passwd"}),
		"wh.tgz", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: ".wh.etc"}))
	lower := files(t, "u/ln", "->/srv/deep")
	all, err := build.Layer(t, context, lower, "ADD a.tgz /u")
	names := strings.Join(slices.Sorted(maps.Keys(all)), " ")
	if want := "srv/ srv/deep/ srv/deep/c u/ u/a u/b"; err != nil || names != want || all["u/b"].Linkname != "u/a" {
		t.Errorf("an archive: got %q, %v, want %q", names, err, want)
	}
	for line, want := range map[string]string{"COPY a.tgz /u": "u/ u/a.tgz", "ADD f.gz /x": "x", "ADD --unpack=false a.tgz /x": "x"} {
		all, err := build.Layer(t, context, lower, line)
		if names := strings.Join(slices.Sorted(maps.Keys(all)), " "); err != nil || names != want {
			t.Errorf("%s: got %q, %v, want %q", line, names, err, want)
		}
	}
	for _, name := range []string{"up", "through", "link", "wh"} {
		if all, err := build.Layer(t, context, lower, "ADD "+name+".tgz /u"); err == nil {
			t.Errorf("%s.tgz is no error but %v", name, slices.Sorted(maps.Keys(all)))
		}
	}
}

func TestKey_Copy(t *testing.T) {
	context := files(t, "d/a", "A", "d/l", "->a", ".dockerignore", "d/log\n")
	at := func(name string) string { return filepath.Join(context, name) }
	key := func() string {
		k, err := build.Key(t, context, "COPY d /x")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write := func(name, content string) func() error {
		return func() error { return os.WriteFile(at(name), []byte(content), 0o644) }
	}
	before := key()
	tests := []struct {
		name   string
		change func() error
		same   bool
	}{
		{"a time", func() error { return os.Chtimes(at("d/a"), time.Unix(1, 0), time.Unix(1, 0)) }, true},
		{"an owner", func() error { return os.Chown(at("d/a"), 5, 5) }, true},
		{"what is ignored", write("d/log", "x"), true},
		{"what is elsewhere", write("b", "x"), true},
		{"a content of the same length", write("d/a", "B"), false},
		{"a mode", func() error { return os.Chmod(at("d/a"), 0o600) }, false},
		{"a new file", write("d/b", ""), false},
		{"a name", func() error { return os.Rename(at("d/b"), at("d/c")) }, false},
		{"a link's target", func() error { return errors.Join(os.Remove(at("d/l")), os.Symlink("c", at("d/l"))) }, false},
		{"a folder", func() error { return os.Mkdir(at("d/e"), 0o755) }, false},
		{"a file in the place of a folder", func() error { return errors.Join(os.Remove(at("d/e")), write("d/e", "")()) }, false},
	}
	for _, test := range tests {
		if err := test.change(); err != nil {
			t.Fatal(err)
		}
		if after := key(); (after == before) != test.same {
			t.Errorf("%s: the key is the same: %v, want %v", test.name, after == before, test.same)
		} else {
			before = after
		}
	}
	for _, line := range []string{"COPY d /y", "COPY d /x/", "COPY --chown=1 d /x", "COPY --chmod=1 d /x", "ADD d /x", "COPY --link d /x"} {
		if k, err := build.Key(t, context, line); err != nil || k == before {
			t.Errorf("%s has the same key as COPY d /x, or %v", line, err)
		}
	}
}

func TestKey_Run(t *testing.T) {
	seen := map[string]int{}
	for i, k := range []string{
		build.RunKey([]string{"a b"}, nil, "", "", ""),
		build.RunKey([]string{"a", "b"}, nil, "", "", ""),
		build.RunKey([]string{"a"}, []string{"b"}, "", "", ""),
		build.RunKey([]string{"a"}, []string{"b=c"}, "", "", ""),
		build.RunKey([]string{"a"}, nil, "b", "", ""),
		build.RunKey([]string{"a"}, nil, "", "b", ""),
		build.RunKey([]string{"a"}, nil, "", "", "b"),
	} {
		if j, ok := seen[k]; ok {
			t.Errorf("%d and %d have the same key", i, j)
		}
		seen[k] = i
	}
}

func TestParse_Errors(t *testing.T) {
	tests := []struct{ text, target, want, line string }{
		{"", "", "cannot be empty", ""},
		{"# nothing\n", "", "no instructions|no stages", ""},
		{"RUN x\n", "", "no build stage", "Dockerfile:1"},
		{"FROM a\nNIX b\n", "", "unknown instruction: NIX", "Dockerfile:2"},
		{"FROM a\n\nCOPY x\n", "", "requires at least two arguments", "Dockerfile:3"},
		{"FROM a AS x\nFROM b AS x\n", "", "duplicate name x", "Dockerfile:2"},
		{"FROM $nix\n", "", "should not be blank", "Dockerfile:1"},
		{"FROM a\n", "nix", "target stage \"nix\" could not be found", ""},
		{"FROM a AS x\nCOPY --from=y / /\nFROM a AS y\nCOPY --from=x / /\n", "", "circular dependency", "Dockerfile:"},
		{"FROM a\nRUN --mount=type=nix x\n", "", "", "Dockerfile:2"},
		{"FROM a AS scratch\n", "", "reserved", "Dockerfile:1"},
	}
	for _, test := range tests {
		err := build.Parse([]byte(test.text), test.target)
		if test.want == "" {
			continue
		}
		if err == nil || !slices.ContainsFunc(strings.Split(test.want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
			t.Errorf("%q: got %v, want %q", test.text, err, test.want)
			continue
		}
		wrong := (*build.Error)(nil)
		if errors.As(err, &wrong); test.line != "" && (wrong == nil || !strings.HasPrefix(wrong.Excerpt, test.line)) {
			t.Errorf("%q: got the excerpt %v, want line %s", test.text, wrong, test.line)
		}
	}
}

func FuzzDockerfile(f *testing.F) {
	for _, text := range []string{
		"FROM busybox\nRUN echo a\nCMD [\"a\"]\n",
		"ARG A=b\nFROM --platform=$BUILDPLATFORM x:$A AS y\nARG A\nENV B=${A:-c} C=${B#d}\nFROM y\n",
		"# escape=`\nFROM a\nRUN <<E <<F cat\na\nE\nb\nF\nCOPY --from=0 --chown=1:2 --chmod=u=r a b c/\n",
		"FROM scratch\nHEALTHCHECK --interval=1s CMD x\nONBUILD RUN x\nSHELL [\"a\"]\nEXPOSE 1-3/udp\n",
		"FROM a\nRUN --mount=type=cache,target=/x,sharing=locked --network=none x\nVOLUME /a\nSTOPSIGNAL 9\n",
		"FROM a AS b\nCOPY --from=c x y\nFROM b AS c\nCOPY <<E /x\n$A\nE\nLABEL a=b \"c d\"=e\nUSER a\nWORKDIR b\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		if build.Parse(text, "") == nil {
			_ = build.Configure(text)
		}
	})
}

func TestSums(t *testing.T) {
	dir := files(t, "a", "A", "b", "B", "d/c", "C")
	name := filepath.Join(dir, "a")
	at := time.Unix(1000, 0)
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
	if first, second, read := build.Sums(t, dir, func() {}); first != second || read != 0 {
		t.Errorf("nothing has changed: the digests are the same: %v; %d files read", first == second, read)
	}
	first, second, _ := build.Sums(t, dir, func() {
		if err := errors.Join(os.WriteFile(name, []byte("Z"), 0o644), os.Chtimes(name, at, at)); err != nil {
			t.Fatal(err)
		}
	})
	if first == second {
		t.Error("a file of the same size and time, and another content, is not seen")
	}
}
