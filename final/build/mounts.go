//go:build linux

package build

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"minidocker/final/engine"
	"minidocker/final/fsmount"
	"minidocker/final/storage"
	"minidocker/final/storage/tree"
)

// mountsReady are a RUN's mounts: those of the host's folders, and layers.
type mountsReady struct {
	mounts []mount.Mount
	tmpfs  map[string]string // options, by the path
	trees  []engine.Tree
	env    []string
	undo   []func()
}

func (m *mountsReady) close() {
	for _, t := range m.take() {
		t.File.Close()
	}
	for i := len(m.undo) - 1; i >= 0; i-- {
		m.undo[i]()
	}
}

// take gives the trees to who closes them.
func (m *mountsReady) take() []engine.Tree {
	trees := m.trees
	m.trees = nil
	return trees
}

// bind mounts a file or folder of the host's.
func (m *mountsReady) bind(source, target string, readOnly bool) {
	m.mounts = append(m.mounts, mount.Mount{Type: mount.TypeBind, Source: source, Target: target,
		ReadOnly: readOnly})
}

// mountKey is what of a mount counts for the layer.
func (r *running) mountKey(m *instructions.Mount) (string, error) {
	words := []string{string(m.Type), m.Source, r.target(m), strconv.FormatBool(m.ReadOnly), m.CacheID,
		fmt.Sprint(m.SizeLimit)}
	if m.Env != nil {
		words = append(words, "env", *m.Env)
	}
	if m.Type == instructions.MountTypeBind {
		layer, err := r.bindLayer(m)
		if err != nil {
			return "", err
		}
		words = append(words, layer)
	}
	return key(words...), nil
}

// target is where a mount is in the container.
func (r *running) target(m *instructions.Mount) string {
	target := m.Target
	if m.Type == instructions.MountTypeSecret && target == "" {
		target = "/run/secrets/" + path.Base(cmp.Or(m.CacheID, m.Source))
	}
	return path.Clean(absolute(r.at.config.Config.WorkingDir, target))
}

// bindLayer is the layer that a bind mount shows: a stage's, an image's, or one that is made of
// the context.
func (r *running) bindLayer(m *instructions.Mount) (string, error) {
	if r.bound == nil {
		r.bound = map[*instructions.Mount]string{}
	}
	if top, ok := r.bound[m]; ok {
		return top, nil
	}
	c := &copying{s: r.s, at: &state{}, from: m.From, dest: "/"}
	defer c.end()
	if m.From != "" {
		other, err := r.s.other(m.From)
		if err != nil {
			return "", err
		}
		if other != nil {
			r.bound[m] = other.top()
			return other.top(), nil
		}
	}
	from, err := c.source()
	if err != nil {
		return "", err
	}
	it, err := from.collect(m.Source, nil)
	if err != nil {
		return "", err
	}
	c.items, c.dest = []*item{it}, path.Clean("/"+m.Source)
	if it.isFolder() && c.dest != "/" {
		c.dest += "/"
	}
	k := key("BIND", c.dest, it.digest())
	kept := r.s.b.kept(k, "")
	if kept == nil {
		l, err := c.make()
		if err != nil {
			return "", err
		}
		kept = &result{Blob: l.Blob, DiffID: l.Layer.DiffID, Created: r.s.b.now()}
		if err := r.s.b.keep(c.at, []string{k}, kept); err != nil {
			return "", err
		}
	}
	r.bound[m] = strings.TrimPrefix(kept.DiffID, "sha256:") // the chain of one layer
	return r.bound[m], nil
}

// prepare makes the mounts ready.
func (r *running) prepare() error {
	r.ready.tmpfs = map[string]string{}
	for _, m := range r.mounts {
		var err error
		switch m.Type {
		case instructions.MountTypeBind:
			err = r.prepareBind(m)
		case instructions.MountTypeCache:
			err = r.prepareCache(m)
		case instructions.MountTypeTmpfs:
			r.ready.tmpfs[r.target(m)] = tmpfsOptions(m)
		case instructions.MountTypeSecret:
			err = r.prepareSecret(m)
		case instructions.MountTypeSSH:
			if m.Required {
				err = errors.New("there is no SSH agent to forward")
			}
		}
		if err != nil {
			return fmt.Errorf("--mount=type=%s: %w", m.Type, err)
		}
	}
	if r.inline == nil {
		return nil
	}
	dir, err := r.s.b.tempDir()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "file")
	if err := writeAs(file, []byte(r.inline.Data), 0o755, 0, 0); err != nil {
		return err
	}
	r.ready.bind(file, path.Join(inlineFolder, path.Base(r.inline.Name)), true)
	return nil
}

// tmpfsOptions lets programs be executed: compilers' tests are, in /tmp.
func tmpfsOptions(m *instructions.Mount) string {
	if m.SizeLimit == 0 {
		return "exec"
	}
	return fmt.Sprintf("exec,size=%d", m.SizeLimit)
}

// writeAs writes a file that has that very mode and owner.
func writeAs(file string, data []byte, mode uint32, uid, gid int) error {
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	if err := os.Chown(file, uid, gid); err != nil {
		return err
	}
	return os.NewSyscallError("chmod", unix.Chmod(file, mode))
}

// prepareBind shows a path of a layer. What is written there, if it may be, is forgotten.
func (r *running) prepareBind(m *instructions.Mount) error {
	b := r.s.b
	id, err := r.bindLayer(m)
	if err != nil {
		return err
	}
	if id == "" {
		return errors.New("there are no files in it")
	}
	if !m.ReadOnly {
		driver, err := b.e.Storage()
		if err != nil {
			return err
		}
		scratch := "build-" + randomName()
		if err := b.lease.Hold(scratch); err != nil {
			return err
		}
		if err := driver.Create(scratch, id, storage.Options{}); err != nil {
			return err
		}
		r.ready.undo = append(r.ready.undo, func() { _ = driver.Remove(scratch) }) // or Collect
		id = scratch
	}
	f, err := b.e.LayerTree(id, path.Clean("/"+m.Source), m.ReadOnly)
	if err != nil {
		return notFound(m.Source, err)
	}
	r.ready.trees = append(r.ready.trees,
		engine.Tree{Path: r.target(m), File: f, ReadOnly: m.ReadOnly})
	return nil
}

// prepareCache shows a folder that stays from build to build.
func (r *running) prepareCache(m *instructions.Mount) error {
	b := r.s.b
	dir := filepath.Join(b.folder, "caches",
		key("CACHE", cmp.Or(m.CacheID, r.target(m)), m.From, m.Source))
	lock, dir, err := takeCache(b, dir, m.CacheSharing)
	if err != nil {
		return err
	}
	if lock != nil {
		r.ready.undo = append(r.ready.undo, func() { lock.Close() })
	}
	data := filepath.Join(dir, "data")
	if _, err := os.Lstat(data); err != nil {
		if err := r.newCache(m, dir); err != nil {
			return err
		}
	}
	r.ready.bind(data, r.target(m), m.ReadOnly)
	return nil
}

// takeCache makes the folder of a cache; and locks it, unless it is for several at once. Under
// sharing=private another is taken if somebody has it.
func takeCache(b *builder, dir string, sharing instructions.ShareMode) (*os.File, string, error) {
	for n := 0; ; n++ {
		at := fmt.Sprintf("%s-%d", dir, n)
		if err := os.MkdirAll(at, 0o700); err != nil {
			return nil, "", err
		}
		if sharing == "" || sharing == instructions.MountSharingShared {
			return nil, at, nil
		}
		lock, err := os.Open(at)
		if err != nil {
			return nil, "", err
		}
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil && sharing == instructions.MountSharingLocked {
			err = b.waitFor(func() error { return unix.Flock(int(lock.Fd()), unix.LOCK_EX) })
		}
		if err == nil {
			return lock, at, nil
		}
		lock.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, "", err
		}
	}
}

// waitFor calls what may wait for long, and gives up with the build.
func (b *builder) waitFor(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// newCache makes the folder that is shown: with what the mount's from says, or empty.
func (r *running) newCache(m *instructions.Mount, dir string) error {
	begun, err := os.MkdirTemp(dir, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(begun)
	if m.From != "" {
		if err := r.fillCache(m, begun); err != nil {
			return err
		}
	}
	mode, uid, gid := uint64(0o755), uint64(0), uint64(0)
	for _, v := range []struct{ to, from *uint64 }{{&mode, m.Mode}, {&uid, m.UID}, {&gid, m.GID}} {
		if v.from != nil {
			*v.to = *v.from
		}
	}
	if m.From == "" || m.UID != nil || m.GID != nil {
		if err := os.Chown(begun, int(uid), int(gid)); err != nil {
			return err
		}
	}
	if m.From == "" || m.Mode != nil {
		if err := unix.Chmod(begun, uint32(mode)); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	err = os.Rename(begun, filepath.Join(dir, "data"))
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return nil // somebody else was faster
	}
	return err
}

func (r *running) fillCache(m *instructions.Mount, dir string) error {
	other, err := r.s.other(m.From)
	if err != nil {
		return err
	}
	if other == nil {
		return fmt.Errorf("from=%s is no stage and no image", m.From)
	}
	return r.s.b.withRoot(other.top(), func(root *os.File) error {
		from, err := openIn(root, path.Clean("/"+m.Source), unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return notFound(m.Source, err)
		}
		defer from.Close()
		to, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer to.Close()
		return tree.Copy(from, to)
	})
}

// prepareSecret shows a secret as a file, in memory only, or as a variable.
func (r *running) prepareSecret(m *instructions.Mount) error {
	id := cmp.Or(m.CacheID, m.Source, path.Base(m.Target))
	data, ok := r.s.b.Secrets[id]
	if !ok {
		if m.Required {
			return fmt.Errorf("secret %s: not found", id)
		}
		return nil
	}
	if m.Env != nil {
		r.ready.env = append(r.ready.env, cmp.Or(*m.Env, id)+"="+string(data))
		if m.Target == "" {
			return nil
		}
	}
	mode, uid, gid := uint64(0o400), uint64(0), uint64(0)
	for _, v := range []struct{ to, from *uint64 }{{&mode, m.Mode}, {&uid, m.UID}, {&gid, m.GID}} {
		if v.from != nil {
			*v.to = *v.from
		}
	}
	f, err := secretFile(data, uint32(mode), int(uid), int(gid))
	if err != nil {
		return err
	}
	r.ready.trees = append(r.ready.trees,
		engine.Tree{Path: r.target(m), File: f, ReadOnly: true})
	return nil
}

// secretFile is a file on a file system of its own, in memory.
func secretFile(data []byte, mode uint32, uid, gid int) (*os.File, error) {
	memory, err := fsmount.New("tmpfs", "tmpfs", []string{"mode=0700", "noexec", "nosuid", "nodev"})
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	root, err := fsmount.Root(memory)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	at := fmt.Sprintf("/proc/self/fd/%d/secret", root.Fd())
	if err := writeAs(at, data, mode, uid, gid); err != nil {
		return nil, err
	}
	return engine.Subtree(root, "secret")
}

// randomName is a name that nobody else has.
func randomName() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
