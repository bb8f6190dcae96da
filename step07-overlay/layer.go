//go:build linux

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// layerDir is the folder with the files of a layer.
func layerDir(digest string) string {
	return filepath.Join(stateDir, "layers", strings.TrimPrefix(digest, "sha256:"))
}

// addLayer unpacks a layer's tar, compressed by gzip or not, into the store and returns
// the digest of the tar as it is uncompressed. The layer appears when it is whole.
func addLayer(archive io.Reader) (string, error) {
	tmp, err := os.MkdirTemp(filepath.Join(stateDir, "tmp"), "")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	plain, err := decompress(archive)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	plain = io.TeeReader(plain, hash)
	if err := unpackLayer(plain, tmp); err != nil {
		return "", err
	}
	// What follows the end of the archive, zeros as a rule, counts for the digest.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return "", err
	}
	digest := fmt.Sprintf("sha256:%x", hash.Sum(nil))
	err = os.Rename(tmp, layerDir(digest))
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return digest, nil // there is one already: it is the same
	}
	return digest, err
}

// decompress looks at the first two bytes for gzip's.
func decompress(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	if magic, _ := buffered.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return buffered, nil
	}
	return gzip.NewReader(buffered)
}

// unpacker writes entries of a tar below a folder. The archive may be hostile: every
// path is resolved beneath the folder and no link leads out of it, see os.Root.
type unpacker struct {
	root *os.Root
	free int64 // bytes that may still be written
	// Folders get their times last: what is made in them changes them.
	folders []*tar.Header
}

// unpackLayer unpacks a layer's tar into the folder, with whiteouts as overlayfs has
// them. See the OCI image specification, "Image Layer Filesystem Changeset".
func unpackLayer(plain io.Reader, dir string) error {
	// The image's root; an entry "./" may say otherwise.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %q: %w", dir, err)
	}
	u := &unpacker{root: root, free: int64(st.Bavail) * st.Bsize}
	archive := tar.NewReader(plain)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the tar archive, plain or of gzip: %w", err)
		}
		if err := u.unpack(h, archive); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	for _, h := range u.folders {
		if err := root.Chtimes(h.Name, h.ModTime, h.ModTime); err != nil {
			return err
		}
	}
	return nil
}

// unpack makes the file, folder, link or whiteout that an entry stands for.
func (u *unpacker) unpack(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // a comment, as git makes it
	}
	if !filepath.IsLocal(h.Name) {
		return errors.New("its path leads out of the layer")
	}
	if h.Mode&^0o177777 != 0 {
		return fmt.Errorf("mode %#o has bits that mean nothing", h.Mode)
	}
	if u.free -= h.Size; u.free < 0 {
		return fmt.Errorf("it claims %d bytes, more than there are left on the disk", h.Size)
	}
	h.Name = filepath.Clean(h.Name)
	folder, base := filepath.Dir(h.Name), filepath.Base(h.Name)
	if err := u.root.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	parent, err := u.root.Open(folder)
	if err != nil {
		return err
	}
	defer parent.Close()
	fd := int(parent.Fd())

	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		if base == opaqueName {
			return makeOpaque(u.root, folder)
		}
		if hidden == "" || hidden == "." || hidden == ".." {
			return errors.New("a whiteout of nothing")
		}
		if err := u.root.RemoveAll(filepath.Join(folder, hidden)); err != nil {
			return err
		}
		return makeWhiteout(fd, hidden)
	}
	// A later entry takes the place of an earlier one; folders are merged.
	old, err := u.root.Lstat(h.Name)
	if err == nil && (h.Typeflag != tar.TypeDir || !old.IsDir()) {
		if err := u.root.RemoveAll(h.Name); err != nil {
			return err
		}
	}
	replaced := err == nil && isWhiteout(old)
	if err := u.makeFile(h, content, fd, base); err != nil || h.Typeflag == tar.TypeLink {
		return err
	}
	if replaced && h.Typeflag == tar.TypeDir {
		// What the whiteout hid does not come back in the folder that replaces it.
		if err := makeOpaque(u.root, h.Name); err != nil {
			return err
		}
	}
	return setAttributes(h, fd, base)
}

// makeFile makes the file itself, in the folder that fd is open on.
func (u *unpacker) makeFile(h *tar.Header, content io.Reader, fd int, base string) error {
	switch h.Typeflag {
	case tar.TypeDir:
		u.folders = append(u.folders, h)
		return u.root.MkdirAll(h.Name, 0o755)
	case tar.TypeReg, tar.TypeGNUSparse:
		f, err := u.root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		// It may point anywhere: it is followed in a container, and never here.
		return u.root.Symlink(h.Linkname, h.Name)
	case tar.TypeLink:
		if !filepath.IsLocal(h.Linkname) {
			return fmt.Errorf("a hard link to %q leads out of the layer", h.Linkname)
		}
		return u.root.Link(filepath.Clean(h.Linkname), h.Name)
	case tar.TypeFifo:
		return unix.Mkfifoat(fd, base, 0o600)
	case tar.TypeChar, tar.TypeBlock:
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
			return makeWhiteout(fd, base) // in overlayfs's own spelling
		}
		return errors.New("device nodes have no place in an image: a container has its own /dev")
	}
	return fmt.Errorf("entries of type %q are unknown", h.Typeflag)
}

// setAttributes gives a file its owner, mode, extended attributes and times, in this
// order: a change of the owner takes setuid bits and capabilities away.
func setAttributes(h *tar.Header, fd int, base string) error {
	if err := unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("fchownat: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink { // which has no mode of its own
		if err := unix.Fchmodat(fd, base, uint32(h.Mode&0o7777), 0); err != nil {
			return fmt.Errorf("fchmodat: %w", err)
		}
	}
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, "SCHILY.xattr.")
		if !ok {
			continue
		}
		if strings.Contains(name, "overlay.") && (name != opaqueXattr || value != "y") {
			return fmt.Errorf("attribute %s is overlayfs's own", name)
		}
		logrus.Debugf("layer: %s=%q on %q", name, value, h.Name)
		// There is no lsetxattrat before Linux 6.13.
		path := fmt.Sprintf("/proc/self/fd/%d/%s", fd, base)
		err := unix.Lsetxattr(path, name, []byte(value), 0)
		if err == unix.EOPNOTSUPP { // tmpfs, for one, has had user.… since Linux 6.6 only
			logrus.Warnf("%q: this file system cannot keep the attribute %s", h.Name, name)
			continue
		}
		if err != nil {
			return fmt.Errorf("lsetxattr %s: %w", name, err)
		}
	}
	times := []unix.Timespec{unix.NsecToTimespec(h.ModTime.UnixNano())}
	times = append(times, times[0]) // of access, of modification
	if err := unix.UtimesNanoAt(fd, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("utimensat: %w", err)
	}
	return nil
}
