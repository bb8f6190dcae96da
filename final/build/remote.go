//go:build linux

package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"minidocker/final/engine"
	"minidocker/final/image/compression"
	"minidocker/final/storage/archive"
)

// Open opens what the command line calls a context: a folder, the address of a git repository, or
// that of an archive or a Dockerfile, or "-" for in: an archive or a Dockerfile. A Dockerfile alone
// comes back as text, and its context has nothing in it.
func Open(
	ctx context.Context, e *engine.Engine, name string, in io.Reader,
) (c *Context, dockerfile []byte, err error) {
	switch {
	case name == "-":
		return OpenStream(ctx, e, in)
	case isGit(name):
		c, err = openTemp(e, func(dir string) error { return clone(ctx, name, dir, false) })
		return c, nil, err
	case isURL(name):
		response, err := get(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		defer response.Body.Close()
		return OpenStream(ctx, e, response.Body)
	}
	c, err = OpenContext(name)
	return c, nil, err
}

// OpenStream reads a context as a tar archive, which may be compressed, or a Dockerfile alone.
func OpenStream(
	ctx context.Context, e *engine.Engine, in io.Reader,
) (c *Context, dockerfile []byte, err error) {
	buffered := bufio.NewReaderSize(in, 64<<10)
	head, err := buffered.Peek(tarBlock)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("read the build context: %w", err)
	}
	if len(head) == 0 {
		return nil, nil, &engine.Error{Kind: engine.Invalid,
			Err: errors.New("the build context is empty: want a tar archive or a Dockerfile")}
	}
	if !isArchive(head) {
		text, err := io.ReadAll(io.LimitReader(buffered, maxDockerfile+1))
		if err != nil {
			return nil, nil, err
		}
		c, err = openTemp(e, func(string) error { return nil })
		return c, text, err
	}
	c, err = openTemp(e, func(dir string) error {
		root, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		r, _, err := compression.NewReader(buffered)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = archive.Unpack(ctx, root, r, archive.UnpackOptions{NoDevices: true})
		return err
	})
	if err != nil {
		err = &engine.Error{Kind: engine.Invalid, Err: fmt.Errorf("read the build context: %w", err)}
	}
	return c, nil, err
}

// openTemp is a context in a folder that goes with it.
func openTemp(e *engine.Engine, fill func(dir string) error) (*Context, error) {
	base, err := folder(e)
	if err != nil {
		return nil, err
	}
	dir, release, err := newTemp(base)
	if err != nil {
		return nil, err
	}
	if err := fill(dir); err != nil {
		release()
		return nil, err
	}
	c, err := OpenContext(dir)
	if err != nil {
		release()
		return nil, err
	}
	c.stays, c.close = false, func() { c.root.Close(); release() }
	return c, nil
}

const tarBlock = 512

// isArchive tells by the first bytes whether it is a tar archive, or compressed.
func isArchive(head []byte) bool {
	if compression.Detect(head) != compression.None {
		return true
	}
	if len(head) < tarBlock {
		return false
	}
	// A header's sum is of its bytes, where the sum's own eight are spaces: tar(5).
	var sum int64
	for i, c := range head[:tarBlock] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	var claimed int64
	_, err := fmt.Sscanf(strings.Trim(string(head[148:156]), " \x00"), "%o", &claimed)
	return err == nil && claimed == sum || bytes.Equal(head[:tarBlock], make([]byte, tarBlock))
}

func get(ctx context.Context, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close() // the status says it
		return nil, fmt.Errorf("get %q: %s", address, response.Status)
	}
	return response, nil
}

// download gets a file into a folder, and returns the name that it has there.
func download(ctx context.Context, address, dir string) (name string, err error) {
	response, err := get(ctx, address)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	name = nameOf(response, address)
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, response.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("get %q: %w", address, err)
	}
	at, err := http.ParseTime(response.Header.Get("Last-Modified"))
	if err != nil {
		at = time.Unix(0, 0)
	}
	return name, os.Chtimes(f.Name(), at, at)
}

// nameOf is what a file of the web is called.
func nameOf(response *http.Response, address string) string {
	if _, p, err := mime.ParseMediaType(response.Header.Get("Content-Disposition")); err == nil {
		if name := path.Base(path.Clean("/" + p["filename"])); name != "/" {
			return name
		}
	}
	if u, err := url.Parse(address); err == nil {
		if name := path.Base(path.Clean("/" + u.Path)); name != "/" {
			return name
		}
	}
	return "download"
}

var gitName = regexp.MustCompile(`^(git://|ssh://|git@|github\.com/|https?://[^#]+\.git(#|$))`)

// isGit says whether a name is a git repository's, as Docker does.
func isGit(name string) bool { return gitName.MatchString(name) }

// clone gets a git repository: ADDRESS[#REF[:FOLDER]], its newest state alone.
func clone(ctx context.Context, name, dir string, keepGit bool) error {
	address, fragment, _ := strings.Cut(name, "#")
	ref, sub, _ := strings.Cut(fragment, ":")
	if strings.HasPrefix(address, "github.com/") {
		address = "https://" + address
	}
	if strings.HasPrefix(address, "-") || strings.HasPrefix(ref, "-") {
		return fmt.Errorf("git repository %q: a name that begins with - is none", name)
	}
	if ref == "" {
		ref = "HEAD"
	}
	work := filepath.Join(dir, ".clone")
	for _, args := range [][]string{
		{"init", "-q", "--", work},
		{"-C", work, "fetch", "-q", "--depth=1", "--", address, ref},
		{"-C", work, "-c", "advice.detachedHead=false", "checkout", "-q", "FETCH_HEAD"},
		{"-C", work, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"},
	} {
		command := exec.CommandContext(ctx, "git", args...)
		command.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
		out, err := command.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("git repository %q: the program git is not installed", name)
		}
		if err != nil {
			return fmt.Errorf("git repository %q: git %s: %w: %s", name, args[len(args)-1], err,
				bytes.TrimSpace(out))
		}
	}
	return takeOut(dir, work, sub, keepGit)
}

// takeOut moves what is wanted of a clone to its place.
func takeOut(dir, work, sub string, keepGit bool) error {
	if !keepGit || sub != "" {
		if err := os.RemoveAll(filepath.Join(work, ".git")); err != nil {
			return err
		}
	}
	defer os.RemoveAll(work)
	root, err := os.OpenRoot(work) // a link in the repository does not lead out
	if err != nil {
		return err
	}
	defer root.Close()
	from, err := root.Open(path.Clean("./" + path.Clean("/"+sub)))
	if err != nil {
		return fmt.Errorf("folder %q of the repository: %w", sub, err)
	}
	defer from.Close()
	names, err := from.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("folder %q of the repository: %w", sub, err)
	}
	for _, n := range names {
		old := fmt.Sprintf("/proc/self/fd/%d/%s", from.Fd(), n)
		if err := os.Rename(old, filepath.Join(dir, n)); err != nil {
			return err
		}
	}
	return nil
}
