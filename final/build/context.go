//go:build linux

package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sys/unix"
)

// Context is a folder that COPY and ADD take files from, without what .dockerignore names. What
// lies outside is never reached: links are followed as if the folder were "/".
type Context struct {
	root   *os.File
	ignore *patternmatcher.PatternMatcher
	sums   *sums // of its files; nil for a folder that does not stay
	stays  bool
	close  func()
}

// OpenContext opens a folder.
func OpenContext(dir string) (*Context, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	root := os.NewFile(uintptr(fd), dir)
	return &Context{root: root, stays: true, close: func() { root.Close() }}, nil
}

// Close lets go of the folder; one that was made for the context is deleted.
func (c *Context) Close() { c.close() }

// maxIgnore is how large a .dockerignore may be, in bytes.
const maxIgnore = 1 << 20

// Dockerfile reads the context's Dockerfile, "" for the usual one.
func (c *Context) Dockerfile(name string) ([]byte, error) {
	if name == "" {
		name = "Dockerfile"
	}
	text, err := c.read(name, maxDockerfile)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("failed to read dockerfile: open %s: no such file or directory", name)
	}
	return text, err
}

// ReadIgnore reads the Dockerfile's own NAME.dockerignore or, if there is none, .dockerignore.
func (c *Context) ReadIgnore(dockerfile string) error {
	names := []string{".dockerignore"}
	if dockerfile != "" {
		names = []string{dockerfile + ".dockerignore", ".dockerignore"}
	}
	for _, name := range names {
		f, err := c.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		patterns, err := ignorefile.ReadAll(&limited{f, maxIgnore, name})
		if err != nil {
			return fmt.Errorf("read %q: %w", name, err)
		}
		return c.SetIgnore(patterns)
	}
	return nil
}

// SetIgnoreText is SetIgnore with a file's text.
func (c *Context) SetIgnoreText(text []byte) error {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf(".dockerignore: %w", err)
	}
	return c.SetIgnore(patterns)
}

// SetIgnore says what is left out, as the lines of .dockerignore do.
func (c *Context) SetIgnore(patterns []string) (err error) {
	if len(patterns) == 0 {
		return nil
	}
	if c.ignore, err = patternmatcher.New(patterns); err != nil {
		return fmt.Errorf(".dockerignore: %w", err)
	}
	return nil
}

// limited reads a file that must not be too large.
type limited struct {
	f    *os.File
	left int64
	name string
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.f.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("%s is too large", l.name)
	}
	return n, err
}

func (c *Context) open(name string) (*os.File, error) {
	f, err := openIn(c.root, filepath.Clean("/"+name), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no file", name))
	}
	return f, nil
}

func (c *Context) read(name string, limit int64) ([]byte, error) {
	f, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(&limited{f, limit, name})
}

// openIn opens a path in a root: no link in it leads out.
func openIn(root *os.File, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	return openat2(root, name, &how)
}

// openBelow opens a path in a root in which there are no links.
func openBelow(root *os.File, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	if name == "" {
		name = "."
	}
	return openat2(root, name, &how)
}

func openat2(root *os.File, name string, how *unix.OpenHow) (*os.File, error) {
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}
