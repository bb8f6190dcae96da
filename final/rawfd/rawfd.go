//go:build linux

// Package rawfd has files as plain descriptors, for a program whose whole life is a few
// milliseconds. Package os asks for each file's flags, offers it to the poller and watches
// that it is closed in the end, which is more work than what such a program does with it.
//
// Reading and writing block the thread.
package rawfd

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// File is an open descriptor.
type File struct {
	fd   int
	name string
}

// New returns a File for a descriptor that is open, and now the File's.
func New(fd int, name string) *File { return &File{fd, name} }

// Open opens a path, close-on-exec; flags are those of open(2).
func Open(path string, flags int) (*File, error) { return create(path, flags, 0) }

func create(path string, flags int, mode uint32) (*File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return &File{fd, path}, nil
	}
}

// Pipe returns both ends of a pipe, close-on-exec.
func Pipe() (r, w *File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return New(p[0], "|0"), New(p[1], "|1"), nil
}

// Fd is the descriptor's number.
func (f *File) Fd() uintptr { return uintptr(f.fd) }

// Name is the path that the file was opened by.
func (f *File) Name() string { return f.name }

// Close closes it; a second time is no harm.
func (f *File) Close() error {
	if f.fd < 0 {
		return nil
	}
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// Read is io.Reader's.
func (f *File) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(f.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, &os.PathError{Op: "read", Path: f.name, Err: err}
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Write is io.Writer's.
func (f *File) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Write(f.fd, b[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, &os.PathError{Op: "write", Path: f.name, Err: err}
		}
		done += n
	}
	return done, nil
}

// ReadFile returns all that is in a file.
func ReadFile(path string) ([]byte, error) {
	f, err := Open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f)
}

// ReadAll reads a file to its end.
func ReadAll(f *File) ([]byte, error) {
	data := make([]byte, 0, 4096)
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return data, err
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// SetFile writes to a file that is there, as a kernel's is: in one piece.
func SetFile(path, value string) error {
	return write(path, []byte(value), unix.O_WRONLY, 0)
}

// WriteFile makes a file, or replaces what is in it.
func WriteFile(path string, data []byte, mode uint32) error {
	return write(path, data, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, mode)
}

func write(path string, data []byte, flags int, mode uint32) error {
	f, err := create(path, flags, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
