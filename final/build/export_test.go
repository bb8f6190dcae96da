//go:build linux

package build

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

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"golang.org/x/sys/unix"
)

// Layer is the archive that a COPY or an ADD makes of a context, over a folder of lower files.
func Layer(t testing.TB, context, lower, line string) (map[string]*tar.Header, error) {
	t.Helper()
	c := commandOf(t, line)
	folder, err := OpenContext(context)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := folder.ReadIgnore(""); err != nil {
		return nil, err
	}
	c.s = &stage{b: testBuilder(t, folder)}
	c.at = &state{}
	c.dest = absolute("/work", c.DestPath)
	defer c.end()
	if err := c.collect(); err != nil {
		return nil, err
	}
	root, err := os.Open(lower)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var out bytes.Buffer
	l := &layout{b: c.s.b, root: root, tar: tar.NewWriter(&out), made: map[string]uint32{},
		keepLower: !c.link}
	if l.mode, err = parseMode(c.chmod); err != nil {
		return nil, err
	}
	if l.owner, err = c.owner(root); err != nil {
		return nil, err
	}
	if err := errors.Join(c.pack(l), l.tar.Close()); err != nil {
		return nil, err
	}
	return entries(t, &out)
}

func testBuilder(t testing.TB, c *Context) *builder {
	t.Helper()
	return &builder{ctx: context.Background(), Options: Options{Context: c, Progress: func(Event) {}},
		file: &dockerfile{escape: '\\'}, folder: t.TempDir()}
}

func commandOf(t testing.TB, line string) *copying {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	command, err := instructions.ParseCommand(parsed.AST.Children[0])
	if err != nil {
		t.Fatal(err)
	}
	switch c := command.(type) {
	case *instructions.CopyCommand:
		return &copying{SourcesAndDest: &c.SourcesAndDest, command: c, chown: c.Chown, chmod: c.Chmod,
			link: c.Link, parents: c.Parents, exclude: c.ExcludePatterns}
	case *instructions.AddCommand:
		return &copying{SourcesAndDest: &c.SourcesAndDest, command: c, chown: c.Chown, chmod: c.Chmod,
			link: c.Link, exclude: c.ExcludePatterns, add: c}
	}
	t.Fatalf("%s is no COPY", line)
	return nil
}

func entries(t testing.TB, r io.Reader) (map[string]*tar.Header, error) {
	t.Helper()
	all := map[string]*tar.Header{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return nil, err
		}
		h.PAXRecords = map[string]string{"content": string(data)}
		all[h.Name] = h
	}
}

// Key is the cache's key of a COPY.
func Key(t testing.TB, context, line string) (string, error) {
	t.Helper()
	c := commandOf(t, line)
	folder, err := OpenContext(context)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := folder.ReadIgnore(""); err != nil {
		return "", err
	}
	c.s, c.at = &stage{b: testBuilder(t, folder)}, &state{}
	c.dest = absolute("/work", c.DestPath)
	defer c.end()
	return c.contentKey()
}

// RunKey is the cache's key of a RUN.
func RunKey(args, env []string, user, dir, top string) string {
	at := &state{}
	at.config.Config.User, at.config.Config.WorkingDir = user, dir
	if top != "" {
		at.layers = []layer{{}}
		at.layers[0].Layer.ChainID = top
	}
	r := &running{s: &stage{b: &builder{}}, at: at, args: args, env: env}
	k, err := r.key()
	if err != nil {
		panic(fmt.Sprint(err)) // there are no mounts
	}
	return k
}

// Parse is for the fuzzer: all that is done with a Dockerfile before anything is built.
func Parse(text []byte, target string) error {
	f, err := parse(text, "Dockerfile")
	if err != nil {
		return err
	}
	b := &builder{file: f, Options: Options{Target: target, Progress: func(Event) {}}}
	if err := b.setGlobals(); err != nil {
		return err
	}
	_, needed, err := b.graph()
	for _, i := range needed {
		for _, c := range f.stages[i].Commands {
			_ = sourceOf(c)
			_ = f.excerpt(c.Location())
		}
	}
	return err
}

// Configure does the instructions of a stage that change the configuration only.
func Configure(text []byte) error {
	f, err := parse(text, "Dockerfile")
	if err != nil {
		return err
	}
	b := &builder{file: f, ctx: context.Background(), Options: Options{Progress: func(Event) {}}}
	s := &stage{b: b, Stage: &f.stages[0]}
	at := &state{}
	for _, c := range s.Commands {
		switch c := c.(type) {
		case *instructions.RunCommand:
			if err := c.Expand(f.expander(at.env)); err != nil {
				return err
			}
			err = (&running{s: s, at: at}).command(c)
		case *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
		case *instructions.ArgCommand:
			err = s.arg(at, c)
		default:
			err = s.configure(at, c)
		}
		if err != nil {
			return f.wrong(err, c.Location())
		}
	}
	return nil
}

// Sums collects a context twice as two builds do, with change in between, and gives both digests
// and how many files were read the second time.
func Sums(t testing.TB, dir string, change func()) (first, second string, read int) {
	t.Helper()
	old := settled
	settled = -time.Hour // what was changed just now counts as well
	defer func() { settled = old }()
	base := t.TempDir()
	digest := func() (string, int) {
		c, err := OpenContext(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s := openSums(base, c.root)
		it, err := (&origin{root: c.root, context: true, sums: s}).collect("", nil)
		if err != nil {
			t.Fatal(err)
		}
		read := len(it.nodes)
		for _, n := range it.nodes {
			if n.kind() != unix.S_IFREG || s.find(n) != "" {
				read--
			}
		}
		s.save()
		return it.digest(), read
	}
	first, _ = digest()
	change()
	second, read = digest()
	return first, second, read
}
