//go:build linux

package devicemapper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is /dev/mapper/control, by which the kernel is told which devices there are: each has a
// name and a table, which says what its sectors are. dmsetup(8) speaks to it, too. See
// linux/dm-ioctl.h.
type control struct{ *os.File }

func openControl() (*control, error) {
	f, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no device-mapper (modprobe dm_thin_pool): %w", err)
	}
	return &control{f}, nil
}

// device is what the kernel says about one.
type device struct {
	number    uint64 // dev_t
	live      bool   // it has a table that is in use
	suspended bool
	deferred  bool // it goes when nobody has it open
}

// buffer is the argument of a request: a header, and what it says more. Its words align it.
type buffer []uint64

func (b buffer) header() *unix.DmIoctl { return (*unix.DmIoctl)(unsafe.Pointer(&b[0])) }

func (b buffer) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&b[0])), len(b)*8)
}

// room is how much an answer may have.
const room = 4096

// call makes a request about a device, and gives the header and what follows it.
func (c *control) call(
	what string, request uint, name string, flags uint32, more []byte,
) (*unix.DmIoctl, []byte, error) {
	const size = unix.SizeofDmIoctl
	b := make(buffer, (size+max(len(more), room)+7)/8)
	h := b.header()
	h.Version = [3]uint32{unix.DM_VERSION_MAJOR, 0, 0}
	h.Data_size, h.Data_start, h.Flags = uint32(len(b)*8), size, flags
	copy(h.Name[:len(h.Name)-1], name)
	copy(b.bytes()[size:], more)
	if request == unix.DM_TABLE_LOAD {
		h.Target_count = 1
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.Fd(), uintptr(request),
		uintptr(unsafe.Pointer(&b[0])))
	runtime.KeepAlive(c)
	if errno != 0 {
		return nil, nil, fmt.Errorf("device %s: %s: %w", name, what, errno)
	}
	return h, b.bytes()[min(h.Data_start, h.Data_size):h.Data_size], nil
}

// status finds a device; it is ENXIO if there is none.
func (c *control) status(name string) (device, error) {
	h, _, err := c.call("DM_DEV_STATUS", unix.DM_DEV_STATUS, name, 0, nil)
	if err != nil {
		return device{}, err
	}
	return device{
		number: h.Dev, live: h.Flags&unix.DM_ACTIVE_PRESENT_FLAG != 0,
		suspended: h.Flags&unix.DM_SUSPEND_FLAG != 0,
		deferred:  h.Flags&unix.DM_DEFERRED_REMOVE != 0,
	}, nil
}

// create makes a device of one target: so many sectors of a kind, with its parameters.
func (c *control) create(
	name string, sectors uint64, kind, parameters string, readOnly bool,
) (device, error) {
	if _, _, err := c.call("DM_DEV_CREATE", unix.DM_DEV_CREATE, name, 0, nil); err != nil {
		return device{}, err
	}
	flags := uint32(0)
	if readOnly {
		flags = unix.DM_READONLY_FLAG
	}
	_, _, err := c.call("DM_TABLE_LOAD, "+kind+" "+parameters, unix.DM_TABLE_LOAD, name, flags,
		target(sectors, kind, parameters))
	if err == nil {
		err = c.resume(name)
	}
	var d device
	if err == nil {
		d, err = c.status(name)
	}
	if err != nil {
		return d, errors.Join(err, c.remove(name, false))
	}
	return d, nil
}

// target is a table of one line: struct dm_target_spec and its parameters.
func target(sectors uint64, kind, parameters string) []byte {
	spec := unix.DmTargetSpec{Length: sectors}
	copy(spec.Target_type[:len(spec.Target_type)-1], kind)
	size := (unix.SizeofDmTargetSpec + len(parameters) + 1 + 7) / 8 * 8
	spec.Next = uint32(size)
	table := make([]byte, size)
	copy(table, unsafe.Slice((*byte)(unsafe.Pointer(&spec)), unix.SizeofDmTargetSpec))
	copy(table[unix.SizeofDmTargetSpec:], parameters)
	return table
}

// resume makes the table that was loaded the one in use.
func (c *control) resume(name string) error {
	_, _, err := c.call("resume, DM_DEV_SUSPEND", unix.DM_DEV_SUSPEND, name, 0, nil)
	return err
}

// suspend waits for what is on its way to the device, has its file system write all that it has
// not, and holds up what comes then, until resume.
func (c *control) suspend(name string) error {
	_, _, err := c.call("DM_DEV_SUSPEND", unix.DM_DEV_SUSPEND, name, unix.DM_SUSPEND_FLAG, nil)
	return err
}

// remove takes a device away; nothing on the disk is changed. If it is in use, it is EBUSY; or,
// deferred, it goes when that is over. It is nil if there is none.
func (c *control) remove(name string, deferred bool) error {
	flags := uint32(0)
	if deferred {
		flags = unix.DM_DEFERRED_REMOVE // since Linux 3.13
	}
	_, _, err := c.call("DM_DEV_REMOVE", unix.DM_DEV_REMOVE, name, flags, nil)
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	return err
}

// message tells a device's target something.
func (c *control) message(name, text string) error {
	more := make([]byte, 8+len(text)+1) // struct dm_target_msg: the sector, and the text
	binary.NativeEndian.PutUint64(more, 0)
	copy(more[8:], text)
	_, _, err := c.call("message "+text, unix.DM_TARGET_MSG, name, 0, more)
	return err
}

// report is what the target of a device says about itself.
func (c *control) report(name string) (string, error) {
	h, data, err := c.call("DM_TABLE_STATUS", unix.DM_TABLE_STATUS, name, 0, nil)
	if err != nil || h.Target_count == 0 || len(data) < unix.SizeofDmTargetSpec {
		return "", err
	}
	text, _, _ := strings.Cut(string(data[unix.SizeofDmTargetSpec:]), "\x00")
	return text, nil
}

// ready finds a device that is going to be used: it does not go, even if somebody has asked for
// that, and it is not what somebody has left who was killed half way. It is ENXIO if there is none.
func (c *control) ready(name string) (device, error) {
	d, err := c.status(name)
	switch {
	case err != nil:
		return d, err
	case !d.live:
		return d, errors.Join(unix.ENXIO, c.remove(name, false))
	case d.suspended:
		err = c.resume(name)
	}
	if err == nil && d.deferred {
		err = c.message(name, "@cancel_deferred_remove")
	}
	return d, err
}
