//go:build linux

// Package fsmount makes one mount from what a configuration says about it: a type, a source and
// options, as in an OCI config.json. It does not decide what is mounted, and it knows no
// containers.
//
// The kernel has two ways to mount. mount(2) takes all options of a file system as one string,
// which must fit into a page: for an overlay of many layers that is too little. Since Linux 5.2
// there is a way in steps, fsopen(2), where each option is a call; overlay takes its layers one at
// a time since Linux 6.7 (lowerdir+). A mount that is made this way is attached nowhere until
// move_mount(2); it can be used through its descriptor, and it ends when that is closed:
//
//	fsopen("overlay") -> fsconfig(lowerdir+=A) … fsconfig(CREATE) -> fsmount() -> descriptor
//	                                                             move_mount(target) <-'
//
// See fsopen(2), mount(2), open_tree(2), Documentation/filesystems/overlayfs.rst.
package fsmount

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// New makes a mount that is attached nowhere: a descriptor on its root, as O_PATH makes it, for
// Attach and for openat(2). What is opened relative to
// it lies in the mount; Attach shows it at a path; with the last descriptor it is gone. The caller
// closes it.
//
// The type "bind" (or the option "bind" or "rbind") takes the source as it is, "rbind" with all
// that is mounted in it. Options that are not flags of a mount (ro, nosuid, nodev, noexec, noatime,
// …) are the file system's own.
func New(kind, source string, options []string) (*os.File, error) {
	m, err := parse(kind, source, options)
	if err != nil {
		return nil, err
	}
	tree, err := m.make()
	if err != nil {
		return nil, fmt.Errorf("mount a %s (from %q, options %q): %w", kind, source, m.text(), err)
	}
	return tree, nil
}

// Root opens the root folder of a mount that New has made, so that it can be listed as well. The
// mount ends when the one that New gave is closed, whoever has this one.
func Root(tree *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(tree.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "openat", Path: tree.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), tree.Name()), nil
}

// Attach shows a mount that New has made at a folder (or file) that is open, O_PATH suffices.
func Attach(tree, target *os.File) error {
	err := unix.MoveMount(int(tree.Fd()), "", int(target.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// Mount makes a mount and shows it at the path target.
func Mount(kind, source, target string, options []string) error {
	tree, err := New(kind, source, options)
	if err != nil {
		return err
	}
	defer tree.Close()
	at, err := os.OpenFile(target, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer at.Close()
	return Attach(tree, at)
}

// mount is what New was asked for, sorted by who takes it.
type mount struct {
	kind, source string
	recursive    bool     // of a bind mount: all that is mounted in the source as well
	set, clear   uint64   // attributes of the mount: MOUNT_ATTR_…
	lower        []string // overlay's layers that are only read, the uppermost first
	data         []string // the file system's other options: "key=value" or "key"
}

// attributes are the words for what is the mount's own and not the file system's.
var attributes = map[string]struct{ set, clear uint64 }{
	"defaults": {}, "bind": {}, "private": {},
	"ro": {set: unix.MOUNT_ATTR_RDONLY}, "rw": {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid": {set: unix.MOUNT_ATTR_NOSUID}, "suid": {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev": {set: unix.MOUNT_ATTR_NODEV}, "dev": {clear: unix.MOUNT_ATTR_NODEV},
	"noexec": {set: unix.MOUNT_ATTR_NOEXEC}, "exec": {clear: unix.MOUNT_ATTR_NOEXEC},
	"nosymfollow": {set: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"symfollow":   {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"nodiratime":  {set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {clear: unix.MOUNT_ATTR_NODIRATIME},
	"noatime":     {set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME},
	"strictatime": {set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
	"relatime":    {set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
}

func parse(kind, source string, options []string) (*mount, error) {
	m := &mount{kind: kind, source: source}
	for _, word := range options {
		if word == "rbind" {
			m.recursive = true
		}
		if word == "bind" || word == "rbind" {
			m.kind = "bind"
			continue
		}
		if a, ok := attributes[word]; ok {
			m.set = m.set&^a.clear | a.set
			m.clear = m.clear&^a.set | a.clear
			continue
		}
		if layers, ok := strings.CutPrefix(word, "lowerdir="); ok && kind == "overlay" {
			lower, err := splitLower(layers)
			if err != nil {
				return nil, err
			}
			m.lower = append(m.lower, lower...)
			continue
		}
		if word == "" {
			return nil, errors.New("a mount option is empty")
		}
		m.data = append(m.data, word)
	}
	return m, nil
}

// splitLower takes overlay's list of folders apart: a colon ends one, and a backslash makes
// what follows it part of a name.
func splitLower(list string) ([]string, error) {
	var all []string
	var one strings.Builder
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list):
			i++
			one.WriteByte(list[i])
		case list[i] == ':' && one.Len() == 0:
			return nil, fmt.Errorf("lowerdir %q: folders of data alone (::) are not supported", list)
		case list[i] == ':':
			all = append(all, one.String())
			one.Reset()
		default:
			one.WriteByte(list[i])
		}
	}
	return append(all, one.String()), nil
}

// Escape writes a path so that it can stand in overlay's options lowerdir, upperdir and workdir,
// where a colon ends a name and a comma an option.
func Escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}

// text is the options as mount(2) takes them.
func (m *mount) text() string {
	data := m.data
	if m.lower != nil {
		names := make([]string, len(m.lower))
		for i, path := range m.lower {
			names[i] = Escape(path)
		}
		data = slices.Concat([]string{"lowerdir=" + strings.Join(names, ":")}, data)
	}
	return strings.Join(data, ",")
}

func (m *mount) make() (*os.File, error) {
	if m.kind == "bind" {
		return m.bind()
	}
	tree, err := m.inSteps()
	if m.lower != nil && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		// Perhaps the kernel is older than lowerdir+, or a path is longer than the 255 bytes that
		// fsconfig takes.
		if tree, err := m.inOneString(); err == nil {
			return tree, nil
		}
	}
	return tree, err
}

// bind takes a copy of a mount that is there, and gives it its attributes before anybody sees it.
func (m *mount) bind() (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if m.recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.source, flags)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	return m.finish(fd)
}

// finish sets the attributes of a mount that was copied.
func (m *mount) finish(fd int) (*os.File, error) {
	if m.set|m.clear != 0 {
		attr := unix.MountAttr{Attr_set: m.set, Attr_clr: m.clear}
		flags := uint(unix.AT_EMPTY_PATH)
		if m.recursive {
			flags |= unix.AT_RECURSIVE
		}
		if err := unix.MountSetattr(fd, "", flags, &attr); err != nil { // since Linux 5.12
			unix.Close(fd)
			return nil, os.NewSyscallError("mount_setattr", err)
		}
	}
	return os.NewFile(uintptr(fd), m.source), nil
}

// inSteps makes the mount by fsopen(2), an option at a time.
func (m *mount) inSteps() (*os.File, error) {
	fs, err := unix.Fsopen(m.kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := m.configure(fs); err != nil {
		if reason := messages(fs); reason != "" {
			err = fmt.Errorf("%w: %s", err, reason)
		}
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(m.set))
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), m.source), nil
}

func (m *mount) configure(fs int) error {
	if m.source != "" {
		if err := unix.FsconfigSetString(fs, "source", m.source); err != nil {
			return fmt.Errorf("fsconfig source: %w", err)
		}
	}
	for _, path := range m.lower {
		if err := unix.FsconfigSetString(fs, "lowerdir+", path); err != nil {
			return fmt.Errorf("fsconfig lowerdir+ %q: %w", path, err)
		}
	}
	for _, option := range m.data {
		key, value, isString := strings.Cut(option, "=")
		var err error
		if isString {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return fmt.Errorf("fsconfig %s: %w", option, err)
		}
	}
	// Read-only is a matter of the file system, too: so it need not be writable.
	if m.set&unix.MOUNT_ATTR_RDONLY != 0 {
		if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
			return fmt.Errorf("fsconfig ro: %w", err)
		}
	}
	return os.NewSyscallError("fsconfig", unix.FsconfigCreate(fs))
}
