//go:build linux

package build

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"minidocker/final/engine"
)

// setGlobals works out the variables that FROM knows: those of the platform, and those of ARG
// before the first FROM.
func (b *builder) setGlobals() error {
	for _, kv := range platformArgs(b.Platform, b.Target) {
		name, _, _ := strings.Cut(kv, "=")
		if value, ok := b.BuildArgs[name]; ok {
			kv = name + "=" + value
		}
		b.global = append(b.global, kv)
	}
	for _, arg := range b.file.global {
		if err := arg.Expand(b.file.expander(b.global)); err != nil {
			return b.file.wrong(err, arg.Location())
		}
		for _, a := range arg.Args {
			if value, ok := b.BuildArgs[a.Key]; ok {
				b.global = setEnv(b.global, a.Key, value)
			} else if a.Value != nil {
				b.global = setEnv(b.global, a.Key, *a.Value)
			}
		}
	}
	return nil
}

// platformArgs are the variables about platforms that a Dockerfile may use.
func platformArgs(target, stage string) []string {
	if stage == "" {
		stage = "default"
	}
	own := "linux/" + runtime.GOARCH
	all := []string{}
	for _, p := range [][2]string{{"BUILD", own}, {"TARGET", normalPlatform(target)}} {
		part := append(strings.Split(p[1], "/"), "", "")
		all = append(all, p[0]+"PLATFORM="+p[1], p[0]+"OS="+part[0], p[0]+"OSVERSION=",
			p[0]+"ARCH="+part[1], p[0]+"VARIANT="+part[2])
	}
	return append(all, "TARGETSTAGE="+stage)
}

// normalPlatform is OS/ARCH[/VARIANT] of what users write.
func normalPlatform(p string) string {
	switch {
	case p == "" || p == "local":
		return "linux/" + runtime.GOARCH
	case !strings.Contains(p, "/"):
		p = "linux/" + p
	}
	return strings.NewReplacer("x86_64", "amd64", "aarch64", "arm64").Replace(strings.ToLower(p))
}

// parallel is how many containers run at once.
func parallel() int { return max(2, runtime.GOMAXPROCS(0)) }

// graph makes the stages, and finds those that the target needs.
func (b *builder) graph() (target int, needed []int, err error) {
	for i := range b.file.stages {
		from := &b.file.stages[i]
		s := &stage{b: b, index: i, Stage: from}
		if s.base, err = b.file.expand(from.BaseName, b.global); err == nil && s.base == "" {
			err = fmt.Errorf("base name (%s) should not be blank", from.BaseName)
		}
		if err == nil {
			s.platform, err = b.file.expand(from.Platform, b.global)
		}
		if err != nil {
			return 0, nil, b.file.wrong(err, from.Location)
		}
		if s.platform = normalPlatform(s.platform); from.Platform == "" {
			s.platform = normalPlatform(b.Platform)
		}
		s.from = b.file.stageCalled(s.base, 0)
		if s.from >= i { // only what stands above: an image may have the name of a later stage
			s.from = -1
		}
		b.stages = append(b.stages, s)
	}
	target = len(b.stages) - 1
	if b.Target != "" {
		if target = b.file.stageCalled(b.Target, len(b.stages)); target < 0 {
			return 0, nil, &engine.Error{Kind: engine.Invalid,
				Err: fmt.Errorf("target stage %q could not be found", b.Target)}
		}
	}
	const open, done = 1, 2
	state := make([]int, len(b.stages))
	var visit func(i int) error
	visit = func(i int) error {
		switch state[i] {
		case open:
			return b.file.wrong(fmt.Errorf("circular dependency detected on stage: %s",
				b.stages[i].called()), b.stages[i].Location)
		case done:
			return nil
		}
		state[i] = open
		for _, other := range b.stages[i].needs() {
			if err := visit(other); err != nil {
				return err
			}
		}
		state[i] = done
		needed = append(needed, i)
		return nil
	}
	return target, needed, visit(target)
}

// needs are the stages that a stage takes something from.
func (s *stage) needs() []int {
	var all []int
	add := func(name string) {
		if name == "" {
			return
		}
		if i := s.b.file.stageCalled(name, s.index); i >= 0 && !slices.Contains(all, i) {
			all = append(all, i)
		}
	}
	if s.from >= 0 {
		all = append(all, s.from)
	}
	for _, c := range s.Commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			add(c.From)
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(c) {
				add(m.From)
			}
		}
	}
	return all
}
