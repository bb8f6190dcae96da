//go:build linux

package build

import (
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/moby/api/types/mount"

	"minidocker/final/engine"
)

// mountsReady are a RUN's mounts.
type mountsReady struct {
	mounts []mount.Mount
	trees  []engine.Tree
	env    []string
	undo   []func()
}

func (m *mountsReady) close() {
	for _, t := range m.trees {
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

func (r *running) mountKey(*instructions.Mount) (string, error) { return "", nil }

func (r *running) prepare() error { return nil }
