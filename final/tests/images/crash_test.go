//go:build linux

package images_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"minidocker/final/image"
	"minidocker/final/image/archive"
	"minidocker/final/image/imagetest"
	"minidocker/final/image/registry"
	"minidocker/final/storage"
)

// TestMain is also the process that is killed: it does what its environment says.
func TestMain(m *testing.M) {
	if job := os.Getenv("IMAGES_TEST_JOB"); job != "" {
		if err := work(strings.Split(job, " ")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// work does: pull DIR NAME, load DIR FILE, import DIR FILE NAME, remove DIR NAME.
func work(job []string) error {
	s, err := image.Open(job[1] + "/image")
	if err != nil {
		return err
	}
	d, err := storage.Open(job[1]+"/storage", "overlay")
	if err != nil {
		return err
	}
	l := layers{d}
	ctx := context.Background()
	switch job[0] {
	case "pull":
		_, err = (&registry.Client{}).Pull(ctx, s, l, job[2], registry.PullOptions{})
		return err
	case "remove":
		_, err := s.Remove(job[2], image.RemoveOptions{Layers: l, Force: true})
		return err
	}
	f, err := os.Open(job[2])
	if err != nil {
		return err
	}
	defer f.Close()
	if job[0] == "load" {
		_, err = archive.Load(ctx, s, l, f, archive.LoadOptions{})
		return err
	}
	_, err = archive.Import(ctx, s, l, f, archive.ImportOptions{Name: job[3]})
	return err
}

// child starts a process that does a job.
func child(t testing.TB, job ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd, out := exec.Command("/proc/self/exe"), &bytes.Buffer{}
	cmd.Env = append(os.Environ(), "IMAGES_TEST_JOB="+strings.Join(job, " "), "DOCKER_CONFIG=/nonexistent")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// source is a registry, an archive and a root file system with an image of three layers in them.
type source struct{ name, archive, rootfs string }

func newSource(t testing.TB) source {
	t.Helper()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	src := source{
		name:    strings.TrimPrefix(server.URL, "http://") + "/fruits:1",
		archive: filepath.Join(t.TempDir(), "fruits.tar"), rootfs: filepath.Join(t.TempDir(), "rootfs.tar"),
	}
	s, l := open(t, t.TempDir())
	var img *image.Image
	for i := range 3 {
		var files []string
		for j := range 50 {
			files = append(files, fmt.Sprintf("layer%d/file%d", i, j), strings.Repeat(fmt.Sprint(i, j), 5000))
		}
		layer := imagetest.Tar(t, files...)
		if i == 0 {
			if err := os.WriteFile(src.rootfs, layer, 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			layer = imagetest.Gzip(t, layer)
		}
		var err error
		if img, err = archive.Commit(t.Context(), s, l, img, bytes.NewReader(layer), archive.CommitOptions{Name: src.name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&registry.Client{}).Push(t.Context(), s, src.name, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(src.archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := archive.Save(t.Context(), s, f, []string{src.name}, archive.FormatDocker); err != nil {
		t.Fatal(err)
	}
	return src
}

// TestKilled kills whoever changes the store, at any moment: what is there is whole, and nothing
// else is left when the next one has tidied up.
func TestKilled(t *testing.T) {
	src := newSource(t)
	for _, job := range [][]string{
		{"pull", src.name}, {"load", src.archive}, {"import", src.rootfs, "root"},
	} {
		t.Run(job[0], func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, l := open(t, dir)
			args := slices.Insert(slices.Clone(job), 1, dir)
			begin := time.Now()
			cmd, out := child(t, args...)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			takes, killed, done := time.Since(begin), 0, 0
			img := sound(t, s, l, 1)[0]
			for i := range 24 {
				if i%3 > 0 { // else what there was is there again, perhaps
					remove := []string{"remove", dir, img.ID}
					cmd, _ := child(t, remove...)
					if i%3 == 2 {
						time.Sleep(rand.N(takes))
						_ = cmd.Process.Kill() // it may have ended
					}
					_ = cmd.Wait()
				}
				cmd, _ := child(t, args...)
				time.Sleep(rand.N(takes * 5 / 4))
				_ = cmd.Process.Kill()
				if cmd.Wait() != nil {
					killed++
				} else {
					done++
				}
				sound(t, s, l, -1)
			}
			t.Logf("%d killed, %d came to their end", killed, done)
			cmd, out = child(t, args...)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("after all that: %v: %s", err, out)
			}
			for _, img := range sound(t, s, l, -1) {
				if _, err := s.Remove(img.ID, image.RemoveOptions{Layers: l, Force: true}); err != nil {
					t.Error(err)
				}
			}
			nothing(t, s, l, dir)
		})
	}
}

// sound sees that each image is whole, and that nothing else is there.
func sound(t testing.TB, s *image.Store, l layers, want int) []*image.Image {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	if want >= 0 && len(all) != want {
		t.Fatalf("there are %d images, want %d", len(all), want)
	}
	blobs, chains := map[string]bool{}, map[string]bool{}
	for _, img := range all {
		m, _, err := s.Manifest(img.Manifest.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range append([]image.Descriptor{img.Manifest, m.Config}, m.Layers...) {
			text, err := os.ReadFile(filepath.Join(s.Dir(), "blobs/sha256", d.Digest.Encoded()))
			if err != nil || image.DigestOf(text) != d.Digest.String() {
				t.Errorf("image %s: blob %s is damaged: %v", img.ID, d.Digest, err)
			}
			blobs[d.Digest.Encoded()] = true
		}
		for _, id := range img.ChainIDs {
			if !l.Exists(id) {
				t.Errorf("image %s: there is no layer %s", img.ID, id)
			}
			chains[id] = true
		}
	}
	if err := s.Collect(image.RemoveOptions{Layers: l}); err != nil {
		t.Fatal(err)
	}
	for _, name := range names(t, filepath.Join(s.Dir(), "blobs/sha256")) {
		if !blobs[name] {
			t.Errorf("there is a blob of nobody's, %s", name)
		}
	}
	left, err := l.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range left {
		if !chains[id] {
			t.Errorf("there is a layer of nobody's, %s", id)
		}
	}
	return all
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// nothing sees that nothing is left in an empty store.
func nothing(t testing.TB, s *image.Store, l layers, dir string) {
	t.Helper()
	sound(t, s, l, 0)
	if d, err := storage.Open(dir+"/storage", "overlay"); err != nil { // it cleans up
		t.Error(err)
	} else {
		d.Close() //nolint:errcheck // nothing is lost
	}
	for _, sub := range []string{"image/blobs/sha256", "image/leases", "storage/overlay/layers", "storage/overlay/tmp"} {
		if left := names(t, filepath.Join(dir, sub)); len(left) != 0 {
			t.Errorf("%s has %q", sub, left)
		}
	}
	known := []string{"blobs", "index.json", "leases", "lock", "oci-layout", "references.json"}
	if got := slices.Sorted(slices.Values(names(t, s.Dir()))); !slices.Equal(got, known) {
		t.Errorf("the store has %q, want %q", got, known)
	}
}

// TestAtOnce lets several processes pull, load and remove the same images at once: who pulls has
// the image at the end, whole, unless somebody has removed it again.
func TestAtOnce(t *testing.T) {
	src := newSource(t)
	dir := t.TempDir()
	s, l := open(t, dir)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for range 4 {
				job := [][]string{
					{"pull", dir, src.name}, {"load", dir, src.archive}, {"remove", dir, src.name},
					{"import", dir, src.rootfs, "root"},
				}[i]
				cmd, out := child(t, job...)
				if err := cmd.Wait(); err != nil && (job[0] != "remove" || !strings.Contains(out.String(), "no such image")) {
					t.Errorf("%s: %v: %s", job[0], err, out)
				}
			}
		})
	}
	group.Wait()
	for _, img := range sound(t, s, l, -1) {
		if _, err := s.Remove(img.ID, image.RemoveOptions{Layers: l, Force: true}); err != nil {
			t.Error(err)
		}
	}
	nothing(t, s, l, dir)
}

// TestFullDisk has a disk with less and less room: there is one clear error, and nothing is half
// made.
func TestFullDisk(t *testing.T) {
	src := newSource(t)
	for _, job := range [][]string{
		{"pull", src.name}, {"load", src.archive}, {"import", src.rootfs, "root"},
	} {
		t.Run(job[0], func(t *testing.T) {
			failed := 0
			for _, size := range []int{200, 400, 700, 1000, 1500, 2000, 20000} {
				failed += onDisk(t, size, job)
			}
			if failed == 0 || failed == 7 {
				t.Errorf("it failed %d times of 7", failed)
			}
		})
	}
}

// onDisk does a job on a disk of so many KiB, and returns 1 if it failed.
func onDisk(t *testing.T, size int, job []string) int {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("disk", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", size)); err != nil {
		t.Fatalf("mount: %v: the tests need root", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // a temporary folder's
	s, err := image.Open(dir + "/image")
	if err != nil {
		t.Fatal(err)
	}
	d, err := storage.Open(dir+"/storage", "overlay")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // nothing is lost
	cmd, out := child(t, slices.Insert(slices.Clone(job), 1, dir)...)
	if cmd.Wait() == nil {
		sound(t, s, layers{d}, 1)
		return 0
	}
	message := out.String()
	t.Logf("%d KiB: %s", size, message)
	if !strings.Contains(message, "no space left") {
		t.Errorf("the error does not say that the disk is full: %s", message)
	}
	if left := names(t, dir+"/image/blobs/sha256"); len(left) != 0 {
		t.Errorf("blobs that nobody needs fill the disk: %q", left)
	}
	if n := strings.Count(strings.TrimSpace(message), "\n"); n > 0 {
		t.Errorf("the error has %d lines", n+1)
	}
	nothing(t, s, layers{d}, dir)
	return 1
}

// TestDamaged sees that what the disk has damaged is noticed before it is unpacked.
func TestDamaged(t *testing.T) {
	src := newSource(t)
	dir := t.TempDir()
	s, l := open(t, dir)
	p, err := (&registry.Client{}).Pull(t.Context(), s, nil, src.name, registry.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), "blobs/sha256", p.Image.Layers[1].Digest.Encoded())
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = (&registry.Client{}).Pull(t.Context(), s, l, src.name, registry.PullOptions{})
	if err == nil || l.Exists(p.Image.ChainIDs[1]) {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the error does not say what is wrong")
	}
}
