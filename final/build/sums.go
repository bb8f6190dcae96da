//go:build linux

package build

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sums are the digests of a folder's files as they were when they were read last, so that what has
// not been touched since is not read again: as git's index, by what only the kernel can set. The
// status change time of a file follows each change of its content (inode(7)).
type sums struct {
	path    string // of the file that keeps them
	began   time.Time
	mu      sync.Mutex
	known   map[string]sum
	seen    map[string]sum // in this build
	changed bool
}

// sum is a file's digest, and what the file was then.
type sum struct {
	Name   string
	Ino    uint64
	Size   int64
	Mtime  int64 // ns
	Ctime  int64 // ns
	Digest string
}

// settled is how old a change must be for the next to have another time: file systems count in
// ticks of the clock, of up to 10 ms; NFS and FAT in seconds.
var settled = 3 * time.Second

// openSums reads what is known of a folder; that may be nothing.
func openSums(base string, root *os.File) *sums {
	var st unix.Stat_t
	if unix.Fstat(int(root.Fd()), &st) != nil {
		return nil
	}
	name := key("SUMS", fmt.Sprint(st.Dev), fmt.Sprint(st.Ino))
	s := &sums{path: filepath.Join(base, "sums", name), began: time.Now(),
		known: map[string]sum{}, seen: map[string]sum{}}
	f, err := os.Open(s.path)
	if err != nil {
		return s
	}
	defer f.Close()
	for in := json.NewDecoder(bufio.NewReaderSize(f, 256<<10)); ; {
		var one sum
		if in.Decode(&one) != nil {
			return s
		}
		s.known[one.Name] = one
	}
}

func sumOf(n *node) sum {
	return sum{Name: n.path, Ino: n.st.Ino, Size: n.st.Size, Mtime: unix.TimespecToNsec(n.st.Mtim),
		Ctime: unix.TimespecToNsec(n.st.Ctim), Digest: n.sum}
}

// find gives a file's digest if it is known and the file has not been touched since.
func (s *sums) find(n *node) string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.known[n.path]
	is := sumOf(n)
	if is.Digest = was.Digest; !ok || is != was {
		return ""
	}
	s.seen[n.path] = was
	return was.Digest
}

// add notes a file's digest, unless the file was changed just now, and could be once more at the
// same time.
func (s *sums) add(n *node) {
	is := sumOf(n)
	if s == nil || is.Ctime > s.began.Add(-settled).UnixNano() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[n.path], s.changed = is, true
}

// save keeps what was seen. Should it fail, all will be read again.
func (s *sums) save() {
	if s == nil || !s.changed {
		return
	}
	if os.MkdirAll(filepath.Dir(s.path), 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".new-")
	if err != nil {
		return
	}
	out := bufio.NewWriterSize(f, 256<<10)
	to := json.NewEncoder(out)
	for _, one := range s.seen {
		err = to.Encode(one)
	}
	if err == nil {
		err = out.Flush()
	}
	f.Close()
	if err != nil || os.Rename(f.Name(), s.path) != nil {
		_ = os.Remove(f.Name())
	}
}
