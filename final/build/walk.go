//go:build linux

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// origin is a tree that files are copied from.
type origin struct {
	root   *os.File
	ignore *patternmatcher.PatternMatcher
	// context says that it is a build context: its files are root's then, without attributes, and
	// there are no devices.
	context bool
	sums    *sums // nil: none are known
}

// node is a file, folder or link that is copied.
type node struct {
	rel  string // below what was named; "" is that itself
	path string // in the origin's root, without links
	st   unix.Stat_t
	link string // a symbolic link's target
	same string // rel of an earlier node that is the same file
	sum  string // digest of a file's content
	data []byte // the content, of what is in no origin
}

func (n *node) kind() uint32 { return n.st.Mode & unix.S_IFMT }

// item is what one source of a COPY has given.
type item struct {
	from   *origin
	name   string // in the destination folder
	remote bool   // it is not of the context
	nodes  []*node
}

func (it *item) isFolder() bool { return len(it.nodes) > 0 && it.nodes[0].kind() == unix.S_IFDIR }

// collect finds a source: a path in the origin, links followed, with all that is in it. exclude
// leaves out more, by paths below it. It is nil if all of it is ignored.
func (o *origin) collect(source string, exclude *patternmatcher.PatternMatcher) (*item, error) {
	f, err := openIn(o.root, path.Clean("/"+source), unix.O_PATH)
	if err != nil {
		return nil, notFound(source, err)
	}
	defer f.Close()
	at, err := pathIn(o.root, f)
	if err != nil {
		return nil, err
	}
	w := &walk{origin: o, item: &item{from: o, name: path.Base(path.Clean("/" + source))},
		exclude: exclude, links: map[[2]uint64]string{}}
	if err := w.add(at, "", nil, matched{}, matched{}); err != nil {
		return nil, err
	}
	if len(w.item.nodes) == 0 {
		return nil, notFound(source, unix.ENOENT)
	}
	return w.item, w.item.sums()
}

func notFound(source string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%q: not found", path.Clean("/"+source))
	}
	return err
}

// pathIn is the path of an open file as its root has it, without a slash in front.
func pathIn(root, f *os.File) (string, error) {
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
	if err != nil {
		return "", err
	}
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(at, "/"))
	if !ok {
		return "", fmt.Errorf("%q is not below %q", name, at)
	}
	return strings.TrimPrefix(rest, "/"), nil
}

// matched is what patterns have said of a folder, for what is in it.
type matched = patternmatcher.MatchInfo

// walk collects what is in a folder, sorted, parents first.
type walk struct {
	*origin
	item    *item
	exclude *patternmatcher.PatternMatcher
	links   map[[2]uint64]string
}

// add adds a path, and what is in it. pending are folders above that are ignored themselves, and
// are there only if something in them is.
func (w *walk) add(
	at, rel string, pending []*node, ignored, excluded matched,
) error {
	n := &node{rel: rel, path: at}
	f, err := openBelow(w.root, at, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) && rel != "" {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &n.st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	out, more, ignored, err := matches(w.ignore, at, ignored)
	if err != nil {
		return err
	}
	outToo, moreToo, excluded, err := matches(w.exclude, rel, excluded)
	if err != nil {
		return err
	}
	skip := out || outToo
	if n.kind() != unix.S_IFDIR {
		if skip {
			return nil
		}
		return w.keep(n, f, pending)
	}
	if out && !more || outToo && !moreToo {
		return nil
	}
	if skip {
		pending = append(slices.Clone(pending), n)
	} else {
		w.item.nodes = append(w.item.nodes, append(slices.Clone(pending), n)...)
		clearNodes(&pending)
	}
	return w.children(n, pending, ignored, excluded)
}

func clearNodes(nodes *[]*node) { *nodes = nil }

func (w *walk) children(n *node, pending []*node, ignored, excluded matched) error {
	dir, err := openBelow(w.root, n.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		before := len(w.item.nodes)
		err := w.add(path.Join(n.path, name), path.Join(n.rel, name), pending, ignored, excluded)
		if err != nil {
			return err
		}
		if len(w.item.nodes) > before { // they came with it
			clearNodes(&pending)
		}
	}
	return nil
}

// keep adds what is no folder.
func (w *walk) keep(n *node, f *os.File, pending []*node) error {
	switch n.kind() {
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFCHR, unix.S_IFBLK:
		if w.context {
			return fmt.Errorf("%q is a device, and a build context may have none", "/"+n.path)
		}
	case unix.S_IFLNK:
		buffer := make([]byte, unix.PathMax)
		size, err := unix.Readlinkat(int(f.Fd()), "", buffer)
		if err != nil {
			return os.NewSyscallError("readlinkat", err)
		}
		n.link = string(buffer[:size])
	}
	if n.st.Nlink > 1 {
		id := [2]uint64{n.st.Dev, n.st.Ino}
		if first, ok := w.links[id]; ok {
			n.same = first
		} else {
			w.links[id] = n.rel
		}
	}
	w.item.nodes = append(w.item.nodes, append(slices.Clone(pending), n)...)
	return nil
}

// matches says whether patterns leave a path out; and if it is a folder, whether something in it
// may be in nevertheless.
func matches(
	p *patternmatcher.PatternMatcher, at string, parent matched,
) (out, more bool, info matched, err error) {
	if p == nil || at == "" || at == "." {
		return false, false, parent, nil
	}
	out, info, err = p.MatchesUsingParentResults(at, parent)
	return out, p.Exclusions(), info, err
}

// sums computes the digests of the files' content, several at once.
func (it *item) sums() error {
	var group sync.WaitGroup
	places := make(chan struct{}, parallel())
	failed := make(chan error, 1)
	for _, n := range it.nodes {
		if n.kind() != unix.S_IFREG || n.same != "" || n.data != nil {
			continue
		}
		if n.sum = it.from.sums.find(n); n.sum != "" {
			continue
		}
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if err := it.sum(n); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (it *item) sum(n *node) error {
	f, err := it.open(n)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{f}, make([]byte, 256<<10)); err != nil {
		return err
	}
	n.sum = hex.EncodeToString(h.Sum(nil))
	it.from.sums.add(n)
	return nil
}

// onlyReader hides what else a file can do, so that the buffer is used.
type onlyReader struct{ io.Reader }

// open opens a file's content; it must be the file that was found.
func (it *item) open(n *node) (io.ReadCloser, error) {
	if n.data != nil {
		return io.NopCloser(strings.NewReader(string(n.data))), nil
	}
	f, err := openBelow(it.from.root, n.path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != n.st.Size) {
		err = fmt.Errorf("%q has changed while it was read", "/"+n.path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// digest is of all that is copied but times: names, types, modes, owners, contents, targets.
func (it *item) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", it.name)
	for _, n := range it.nodes {
		fmt.Fprintf(h, "%q %o", n.rel, n.st.Mode)
		if !it.from.context {
			fmt.Fprintf(h, " %d:%d %d", n.st.Uid, n.st.Gid, n.st.Rdev)
		}
		fmt.Fprintf(h, " %q %q %s", n.link, n.same, n.sum)
		if n.data != nil {
			fmt.Fprintf(h, " %q", n.data)
		}
		fmt.Fprintln(h)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// glob finds the paths that a pattern of a shell's means. A word without one is a path itself.
func (o *origin) glob(pattern string) ([]string, error) {
	pattern = strings.TrimPrefix(path.Clean("/"+pattern), "/")
	if !strings.ContainsAny(pattern, "*?[\\") {
		return []string{pattern}, nil
	}
	found := []string{""}
	for part := range strings.SplitSeq(pattern, "/") {
		var next []string
		for _, at := range found {
			more, err := o.globIn(at, part)
			if err != nil {
				return nil, err
			}
			next = append(next, more...)
		}
		found = next
	}
	return found, nil
}

func (o *origin) globIn(at, part string) ([]string, error) {
	dir, err := openIn(o.root, "/"+at, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil //nolint:nilerr // what is no folder has nothing in it
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []string
	for _, name := range names {
		ok, err := path.Match(part, name)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", part, err)
		}
		if !ok {
			continue
		}
		full := path.Join(at, name)
		out, more, _, err := matches(o.ignore, full, matched{})
		if o.ignore != nil && err == nil && !out {
			out, err = o.ignore.MatchesOrParentMatches(full)
		}
		if err != nil {
			return nil, err
		}
		if !out || more {
			all = append(all, full)
		}
	}
	return all, nil
}
