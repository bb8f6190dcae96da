//go:build linux

package engine

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func (e *Engine) namePath(name string) string { return filepath.Join(e.o.Root, "names", name) }

// validName says what is wrong with a name, in Docker's words.
func validName(name string) error {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '.' && c != '-') {
			return failed(Invalid, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
				name)
		}
	}
	if name == "" || len(name) > 200 {
		return failed(Invalid, "Invalid container name (%s): 1 to 200 characters", name)
	}
	return nil
}

// take gives a name to a container; nobody else has it then. The file is linked when it is whole.
func (e *Engine) take(name, id string) error {
	if err := validName(name); err != nil {
		return err
	}
	tmp := filepath.Join(e.dir(id), "name")
	if err := os.WriteFile(tmp, []byte(id), 0o600); err != nil {
		return err
	}
	defer os.Remove(tmp) //nolint:errcheck // a file of the container's, gone with it
	for range 100 {
		err := os.Link(tmp, e.namePath(name))
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		owner, err := os.ReadFile(e.namePath(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if e.holds(string(owner), name) {
			return failed(Conflict, "Conflict. The container name %q is already in use by container %q. "+
				"You have to remove (or rename) that container to be able to reuse that name.",
				"/"+name, owner)
		}
		if err := os.Remove(e.namePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return failed(Conflict, "the container name %q is taken again and again", name)
}

// holds says whether a container has a name, or is in the making: then its folder is locked.
func (e *Engine) holds(id, name string) bool {
	if len(id) != 64 {
		return false
	}
	if r, err := e.read(id); err == nil {
		return r.Name == name
	}
	fd, err := unix.Open(e.dir(id), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// release gives a name back, if it is the container's.
func (e *Engine) release(name, id string) {
	if owner, err := os.ReadFile(e.namePath(name)); err == nil && string(owner) == id {
		_ = os.Remove(e.namePath(name)) // take looks whether its owner is there
	}
}

// takeRandom gives a container a name that says nothing.
func (e *Engine) takeRandom(id string) (string, error) {
	for range 10 {
		name := adjectives[rand.IntN(len(adjectives))] + "_" + animals[rand.IntN(len(animals))]
		err := e.take(name, id)
		if err == nil || Code(err) != Conflict {
			return name, err
		}
	}
	name := "c_" + id[:12]
	return name, e.take(name, id)
}

var adjectives = []string{
	"able", "airy", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "clear", "clever",
	"cosy", "crisp", "curious", "daring", "eager", "early", "easy", "fair", "fleet", "fond",
	"frank",
	"fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "humble", "jolly",
	"keen",
	"kind", "light", "lively", "loyal", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble",
	"patient", "plain", "polite", "proud", "quick", "quiet", "ready", "sharp", "silent", "sleek",
	"small", "smooth", "snug", "solid", "spry", "steady", "sunny", "swift", "tidy", "vivid", "warm",
	"wise", "witty", "young",
}

var animals = []string{
	"adder", "badger", "bat", "beaver", "bison", "bunting", "crane", "crow", "deer", "dolphin", "dove",
	"eagle", "eel", "egret", "falcon", "ferret", "finch", "fox", "frog", "gecko", "goose", "grouse",
	"hare", "hawk", "heron", "ibex", "jackdaw", "jay", "kestrel", "kite", "lark", "lynx", "magpie",
	"marten", "mole", "moose", "newt", "ocelot", "orca", "osprey", "otter", "owl", "perch", "pike",
	"plover", "puffin", "quail", "raven", "robin", "rook", "salmon", "seal", "shrew", "siskin",
	"snipe",
	"sparrow", "stoat", "stork", "swan", "swift", "tern", "toad", "trout", "viper", "vole", "walrus",
	"whale", "wren",
}
