//go:build linux

// Package union is a union file system in user space, with the semantics of AUFS: it shows several
// folders, its branches, as one. It mounts nothing: the kernel asks it through a descriptor of
// /dev/fuse (see fuse(4)) that somebody else has mounted, and when that mount is gone, it ends.
//
//	          app             kernel                  this process         branches
//	open("/m/apple", O_RDWR) ──▶ FUSE ──▶ /dev/fuse ──▶ Union  ──▶  1. rw  apple (a copy now)
//	                                                                2. ro  apple
//
// What is uppermost counts, but for folders, which are merged. A file that is written to and lies
// in a branch that is only read is copied up first: to the nearest writable branch above. What is
// deleted and lies in such a branch is hidden by an empty file in the writable one:
//
//	.wh.NAME        hides NAME in all branches below; a NAME beside it is seen
//	.wh..wh..opq    in a folder: hides all that branches below have in it
//
// All names that begin with .wh. are the union's own, and nobody sees them. As in AUFS, a folder
// that is in more than one branch cannot be renamed (EXDEV: mv(1) copies it then), and a file
// with several names that is copied up has one.
//
// See aufs(5); Documentation/filesystems/fuse/; the OCI image specification, whose whiteouts are
// AUFS's.
package union

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// AUFS's names.
const (
	prefix  = ".wh."
	opaque  = ".wh..wh..opq"
	workDir = ".wh..wh.orph" // in a branch's root: what is being made
)

// Options is a union, as JSON for the process that serves it.
type Options struct {
	// Branches, the uppermost first.
	Branches []Branch `json:"branches"`
	// Create says in which branch a new file is made: tdp, rr, mfs[:SECONDS] or
	// mfsrr:BYTES[:SECONDS]; "" is tdp. See aufs(5).
	Create string `json:"create,omitempty"`
	// UDBA, "user's direct branch access", is "none" if nobody changes the branches behind the
	// union's back: then the kernel need not ask again what it knows. "" is "reval": it asks.
	UDBA string `json:"udba,omitempty"`
}

// Branch is a folder of a union.
type Branch struct {
	Path     string `json:"path"`
	Writable bool   `json:"writable,omitempty"`
}

// Parse reads branches as AUFS has them: DIR=rw:DIR=ro:…. The first can be written to and the
// others cannot, where nothing else is said. Paths become absolute.
func Parse(branches string) ([]Branch, error) {
	var all []Branch
	for i, word := range strings.Split(branches, ":") {
		dir, mode, found := strings.Cut(word, "=")
		if !found {
			mode = "ro"
			if i == 0 {
				mode = "rw"
			}
		}
		mode, _, _ = strings.Cut(mode, "+") // ro+wh: we look for whiteouts everywhere
		if dir == "" || !slices.Contains([]string{"rw", "ro", "rr"}, mode) {
			return nil, fmt.Errorf("branch %q: want DIR, DIR=rw, DIR=ro or DIR=rr", word)
		}
		dir, err := absolute(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, Branch{Path: dir, Writable: mode == "rw"})
	}
	return all, nil
}

func absolute(dir string) (string, error) {
	if path.IsAbs(dir) {
		return path.Clean(dir), nil
	}
	cwd, err := os.Getwd()
	return path.Join(cwd, dir), err
}

// branch is one that is open.
type branch struct {
	Branch
	root int // O_PATH
}

// Union is a union. The branches change only while mu is held for writing.
type Union struct {
	mu       sync.RWMutex
	branches []branch
	create   policy
	cached   bool // udba=none

	known struct { // folders that were looked for, with udba=none
		sync.Mutex
		folders map[string]folder
	}
	ids
}

// Open opens the branches.
func Open(o Options) (*Union, error) {
	u := &Union{}
	switch o.UDBA {
	case "none":
		u.cached = true
	case "", "reval":
	default:
		return nil, fmt.Errorf("udba=%s: want none or reval", o.UDBA)
	}
	if err := u.create.parse(o.Create); err != nil {
		return nil, err
	}
	for _, b := range o.Branches {
		fd, err := unix.Open(b.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, errors.Join(&os.PathError{Op: "open", Path: b.Path, Err: err}, u.Close())
		}
		u.branches = append(u.branches, branch{b, fd})
	}
	if len(u.branches) == 0 {
		return nil, errors.New("a union has one branch at least")
	}
	return u, nil
}

// Close closes the branches, and deletes what it needed there for itself.
func (u *Union) Close() error {
	var errs []error
	for _, b := range u.branches {
		if b.Writable {
			// Another union may have something in it.
			_ = unix.Unlinkat(b.root, workDir, unix.AT_REMOVEDIR)
		}
		errs = append(errs, unix.Close(b.root))
	}
	return errors.Join(errs...)
}

// policy says where new files are made.
type policy struct {
	name string
	low  uint64 // bytes that mfsrr wants to be free
	hold time.Duration

	mu   sync.Mutex
	next int // rr's turn
	free struct {
		branch int
		until  time.Time
	}
}

func (p *policy) parse(text string) error {
	words := strings.Split(text, ":")
	p.name, p.hold = words[0], 30*time.Second
	wrong := fmt.Errorf("create=%s: want tdp, rr, mfs[:SECONDS] or mfsrr:BYTES[:SECONDS]", text)
	words = words[1:]
	switch p.name {
	case "", "tdp", "top-down-parent":
		p.name = "tdp"
	case "rr", "round-robin":
		p.name = "rr"
	case "mfs", "most-free-space":
		p.name = "mfs"
	case "mfsrr":
		if len(words) == 0 {
			return wrong
		}
		low, err := strconv.ParseUint(words[0], 10, 64)
		if err != nil {
			return wrong
		}
		p.low, words = low, words[1:]
	default:
		return wrong
	}
	if len(words) == 1 && (p.name == "mfs" || p.name == "mfsrr") {
		seconds, err := strconv.ParseUint(words[0], 10, 31)
		if err != nil {
			return wrong
		}
		p.hold, words = time.Duration(seconds)*time.Second, nil
	}
	if len(words) > 0 {
		return wrong
	}
	return nil
}
