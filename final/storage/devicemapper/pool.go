//go:build linux

package devicemapper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"minidocker/final/fsmount"
	"minidocker/final/storage/loop"
)

const (
	sector = 512
	// blockSectors is what the pool gives out at once: 64 KiB.
	blockSectors = 128
	// lowWater is at how many blocks left the kernel tells who listens.
	lowWater = 32768
	// Sizes of what takes no room until it is written to: Docker's.
	dataSize, metadataSize, volumeSize = 100 << 30, 2 << 30, 10 << 30
	baseVolume                         = 0
)

// pool is a thin pool, of which volumes are made:
//
//	DIR/data, DIR/metadata   sparse files ── loop devices ── the pool ── volumes, by numbers
//	DIR/next                 the number that the next volume gets
//	DIR/base                 there when volume 0 has an empty ext4
//	DIR/suspended            the device that waits while a snapshot is made, if one does
//	DIR/lock                 held by whoever changes something (flock(2))
//	DIR/users                held, shared, by all who may use the pool
//
// The pool is there while somebody uses it, or a volume of it. The kernel knows no volumes, only
// devices that somebody has made of them: those are there while they are mounted.
type pool struct {
	dir, name string
	control   *control
	mu        sync.Mutex
	users     *os.File // nil: not in use yet
}

func newPool(dir string) (*pool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	c, err := openControl()
	if err != nil {
		return nil, err
	}
	// The names of devices are the whole machine's.
	name := fmt.Sprintf("minidocker-%d:%d-%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	return &pool{dir: dir, name: name, control: c}, nil
}

func (p *pool) path(name string) string { return filepath.Join(p.dir, name) }

// poolName and volumeName are the devices'.
func (p *pool) poolName() string         { return p.name + "-pool" }
func (p *pool) volumeName(id int) string { return fmt.Sprintf("%s-%d", p.name, id) }

// locked calls f while no other process changes anything, and the pool is there.
func (p *pool) locked(f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	lock, err := flock(p.path("lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := p.begin(); err != nil {
		return fmt.Errorf("thin pool: %w", err)
	}
	return f()
}

func flock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		return f, nil
	}
}

// begin sees that the pool is there, and stays. It is called with the lock held.
func (p *pool) begin() error {
	if p.users != nil {
		return nil
	}
	users, err := flock(p.path("users"), unix.LOCK_SH)
	if err != nil {
		return err
	}
	_, err = p.control.ready(p.poolName())
	if errors.Is(err, unix.ENXIO) {
		err = p.make()
	}
	if err == nil {
		err = p.resume()
	}
	if err != nil {
		users.Close()
		return err
	}
	p.users = users
	if _, err := os.Lstat(p.path("base")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.format()
}

// make makes the pool's device.
func (p *pool) make() error {
	metadata, err := attach(p.path("metadata"), metadataSize)
	if err != nil {
		return err
	}
	defer metadata.Close()
	data, err := attach(p.path("data"), dataSize)
	if err != nil {
		return err
	}
	defer data.Close()
	numbers := make([]string, 2)
	for i, f := range []*os.File{metadata, data} {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return os.NewSyscallError("fstat", err)
		}
		numbers[i] = number(st.Rdev)
	}
	// A new block is not filled with zeros first: the file systems do not show what they have not
	// written. When there is no room, an error is better than to wait for some.
	parameters := fmt.Sprintf("%s %d %d 2 skip_block_zeroing error_if_no_space",
		strings.Join(numbers, " "), blockSectors, lowWater)
	_, err = p.control.create(p.poolName(), dataSize/sector, "thin-pool", parameters, false)
	return err
}

func number(device uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
}

// attach makes a block device of a file that takes no room until it is written to.
func attach(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	return loop.Attach(f)
}

// format makes the volume of which all others are snapshots: an empty ext4.
func (p *pool) format() error {
	if err := p.delete(baseVolume); err != nil { // half made
		return err
	}
	if err := p.control.message(p.poolName(), fmt.Sprint("create_thin ", baseVolume)); err != nil {
		return err
	}
	d, err := p.open(baseVolume, false)
	if err != nil {
		return err
	}
	err = p.fill(d)
	if err := errors.Join(err, d.Close(), p.hide(baseVolume)); err != nil {
		return err
	}
	f, err := os.Create(p.path("base"))
	if err != nil {
		return err
	}
	return f.Close()
}

func (p *pool) fill(d *os.File) error {
	// Its inode tables are written when they are needed, and take no room until then.
	const lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazy, d.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4 (apt-get install e2fsprogs): %w: %s", err, out)
	}
	tree, err := fsmount.New("ext4", d.Name(), mountOptions(false))
	if err != nil {
		return err
	}
	defer tree.Close()
	// fsck's folder is no container's.
	err = unix.Unlinkat(int(tree.Fd()), "lost+found", unix.AT_REMOVEDIR)
	return errors.Join(os.NewSyscallError("unlinkat", err),
		os.NewSyscallError("fchmodat", unix.Fchmodat(int(tree.Fd()), ".", 0o755, 0)))
}

// mountOptions: no thread that writes the tables of an empty file system.
func mountOptions(readOnly bool) []string {
	if readOnly {
		return []string{"ro", "noinit_itable"}
	}
	return []string{"rw", "noinit_itable"}
}

// snapshot makes a volume that shares all blocks with another. note is told its number before it
// is there.
func (p *pool) snapshot(origin int, note func(id int) error) error {
	name := p.volumeName(origin)
	_, err := p.control.status(name)
	if errors.Is(err, unix.ENXIO) {
		return p.snap(origin, note)
	}
	if err != nil {
		return err
	}
	// It is mounted, perhaps: all that was written must be there.
	if err := os.WriteFile(p.path("suspended"), []byte(name), 0o600); err != nil {
		return err
	}
	if err = p.control.suspend(name); err == nil {
		err = p.snap(origin, note)
	}
	return errors.Join(err, p.resume())
}

// resume lets the device go on that waits for a snapshot, also if who made it was killed.
func (p *pool) resume() error {
	name, err := os.ReadFile(p.path("suspended"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.control.resume(string(name)); err != nil && !errors.Is(err, unix.ENXIO) {
		return err
	}
	return os.Remove(p.path("suspended"))
}

func (p *pool) snap(origin int, note func(id int) error) error {
	for {
		id, err := p.next()
		if err != nil {
			return err
		}
		if err := note(id); err != nil {
			return err
		}
		err = p.control.message(p.poolName(), fmt.Sprint("create_snap ", id, " ", origin))
		if !errors.Is(err, unix.EEXIST) { // the machine has crashed and forgotten our count
			return err
		}
	}
}

// maxVolume is the largest number: 24 bits.
const maxVolume = 1<<24 - 1

// next counts volumes. None gets a number that another had.
func (p *pool) next() (int, error) {
	id := baseVolume + 1
	text, err := os.ReadFile(p.path("next"))
	if err == nil {
		id, err = strconv.Atoi(strings.TrimSpace(string(text)))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return 0, err
	}
	if id > maxVolume {
		return 0, errors.New("all numbers of volumes are used up: take another folder")
	}
	temporary := p.path("next.new")
	if err := os.WriteFile(temporary, fmt.Appendln(nil, id+1), 0o600); err != nil {
		return 0, err
	}
	return id, os.Rename(temporary, p.path("next"))
}

// open makes a device of a volume, if there is none, and opens it: while it is open, it stays.
func (p *pool) open(id int, readOnly bool) (*os.File, error) {
	name := p.volumeName(id)
	d, err := p.control.ready(name)
	if errors.Is(err, unix.ENXIO) {
		var of device
		if of, err = p.control.status(p.poolName()); err != nil {
			return nil, err
		}
		d, err = p.control.create(name, volumeSize/sector, "thin",
			fmt.Sprint(number(of.number), " ", id), readOnly)
	}
	if err != nil {
		return nil, err
	}
	node, err := p.node(name, d.number)
	if err != nil {
		return nil, err
	}
	return os.Open(node)
}

// node is a path to a device: the kernel's own in /dev, or one of ours where that is no devtmpfs.
func (p *pool) node(name string, device uint64) (string, error) {
	var st unix.Stat_t
	node := fmt.Sprintf("/dev/dm-%d", unix.Minor(device))
	if unix.Stat(node, &st) == nil && st.Rdev == device && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		return node, nil
	}
	node = p.path(filepath.Join("dev", name))
	if err := os.MkdirAll(filepath.Dir(node), 0o700); err != nil {
		return "", err
	}
	if err := unix.Unlink(node); err != nil && err != unix.ENOENT {
		return "", &os.PathError{Op: "unlink", Path: node, Err: err}
	}
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(device)); err != nil {
		return "", &os.PathError{Op: "mknod", Path: node, Err: err}
	}
	return node, nil
}

// hide takes the device of a volume away, or has it go when it is closed.
func (p *pool) hide(id int) error {
	if err := unix.Unlink(p.path("dev/" + p.volumeName(id))); err != nil && err != unix.ENOENT &&
		err != unix.ENOTDIR {
		return &os.PathError{Op: "unlink", Path: p.path("dev"), Err: err}
	}
	return p.control.remove(p.volumeName(id), true)
}

// patience is how long a device may still be in use by what has ended: a mount namespace goes late,
// and so does the device that was in it.
const patience = 2 * time.Second

// delete deletes a volume and its device. It is nil if there is none, and EBUSY if it is mounted.
func (p *pool) delete(id int) error {
	for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := p.control.remove(p.volumeName(id), false)
		if err == nil {
			err = p.control.message(p.poolName(), fmt.Sprint("delete ", id))
		}
		if errors.Is(err, unix.ENODATA) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("something is mounted there, unmount it first: %w", err)
		}
	}
}

// close lets go of the pool. The last one takes its device away, or has it go with the last volume
// that is mounted; the loop devices go with it.
func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.control.Close()
	if p.users == nil {
		return nil
	}
	lock, err := flock(p.path("lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer p.users.Close()
	if unix.Flock(int(p.users.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // others use it
	}
	return p.control.remove(p.poolName(), true)
}
