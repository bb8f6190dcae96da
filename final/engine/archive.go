//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"minidocker/final/storage"
	"minidocker/final/storage/archive"
)

// withFiles calls f with the root folder of a container's files. Of one that runs it is its own
// root, with all that is mounted there.
func (e *Engine) withFiles(r *record, write bool, f func(root *os.File) error) error {
	state, err := e.state(r.ID)
	if err != nil {
		return err
	}
	if state.Status == "running" && state.Pid > 0 {
		return e.withRoot(state.Pid, f)
	}
	l, err := e.lock(r.ID) // so that it is not started meanwhile: two mounts of it are one too many
	if err != nil {
		return err
	}
	defer l.unlock()
	mounts, err := e.layers.Mounts(r.ID, storage.MountOptions{ReadOnly: !write})
	if err != nil {
		return err
	}
	defer func() { _ = e.layers.Release(r.ID) }()
	return storage.With(mounts, func(root *os.File) error { return e.withVolumes(r, root, f) })
}

// withVolumes calls f with a root in which the container's volumes are mounted.
func (e *Engine) withVolumes(r *record, root *os.File, f func(root *os.File) error) error {
	if len(r.Mounts) == 0 {
		return f(root)
	}
	mounts := slices.Clone(r.Mounts)
	for i, m := range mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		tree, err := e.volumeTree(m.Name)
		if err != nil {
			return err
		}
		if mounts[i].tree = tree; tree != nil {
			defer tree.Close()
		}
	}
	return inMountNamespace(mounts, root, f)
}

// StatPath is what a path in a container is. A link is not followed.
func (e *Engine) StatPath(_ context.Context, ref, name string) (container.PathStat, error) {
	var stat container.PathStat
	r, _, err := e.get(ref)
	if err != nil {
		return stat, err
	}
	err = e.withFiles(r, false, func(root *os.File) error {
		f, found, err := statPath(root, name)
		if err == nil {
			stat = found
			err = f.Close()
		}
		return err
	})
	return stat, noPath(err, ref, name)
}

// noPath words the error of a path that is not there as Docker does.
func noPath(err error, ref, name string) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return failed(NotFound, "Could not find the file %s in container %s", name, ref)
	}
	return err
}

// statPath finds a path, and the folder that it is in. A link at its end is not followed, unless
// a slash comes after it.
func statPath(root *os.File, name string) (*os.File, container.PathStat, error) {
	var stat container.PathStat
	clean := path.Clean("/" + name)
	follow := strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")
	flags := unix.O_PATH
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	f, err := openIn(root, clean, flags)
	if err != nil {
		return nil, stat, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, stat, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, stat, err
	}
	if follow && !info.IsDir() {
		f.Close()
		return nil, stat, failed(Invalid, "%s: not a directory", name)
	}
	stat = container.PathStat{Name: path.Base(clean), Size: info.Size(), Mode: info.Mode(),
		Mtime: info.ModTime()}
	if info.Mode()&os.ModeSymlink != 0 {
		buffer := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", buffer)
		if err != nil {
			f.Close()
			return nil, stat, err
		}
		stat.LinkTarget = string(buffer[:n])
		if !path.IsAbs(stat.LinkTarget) {
			stat.LinkTarget = path.Join(path.Dir(clean), stat.LinkTarget)
		}
	}
	return f, stat, nil
}

// CopyFrom is an archive of a file or folder of a container's: its one entry, or the first, has
// its name. What follows a slash at the end is the folder that a link leads to. The caller closes
// it.
func (e *Engine) CopyFrom(
	ctx context.Context, ref, name string,
) (io.ReadCloser, container.PathStat, error) {
	stat, err := e.StatPath(ctx, ref, name)
	if err != nil {
		return nil, stat, err
	}
	r, _, err := e.get(ref)
	if err != nil {
		return nil, stat, err
	}
	read, write := io.Pipe()
	go func() {
		write.CloseWithError(e.withFiles(r, false, func(root *os.File) error {
			return packPath(ctx, write, root, name)
		}))
	}()
	e.containerEvent(r, "archive-path", nil)
	return read, stat, nil
}

// packPath writes the archive. What clients put in the place of the topmost name follows from the
// path that they have asked for: "." for what ends in a dot, "/" for the root.
func packPath(ctx context.Context, w io.Writer, root *os.File, name string) error {
	clean := path.Clean("/" + name)
	base := path.Base(clean)
	if last := path.Base("/" + strings.TrimRight(name, "/")); last == "." {
		base = "."
	}
	if strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") { // what a link leads to
		f, err := openIn(root, clean, unix.O_PATH)
		if err != nil {
			return err
		}
		defer f.Close()
		target, err := inRoot(root, f)
		if err != nil {
			return err
		}
		clean = target
	}
	dir, err := openIn(root, path.Dir(clean), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	file, options := path.Base(clean), archive.PackOptions{}
	if clean == "/" {
		file, options.Skip = ".", inSystem
	}
	return archive.PackAt(ctx, w, dir, file, base, options)
}

// inSystem says whether a name is of a file that the kernel makes up in a container that runs.
func inSystem(name string) bool {
	folder, file, _ := strings.Cut(strings.TrimLeft(name, "./"), "/")
	return file != "" && (folder == "proc" || folder == "sys" || folder == "dev")
}

// inRoot is the path of an open file as the root has it.
func inRoot(root, f *os.File) (string, error) {
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
	return path.Clean("/" + rest), nil
}

// CopyOptions say how CopyTo unpacks.
type CopyOptions struct {
	NoOverwriteDirNonDir bool // a folder does not take a file's place, nor the other way round
	CopyUIDGID           bool // owners are the archive's; otherwise they are root's
}

// CopyTo unpacks an archive in a folder of a container's.
func (e *Engine) CopyTo(
	ctx context.Context, ref, name string, from io.Reader, o CopyOptions,
) error {
	r, _, err := e.get(ref)
	if err != nil {
		return err
	}
	err = e.withFiles(r, true, func(root *os.File) error {
		dir, err := openIn(root, path.Clean("/"+name), unix.O_RDONLY|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOTDIR) {
			return failed(Invalid, "extraction point is not a directory")
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		unpack := archive.UnpackOptions{}
		if !o.CopyUIDGID {
			unpack.Owner = &archive.Owner{}
		}
		_, err = archive.Unpack(ctx, dir, from, unpack)
		if errors.Is(err, unix.EROFS) {
			return failed(Invalid, "container rootfs is marked read-only")
		}
		return err
	})
	if err != nil {
		return noPath(err, ref, name)
	}
	e.containerEvent(r, "extract-to-dir", nil)
	return nil
}

// Changes are the differences between a container's files and its image's.
func (e *Engine) Changes(_ context.Context, ref string) ([]container.FilesystemChange, error) {
	r, _, err := e.get(ref)
	if err != nil {
		return nil, err
	}
	changes, err := e.layers.Changes(r.ID)
	if err != nil {
		return nil, err
	}
	kinds := map[archive.ChangeKind]container.ChangeType{archive.Added: container.ChangeAdd,
		archive.Changed: container.ChangeModify, archive.Deleted: container.ChangeDelete}
	mounted := map[string]bool{}
	for _, m := range r.Mounts {
		mounted[m.Destination] = true
	}
	all := []container.FilesystemChange{}
	for _, c := range changes {
		if !mounted[c.Path] {
			all = append(all, container.FilesystemChange{Kind: kinds[c.Kind], Path: c.Path})
		}
	}
	return all, nil
}

// Export writes an archive of all of a container's files, without volumes.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	r, _, err := e.get(ref)
	if err != nil {
		return err
	}
	state, err := e.state(r.ID)
	if err != nil {
		return err
	}
	pack := func(root *os.File) error { return archive.Pack(ctx, w, root, archive.PackOptions{}) }
	e.containerEvent(r, "export", nil)
	if state.Status == "running" {
		return e.snapshot(state.Pid, pack)
	}
	mounts, err := e.layers.Mounts(r.ID, storage.MountOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = e.layers.Release(r.ID) }()
	return storage.With(mounts, pack)
}

// snapshot calls f with the root of a running container, without what is mounted in it.
func (e *Engine) snapshot(pid int, f func(root *os.File) error) error {
	tree, err := treeOf(pid, "/")
	if err != nil {
		return err
	}
	defer tree.Close()
	return withTree(tree, f)
}
