//go:build linux

package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"minidocker/final/network"
	"minidocker/final/rootless"
)

// forwardsPath is a file with what rootless.Forward gave for a container.
func (e *Engine) forwardsPath(id string) string {
	return filepath.Join(e.o.Run, "forwards", id)
}

// forward publishes a container's ports outside of an ordinary user's place: the engine's rules
// are in there. Elsewhere there is nothing to do.
func (e *Engine) forward(id string, endpoints []*network.Endpoint) error {
	if rootless.Dir() == "" {
		return nil
	}
	var ports []rootless.Port
	for _, ep := range endpoints {
		for _, p := range ep.Ports {
			ports = append(ports, rootless.Port{HostIP: p.HostIP, Port: p.HostPort, Proto: p.Proto})
		}
	}
	if len(ports) == 0 {
		return nil
	}
	ids, err := rootless.Forward(rootless.Dir(), ports)
	if err == nil {
		var data []byte
		if data, err = json.Marshal(ids); err == nil {
			if err = os.MkdirAll(filepath.Dir(e.forwardsPath(id)), 0o711); err == nil {
				err = replace(e.forwardsPath(id), data, false)
			}
		}
	}
	if err != nil {
		rootless.Unforward(rootless.Dir(), ids)
	}
	return err
}

// unforward undoes that.
func (e *Engine) unforward(id string) error {
	if rootless.Dir() == "" {
		return nil
	}
	data, err := os.ReadFile(e.forwardsPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var ids []int
	if err := json.Unmarshal(data, &ids); err != nil {
		return err
	}
	rootless.Unforward(rootless.Dir(), ids)
	return os.Remove(e.forwardsPath(id))
}
