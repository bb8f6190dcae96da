//go:build linux

package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"

	"minidocker/final/image/compression"
)

// isRemote says whether a source of ADD is not in the context.
func isRemote(source string) bool { return isURL(source) || isGit(source) }

// fetch gets a source of ADD's from elsewhere: a file, or a git repository.
func (c *copying) fetch(source string, exclude *patternmatcher.PatternMatcher) (*item, error) {
	b := c.s.b
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	name := ""
	if isGit(source) {
		if c.add.Checksum != "" {
			return nil, errors.New("--checksum of a git repository is not possible: name its commit")
		}
		err = clone(b.ctx, source, dir, c.add.KeepGitDir != nil && *c.add.KeepGitDir)
	} else {
		name, err = download(b.ctx, source, dir)
	}
	if err != nil {
		return nil, err
	}
	folder, err := OpenContext(dir)
	if err != nil {
		return nil, err
	}
	c.close = append(c.close, folder.Close)
	it, err := (&origin{root: folder.root, context: true}).collect(name, exclude)
	if err != nil {
		return nil, err
	}
	if want := c.add.Checksum; want != "" && want != "sha256:"+it.nodes[0].sum {
		return nil, fmt.Errorf("%s has digest sha256:%s, not %s", source, it.nodes[0].sum, want)
	}
	it.remote = true
	return it, nil
}

// unpacks says whether an item may be an archive that ADD unpacks: of the context, or from
// elsewhere if that is asked for.
func (c *copying) unpacks(it *item) bool {
	if c.add == nil || it.isFolder() || it.nodes[0].kind() != unix.S_IFREG ||
		it.nodes[0].data != nil {
		return false
	}
	if c.add.Unpack != nil {
		return *c.add.Unpack
	}
	return !it.remote
}

// unpack writes what is in an archive. It is not done if the item is none.
func (l *layout) unpack(it *item, dest string) (done bool, err error) {
	f, err := it.open(it.nodes[0])
	if err != nil {
		return false, err
	}
	defer f.Close()
	z, _, err := compression.NewReader(f)
	if err != nil {
		return false, nil //nolint:nilerr // it is a file like others
	}
	defer z.Close()
	in := tar.NewReader(z)
	h, err := in.Next()
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	if err := l.folder(dest); err != nil {
		return true, err
	}
	for ; err == nil; h, err = in.Next() {
		if err := l.entry(h, in, dest); err != nil {
			return true, fmt.Errorf("unpack %q: entry %q: %w", it.name, h.Name, err)
		}
	}
	if !errors.Is(err, io.EOF) {
		return true, fmt.Errorf("unpack %q: %w", it.name, err)
	}
	return true, nil
}

// entry writes an entry of an archive to its place. No name leads out of the destination, but
// links of the layers below are followed.
func (l *layout) entry(h *tar.Header, content io.Reader, dest string) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := localName(h.Name)
	if err != nil || name == "." {
		return err
	}
	at, err := l.place(dest, name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path.Base(at), ".wh.") {
		return errors.New("the name means in a layer that a file is deleted")
	}
	if err := l.folder(path.Dir(at)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		target, err := localName(h.Linkname)
		if err != nil {
			return err
		}
		if target, err = l.place(dest, target); err != nil {
			return err
		}
		h.Linkname = strings.TrimPrefix(target, "/")
	}
	if l.owner != nil {
		h.Uid, h.Gid, h.Uname, h.Gname = l.owner.UID, l.owner.GID, "", ""
	}
	kind := uint32(unix.S_IFREG)
	h.Name, h.Format = strings.TrimPrefix(at, "/"), tar.FormatUnknown
	switch h.Typeflag {
	case tar.TypeDir:
		kind = unix.S_IFDIR
		h.Name += "/"
	case tar.TypeSymlink:
		kind = unix.S_IFLNK
	}
	if at == "/" {
		return nil
	}
	if err := l.fits(at, kind == unix.S_IFDIR); err != nil {
		return err
	}
	l.made[at] = kind
	if err := l.write(h); err != nil {
		return err
	}
	_, err = io.Copy(l.tar, content)
	return err
}

// place is where an entry is: the folder that it is in may be behind a link.
func (l *layout) place(dest, name string) (string, error) {
	dir, err := l.resolve(path.Join(dest, path.Dir(name)))
	return path.Join(dir, path.Base(name)), err
}

// localName is an entry's path, which must not lead out.
func localName(name string) (string, error) {
	name = strings.TrimLeft(name, "/")
	if name == "" {
		return ".", nil
	}
	if !filepath.IsLocal(name) {
		return "", errors.New("its path leads out of the archive")
	}
	return path.Clean(name), nil
}
