//go:build linux

package engine

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lookAgain is how long a reader of a log waits at most: that a shim was killed happens in no
// folder.
const lookAgain = 500 * time.Millisecond

// folders is all of this process's waiting for what happens in folders: inotify(7). It is one
// instance for all, since a user may have 128.
var folders watches

type watches struct {
	mu   sync.Mutex
	file *os.File
	by   map[int32]map[*folderWatch]bool // by inotify's number for the folder
}

// folderWatch waits until something happens in a folder.
type folderWatch struct {
	all      *watches
	number   int32
	happened chan struct{}
}

// watch begins to wait for what happens in a folder.
func (w *watches) watch(dir string) (*folderWatch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, os.NewSyscallError("inotify_init1", err)
		}
		w.file = os.NewFile(uintptr(fd), "inotify")
		w.by = map[int32]map[*folderWatch]bool{}
		go w.read(w.file)
	}
	raw, err := w.file.SyscallConn() // Fd would make it blocking
	if err != nil {
		return nil, err
	}
	number, failed := 0, error(nil)
	if err := raw.Control(func(fd uintptr) {
		number, failed = unix.InotifyAddWatch(int(fd), dir, unix.IN_MODIFY|unix.IN_CREATE|
			unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_DELETE_SELF)
	}); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, &os.PathError{Op: "inotify_add_watch", Path: dir, Err: failed}
	}
	f := &folderWatch{all: w, number: int32(number), happened: make(chan struct{}, 1)}
	if w.by[f.number] == nil {
		w.by[f.number] = map[*folderWatch]bool{}
	}
	w.by[f.number][f] = true
	return f, nil
}

// read tells all who wait.
func (w *watches) read(file *os.File) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := file.Read(buffer)
		if err != nil {
			return
		}
		w.mu.Lock()
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			event := buffer[at:n]
			number := int32(binary.NativeEndian.Uint32(event))
			mask, length := binary.NativeEndian.Uint32(event[4:]), binary.NativeEndian.Uint32(event[12:])
			at += unix.SizeofInotifyEvent + int(length)
			w.tell(number, mask&unix.IN_Q_OVERFLOW != 0)
			if mask&unix.IN_IGNORED != 0 { // the folder is gone, and its number with it
				delete(w.by, number)
			}
		}
		w.mu.Unlock()
	}
}

func (w *watches) tell(number int32, everybody bool) {
	all := map[int32]map[*folderWatch]bool{number: w.by[number]}
	if everybody {
		all = w.by
	}
	for _, waiting := range all {
		for f := range waiting {
			select {
			case f.happened <- struct{}{}:
			default: // it has been told
			}
		}
	}
}

func (f *folderWatch) close() {
	w := f.all
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.by[f.number][f] {
		return
	}
	delete(w.by[f.number], f)
	if len(w.by[f.number]) > 0 {
		return
	}
	delete(w.by, f.number)
	if raw, err := w.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_, _ = unix.InotifyRmWatch(int(fd), uint32(f.number)) // the folder may be gone
		})
	}
}

// wait waits for the next happening, and at most so long.
func (f *folderWatch) wait(ctx context.Context, most time.Duration) error {
	limit := time.NewTimer(most)
	defer limit.Stop()
	select {
	case <-f.happened:
	case <-limit.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
