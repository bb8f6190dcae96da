//go:build linux

package build

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/patternmatcher"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"minidocker/final/storage/archive"
)

// copying is a COPY or an ADD.
type copying struct {
	*instructions.SourcesAndDest
	command      instructions.Command
	from         string
	chown, chmod string
	link         bool
	parents      bool
	exclude      []string
	add          *instructions.AddCommand // nil for COPY

	s     *stage
	at    *state
	dest  string // absolute; with a slash at the end if that was written
	items []*item
	close []func()
}

// copy does COPY and ADD.
func (s *stage) copy(at *state, c *copying) error {
	c.s, c.at = s, at
	defer c.end()
	expand := s.b.file.expander(at.env)
	if e, ok := c.command.(instructions.SupportsSingleWordExpansion); ok {
		if err := e.Expand(expand); err != nil {
			return err
		}
	}
	if err := c.ExpandRaw(s.b.file.expandRaw(at.env)); err != nil {
		return err
	}
	c.reread()
	c.dest = absolute(at.config.Config.WorkingDir, c.DestPath)
	if n := len(c.SourcePaths) + len(c.SourceContents); n > 1 && !strings.HasSuffix(c.dest, "/") {
		return fmt.Errorf("when using %s with more than one source file, the destination must be a "+
			"directory and end with a /", strings.ToUpper(c.command.Name()))
	}
	if _, err := parseMode(c.chmod); err != nil {
		return err
	}
	source := sourceOf(c.command)
	keys := []func() (string, error){c.contentKey}
	if c.from != "" {
		quick, err := c.quickKey()
		if err != nil {
			return err
		}
		if quick != "" {
			keys = []func() (string, error){known(quick), c.contentKey}
		}
	}
	return s.layer(at, making{source: source, by: source, keys: keys,
		make: func(_ *step) (*layer, error) { return c.make() }})
}

// end lets go of what the files came from.
func (c *copying) end() {
	for _, f := range c.close {
		f()
	}
}

// reread takes over what the command's flags are after their variables were replaced.
func (c *copying) reread() {
	switch cmd := c.command.(type) {
	case *instructions.CopyCommand:
		c.chown, c.chmod = cmd.Chown, cmd.Chmod
	case *instructions.AddCommand:
		c.chown, c.chmod = cmd.Chown, cmd.Chmod
	}
}

// absolute is a path as seen from a folder. A slash at its end stays.
func absolute(dir, p string) string {
	folder := strings.HasSuffix(p, "/") || p == "." || strings.HasSuffix(p, "/.") || p == ""
	if !path.IsAbs(p) {
		p = path.Join("/", dir, p)
	}
	if p = path.Clean(p); folder && p != "/" {
		p += "/"
	}
	return p
}

// words are what else than the files counts for the layer.
func (c *copying) words() []string {
	top := c.at.top()
	if c.link { // it is the same on whatever it lies
		top = "link"
	}
	unpack := c.add != nil && (c.add.Unpack == nil || *c.add.Unpack)
	return []string{"COPY", top, c.dest, c.chown, c.chmod, strconv.FormatBool(c.parents),
		strings.Join(c.exclude, "\n"), strconv.FormatBool(unpack)}
}

// quickKey is a key that needs no look at files, where they come from a stage or an image.
func (c *copying) quickKey() (string, error) {
	top, err := c.fromTop()
	if err != nil || top == "" {
		return "", err
	}
	words := append(append(c.words(), "from", top), c.SourcePaths...)
	for _, content := range c.SourceContents {
		words = append(words, content.Path, content.Data)
	}
	return key(words...), nil
}

// contentKey is the key by what is in the files.
func (c *copying) contentKey() (string, error) {
	if err := c.collect(); err != nil {
		return "", err
	}
	words := c.words()
	for _, it := range c.items {
		words = append(words, it.digest())
	}
	return key(words...), nil
}

// fromTop is the layer that --from means.
func (c *copying) fromTop() (string, error) {
	s, err := c.s.other(c.from)
	if err != nil || s == nil {
		return "", err
	}
	return s.top(), nil
}

// other is what --from means: a stage, or an image; nil if it is a folder.
func (s *stage) other(name string) (*state, error) {
	if i := s.b.file.stageCalled(name, s.index); i >= 0 {
		return s.b.stages[i].result()
	}
	if p, ok := s.b.Contexts[name]; ok && !strings.HasPrefix(p, "docker-image://") {
		return nil, nil
	}
	img, err := s.b.image(name, s.platform, false, &step{b: s.b})
	if err != nil {
		return nil, err
	}
	return stateOf(img), nil
}

// source is the tree that the files come from.
func (c *copying) source() (*origin, error) {
	b := c.s.b
	if c.from == "" {
		if b.Context == nil {
			return nil, errors.New("there is no build context to take files from")
		}
		return &origin{root: b.Context.root, ignore: b.Context.ignore, context: true,
			sums: b.Context.sums}, nil
	}
	other, err := c.s.other(c.from)
	if err != nil {
		return nil, err
	}
	if other == nil {
		context, err := OpenContext(b.Contexts[c.from])
		if err != nil {
			return nil, err
		}
		c.close = append(c.close, context.Close)
		return &origin{root: context.root, context: true}, context.ReadIgnore("")
	}
	root, done, err := b.openRoot(other.top())
	if err != nil {
		return nil, err
	}
	c.close = append(c.close, done)
	return &origin{root: root}, nil
}

// openRoot opens the root folder of a layer and those below it, until done is called.
func (b *builder) openRoot(id string) (root *os.File, done func(), err error) {
	ready, over, ended := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ready <- b.withRoot(id, func(r *os.File) error {
			root = r
			ready <- nil
			<-over
			return nil
		})
	}()
	if err := <-ready; err != nil {
		return nil, nil, err
	}
	return root, func() { close(over); <-ended }, nil
}

// collect finds the files.
func (c *copying) collect() error {
	if c.items != nil {
		return nil
	}
	c.items = []*item{}
	for _, content := range c.SourceContents {
		c.items = append(c.items, inline(content.Path, content.Data))
	}
	var exclude *patternmatcher.PatternMatcher
	if len(c.exclude) > 0 {
		var err error
		if exclude, err = patternmatcher.New(c.exclude); err != nil {
			return fmt.Errorf("--exclude: %w", err)
		}
	}
	var from *origin
	for _, source := range c.SourcePaths {
		if c.add != nil && isRemote(source) {
			it, err := c.fetch(source, exclude)
			if err != nil {
				return err
			}
			c.items = append(c.items, it)
			continue
		}
		if from == nil {
			var err error
			if from, err = c.source(); err != nil {
				return err
			}
		}
		if err := c.collectFrom(from, source, exclude); err != nil {
			return err
		}
	}
	if len(c.items) > 1 && !strings.HasSuffix(c.dest, "/") && !c.parents {
		c.dest += "/"
	}
	return nil
}

func (c *copying) collectFrom(
	from *origin, source string, exclude *patternmatcher.PatternMatcher,
) error {
	paths, err := from.glob(source)
	if err != nil {
		return err
	}
	for _, p := range paths {
		it, err := from.collect(p, exclude)
		if err != nil {
			if strings.ContainsAny(source, "*?[") && strings.HasSuffix(err.Error(), ": not found") {
				continue // it is ignored
			}
			return err
		}
		if c.parents {
			it.name = keepParents(source, p)
		}
		c.items = append(c.items, it)
	}
	return nil
}

// keepParents is the path that --parents keeps: all of it, or what comes after "/./".
func keepParents(source, found string) string {
	if before, _, ok := strings.Cut(source, "/./"); ok {
		n := strings.Count(path.Clean(before), "/") + 1
		if before = path.Clean(before); before == "." {
			n = 0
		}
		parts := strings.SplitN(found, "/", n+1)
		return parts[len(parts)-1]
	}
	return found
}

// inline is a file whose content stands in the Dockerfile.
func inline(name, data string) *item {
	n := &node{data: []byte(data)}
	n.st.Mode, n.st.Size = unix.S_IFREG|0o644, int64(len(data))
	return &item{from: &origin{context: true}, name: path.Base(name), nodes: []*node{n}}
}

// owner finds who --chown means, in the files of the image; nil if nobody was named.
func (c *copying) owner(root *os.File) (*archive.Owner, error) {
	if c.chown == "" {
		return nil, nil
	}
	name, group, hasGroup := strings.Cut(c.chown, ":")
	o := &archive.Owner{}
	uid, err := strconv.ParseUint(name, 10, 31)
	if err == nil {
		o.UID, o.GID = int(uid), int(uid)
	} else {
		users, err := lookUp(root, "/etc/passwd", func(f *os.File) ([]user.User, error) {
			return user.ParsePasswdFilter(f, func(u user.User) bool { return u.Name == name })
		})
		if err != nil || len(users) == 0 {
			return nil, errors.Join(err, fmt.Errorf("--chown=%s: there is no user %q", c.chown, name))
		}
		o.UID, o.GID = users[0].Uid, users[0].Gid
	}
	if !hasGroup {
		return o, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		o.GID = int(gid)
		return o, nil
	}
	groups, err := lookUp(root, "/etc/group", func(f *os.File) ([]user.Group, error) {
		return user.ParseGroupFilter(f, func(g user.Group) bool { return g.Name == group })
	})
	if err != nil || len(groups) == 0 {
		return nil, errors.Join(err, fmt.Errorf("--chown=%s: there is no group %q", c.chown, group))
	}
	o.GID = groups[0].Gid
	return o, nil
}

// lookUp reads a file of an image's; one that is not there has nothing in it.
func lookUp[T any](root *os.File, name string, read func(*os.File) ([]T, error)) ([]T, error) {
	f, err := openIn(root, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, nil //nolint:nilerr // see above
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return read(f)
}
