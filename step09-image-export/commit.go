//go:build linux

package main

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func commitCommand() *cli.Command {
	return &cli.Command{
		Name:         "commit",
		Usage:        "make an image of a container: its image's layers, and what it changed",
		ArgsUsage:    "ID NAME[:TAG]",
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return errors.New("want a container and a name: minidocker commit ID NAME[:TAG]")
			}
			return tidyAfter(commit(c.Args().Get(0), c.Args().Get(1)))
		},
	}
}

func commit(id, name string) error {
	name, err := imageName(name)
	if err != nil {
		return err
	}
	store, err := openStore(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer store.Close()
	unix.Umask(0o022)
	ctr, err := findContainer(id)
	if err != nil {
		return err
	}
	thaw, err := ctr.hold()
	if err != nil {
		return err
	}
	defer thaw()
	// One goroutine packs the writable layer while this one stores it.
	r, w := io.Pipe()
	go func() { w.CloseWithError(packFolder(w, filepath.Join(containerDir(ctr.ID), "upper"))) }()
	d, layer, err := addArchive(r)
	if err != nil {
		return fmt.Errorf("commit %s: %w", ctr.ID, err)
	}
	by := history{CreatedBy: strings.Join(ctr.Command, " ")}
	img, err := stackLayer(image{Layers: ctr.Layers, Manifest: ctr.Manifest}, d, layer, by)
	if err != nil {
		return err
	}
	fmt.Println(img.Manifest)
	return changeImages(func(images map[string]image) error {
		images[name] = img
		return nil
	})
}

// hold keeps the container's files from changing: one that runs is paused, one that has
// ended cannot be removed, until the returned function is called.
func (ctr *container) hold() (func(), error) {
	if err := ctr.takeEnded(); err == nil {
		return func() { ctr.lock.Close() }, nil
	}
	group, err := openCgroup(ctr.ID)
	if err != nil {
		return nil, err
	}
	if group.isFrozen() {
		return func() {}, nil // by "pause", and it stays so
	}
	// Whatever ends this process, a reader of a pipe who leaves too, the container goes on.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGTERM)
	go func() {
		sig, _ := (<-stop).(syscall.Signal)
		_ = group.freeze(false) // there is nobody left to tell
		os.Exit(128 + int(sig))
	}()
	if err := group.freeze(true); err != nil {
		return nil, errors.Join(fmt.Errorf("pause %s: %w", ctr.ID, err), group.freeze(false))
	}
	return func() { _ = group.freeze(false) }, nil
}

// isFrozen says whether the group is paused.
func (g *cgroup) isFrozen() bool {
	now, err := os.ReadFile(cmp.Or(g.find("cgroup.freeze"), g.find("freezer.state")))
	return err == nil && (string(now) == "1\n" || string(now) == "FROZEN\n")
}

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:         "export",
		Usage:        "write all files of a container as a tar archive",
		ArgsUsage:    "ID",
		OnUsageError: usageError,
		Flags:        []cli.Flag{outputFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return errors.New("want one container: minidocker export ID")
			}
			return export(c.Args().First(), c.String("output"))
		},
	}
}

// outputFlag is -o FILE of export and save.
var outputFlag = &cli.StringFlag{
	Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write (default: standard output)",
}

// openOutput returns the file to write to. An archive is nothing for a terminal.
func openOutput(file string) (*os.File, error) {
	if file != "" {
		return os.Create(file)
	}
	if _, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS); err == nil {
		return nil, errors.New("an archive is not for a terminal: give -o FILE, or redirect it")
	}
	return os.Stdout, nil
}

func export(id, file string) error {
	ctr, err := findContainer(id)
	if err != nil {
		return err
	}
	thaw, err := ctr.hold()
	if err != nil {
		return err
	}
	defer thaw()
	out, err := openOutput(file)
	if err != nil {
		return err
	}
	// The union is mounted again, to be read only, in a mount namespace that nobody else
	// sees, and goes with this process: all that export needs of a container.
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := makeMountsPrivate(); err != nil {
		return err
	}
	dir := containerDir(ctr.ID)
	lower := append([]string{dir + "/upper"}, lowerDirs(config{ID: ctr.ID, Layers: ctr.Layers})...)
	if err := mountUnion(dir+"/merged", lower, nil); err != nil {
		return err
	}
	return errors.Join(packFolder(out, dir+"/merged"), out.Close())
}

// packFolder writes what is in a folder as a tar archive, in the order of the names, so
// that the same files give the same bytes. Whiteouts and opaque folders are spelled as
// archives spell them.
func packFolder(w io.Writer, dir string) error {
	archive := tar.NewWriter(w)
	first := map[uint64]string{} // inode number: the first name of a file with several
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		if err := packFile(archive, path, name, info, first); err != nil {
			return fmt.Errorf("pack %q: %w", "/"+name, err)
		}
		return nil
	})
	return errors.Join(err, archive.Close())
}

func packFile(
	archive *tar.Writer, path, name string, info fs.FileInfo, first map[uint64]string,
) error {
	if strings.HasPrefix(info.Name(), whiteoutPrefix) {
		return errors.New("an archive cannot tell this name from a whiteout: rename the file")
	}
	if isWhiteout(info) {
		return archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: filepath.Dir(name) + "/" + whiteoutPrefix + info.Name(),
		})
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return nil // it is of use only to the process that listened
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name = name
	if info.IsDir() {
		h.Name += "/"
	}
	// The numbers count, and not what they are called on this machine.
	h.Uname, h.Gname = "", ""
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	h.ModTime = h.ModTime.Truncate(time.Second)
	st, _ := info.Sys().(*syscall.Stat_t)
	if st.Nlink > 1 && !info.IsDir() {
		if h.Linkname = first[st.Ino]; h.Linkname != "" {
			h.Typeflag, h.Size = tar.TypeLink, 0
			return archive.WriteHeader(h)
		}
		first[st.Ino] = name
		h.Linkname = target
	}
	if h.PAXRecords, err = packAttributes(path); err != nil {
		return err
	}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	if info.IsDir() && isOpaque(path) {
		return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: h.Name + opaqueName})
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(archive, f)
	return err
}

// packAttributes returns a file's extended attributes, but for overlayfs's own and the
// host's security labels.
func packAttributes(path string) (map[string]string, error) {
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return nil, fmt.Errorf("llistxattr: %w", err)
	}
	records := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		prefix, _, _ := strings.Cut(name, ".")
		if prefix != "user" && name != "security.capability" {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("lgetxattr %s: %w", name, err)
		}
		records["SCHILY.xattr."+name] = string(value[:n])
	}
	return records, nil
}
