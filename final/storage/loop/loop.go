//go:build linux

// Package loop makes a block device of a file: loop(4). It knows no file systems.
package loop

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tries is how often another may take the device that was free a moment ago.
const tries = 100

// Attach gives a loop device whose blocks are the file's, which is open for reading and writing.
// The device lets go of the file when it is closed for the last time, by whoever has it: a mount,
// another device, the caller.
func Attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no loop devices (modprobe loop): %w", err)
	}
	defer control.Close()
	for try := 0; ; try++ {
		device, err := attach(control, file)
		if !errors.Is(err, unix.EBUSY) || try == tries {
			return device, err
		}
	}
}

func attach(control, file *os.File) (*os.File, error) {
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("find a free loop device: %w", os.NewSyscallError("ioctl", err))
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{
		Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR},
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file.Name())    // losetup shows it
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil { // since Linux 5.8
		device.Close()
		return nil, &os.PathError{Op: "ioctl LOOP_CONFIGURE", Path: device.Name(), Err: err}
	}
	return device, nil
}
