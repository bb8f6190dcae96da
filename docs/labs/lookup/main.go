//go:build linux

// Command lookup measures what a file costs in an overlay of many layers: to find it, and
// to read and write it once it is open.
//
//	lookup [-max 128] [-files 500] [-rounds 3]
//
// The file lies in the lowest layer, so that all others are asked first. Each layer has
// the same folder, with something else in it: a folder that a layer does not have ends
// the search in that layer. It works in a mount namespace of its own, on a tmpfs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

const top = "/tmp" // where the tmpfs is mounted

func main() {
	most := flag.Int("max", 128, "the largest number of layers, up to 400")
	files := flag.Int("files", 500, "how many files to look up")
	rounds := flag.Int("rounds", 3, "how often; the best counts")
	flag.Parse()
	if err := run(*most, *files, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "lookup:", err)
		os.Exit(1)
	}
}

func run(most, files, rounds int) error {
	if most < 1 || most > 400 || files < 1 || rounds < 1 {
		return errors.New("want -max from 1 to 400, and at least one file and one round")
	}
	if err := ownMounts(); err != nil {
		return err
	}
	if err := makeLayers(most, files); err != nil {
		return err
	}
	var rows []row
	for n := 1; ; n = min(2*n, most) {
		best := row{layers: n}
		for range rounds {
			r, err := measure(n, files)
			if err != nil {
				return err
			}
			best = best.better(r)
		}
		rows = append(rows, best)
		if n == most {
			break
		}
	}
	if err := printTable(rows); err != nil {
		return err
	}
	plot(rows)
	return nil
}

// ownMounts moves this process into a mount namespace with a new tmpfs, which ends with it.
func ownMounts() error {
	runtime.LockOSThread() // the namespace is this thread's
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare (it takes root): %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", top, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", top, err)
	}
	return os.Chdir(top)
}

// makeLayers makes the folders 1, 2, … of the layers, 1 being the lowest.
func makeLayers(most, files int) error {
	for n := 1; n <= most; n++ {
		dir := fmt.Sprintf("%d/d", n)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("%s/of-layer-%d", dir, n), nil, 0o644); err != nil {
			return err
		}
	}
	content := make([]byte, 4096)
	for i := range files {
		if err := os.WriteFile(fmt.Sprintf("1/d/file-%d", i), content, 0o644); err != nil {
			return err
		}
	}
	return os.Mkdir("merged", 0o755)
}

// row is what one operation costs, on average, over that many layers.
type row struct {
	layers                                    int
	stat, open, missing, again, read, written time.Duration
}

// better takes the smaller figure of each kind: what is more was somebody else's doing.
func (r row) better(s row) row {
	for _, pair := range [][2]*time.Duration{
		{&r.stat, &s.stat}, {&r.open, &s.open}, {&r.missing, &s.missing},
		{&r.again, &s.again}, {&r.read, &s.read}, {&r.written, &s.written},
	} {
		if *pair[0] == 0 || *pair[1] < *pair[0] {
			*pair[0] = *pair[1]
		}
	}
	return r
}

// measure does each operation once on every file. The kernel remembers what it has
// looked up, so each kind of lookup gets a new mount, which knows nothing.
func measure(layers, files int) (row, error) {
	r := row{layers: layers}
	name := func(i int) string { return fmt.Sprintf("merged/d/file-%d", i) }
	stat := func(i int) error { return unix.Stat(name(i), &unix.Stat_t{}) }
	err := inOverlay(layers, func() (err error) {
		if r.stat, err = average(files, stat); err != nil {
			return err
		}
		r.again, err = average(files, stat)
		return err
	})
	if err != nil {
		return r, err
	}
	err = inOverlay(layers, func() (err error) {
		r.missing, err = average(files, func(i int) error {
			err := unix.Stat(fmt.Sprintf("merged/d/none-%d", i), &unix.Stat_t{})
			if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("stat of a file that is in no layer: %w", err)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return r, err
	}
	err = inOverlay(layers, func() (err error) {
		r.open, err = average(files, func(i int) error {
			fd, err := unix.Open(name(i), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		})
		if err != nil {
			return err
		}
		r.read, r.written, err = readAndWrite(name(0), files)
		return err
	})
	return r, err
}

// readAndWrite reads 4 KiB of one open file again and again, and writes them; the copy
// that the first write makes of the file is not counted.
func readAndWrite(name string, times int) (read, written time.Duration, err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	data := make([]byte, 4096)
	read, err = average(times, func(int) error { _, err := f.ReadAt(data, 0); return err })
	if err != nil {
		return 0, 0, err
	}
	written, err = average(times, func(int) error { _, err := f.WriteAt(data, 0); return err })
	return read, written, err
}

// average is the time that do takes, for the numbers below n.
func average(n int, do func(i int) error) (time.Duration, error) {
	start := time.Now()
	for i := range n {
		if err := do(i); err != nil {
			return 0, err
		}
	}
	return time.Since(start) / time.Duration(n), nil
}

// inOverlay mounts an overlay of the first layers, with a new writable one, calls do and
// unmounts it.
func inOverlay(layers int, do func() error) error {
	for _, dir := range []string{"upper", "work"} {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			return err
		}
	}
	var lower []string // the uppermost first
	for n := layers; n >= 1; n-- {
		lower = append(lower, fmt.Sprint(n))
	}
	data := "upperdir=upper,workdir=work,lowerdir=" + strings.Join(lower, ":")
	if err := unix.Mount("overlay", "merged", "overlay", 0, data); err != nil {
		return fmt.Errorf("mount an overlay of %d layers: %w", layers, err)
	}
	err := do()
	if e := unix.Unmount("merged", 0); e != nil {
		err = errors.Join(err, fmt.Errorf("umount: %w", e))
	}
	return err
}

func printTable(rows []row) error {
	fmt.Println("microseconds for each, the file being in the lowest layer:")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "layers\tfirst stat\tfirst open\tstat of none\tstat again\t"+
		"read 4 KiB\twrite 4 KiB\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%d\t", r.layers)
		for _, d := range []time.Duration{r.stat, r.open, r.missing, r.again, r.read, r.written} {
			fmt.Fprintf(w, "%.2f\t", microseconds(d))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// plot draws the first stat (s) and the read (r) of each row as bars, on one scale.
func plot(rows []row) {
	const width = 60
	longest := time.Duration(1)
	for _, r := range rows {
		longest = max(longest, r.stat, r.read)
	}
	bar := func(mark string, d time.Duration) string {
		return strings.Repeat(mark, int(max(1, (d*width+longest/2)/longest)))
	}
	fmt.Printf("\nfirst stat (s) and read (r) by layers, %.2f µs wide:\n", microseconds(longest))
	for _, r := range rows {
		fmt.Printf("%6d %s\n%6s %s\n", r.layers, bar("s", r.stat), "", bar("r", r.read))
	}
}
