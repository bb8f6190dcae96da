//go:build linux

package archive

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// folders keeps the folders open that entries are being made in, so that an entry is one step
// from its folder and not a path from the root. The archive's own links on the way are followed
// as if the root were "/".
type folders struct {
	root  *folder
	known map[string]*folder
	stale []*folder // to be closed before the next entry
	slots *int64    // how many more files there may be
}

type folder struct {
	fd     int
	setgid bool // what is made in it gets its group
	gid    uint32
}

// maxOpen is how many folders are kept: some archives jump between a few.
const maxOpen = 64

func newFolders(root int, slots *int64) (*folders, error) {
	f, err := newFolder(root)
	return &folders{root: f, known: map[string]*folder{}, slots: slots}, err
}

func newFolder(fd int) (*folder, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	return &folder{fd: fd, setgid: st.Mode&unix.S_ISGID != 0, gid: st.Gid}, nil
}

// open gives the folder with a clean name. What is missing of it is made, as an archive need not
// have an entry for each folder. It is good until trim.
func (d *folders) open(name string) (*folder, error) {
	if name == "." {
		return d.root, nil
	}
	if f := d.known[name]; f != nil {
		return f, nil
	}
	fd, err := openIn(d.root.fd, name)
	if errors.Is(err, unix.ENOENT) {
		fd, err = d.makeAll(name)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open folder", Path: name, Err: err}
	}
	f, err := newFolder(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	d.known[name] = f
	return f, nil
}

// openIn opens a folder beneath another. The kernel may say EAGAIN: a rename elsewhere, while it
// looked at "..", and it cannot be sure where it was.
func openIn(root int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, name, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// makeAll makes the folders of a path that are missing, and opens the last.
func (d *folders) makeAll(name string) (int, error) {
	// The deepest that is there; below it nothing is, so nothing there can be a link.
	at, missing := name, 0
	fd, err := -1, error(unix.ENOENT)
	for errors.Is(err, unix.ENOENT) && at != "." {
		at = path.Dir(at)
		missing++
		fd, err = openIn(d.root.fd, at)
	}
	if err != nil {
		return -1, err
	}
	rest := name
	if at != "." {
		rest = name[len(at)+1:]
	}
	for range missing {
		var part string
		part, rest = cutFirst(rest)
		if *d.slots--; *d.slots < 0 {
			unix.Close(fd)
			return -1, unix.ENOSPC
		}
		next, err := makeFolder(fd, part)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

func makeFolder(dir int, name string) (int, error) {
	if err := unix.Mkdirat(dir, name, 0o755); err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = errors.New("there is a link that leads nowhere")
		}
		return -1, fmt.Errorf("mkdirat %q: %w", name, err)
	}
	return unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// cutFirst takes the first part off a path.
func cutFirst(name string) (first, rest string) {
	for i := range len(name) {
		if name[i] == '/' {
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}

// forget is for when a folder or a link has been removed: names may now lead elsewhere. What
// open gave is still good until trim.
func (d *folders) forget() {
	for _, f := range d.known {
		d.stale = append(d.stale, f)
	}
	clear(d.known)
}

// trim closes what is not needed before the next entry.
func (d *folders) trim() {
	if len(d.known) > maxOpen {
		d.forget()
	}
	for _, f := range d.stale {
		unix.Close(f.fd)
	}
	d.stale = d.stale[:0]
}

func (d *folders) close() {
	d.forget()
	d.trim()
}
