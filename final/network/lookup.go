//go:build linux

package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// Network finds a network by its name, its ID or the beginning of it that no other has;
// ErrNotExist.
func (s *Store) Network(ref string) (*Network, error) {
	id := ref
	switch ref { // which most are in: without a look at all others
	case Host, None:
		return withoutBridge(ref), nil
	case Bridge:
		id = stableID(Bridge)
	}
	if len(id) == 64 {
		n := &Network{}
		if err := readRecord(s.networkFile(id), n); err == nil {
			return n, nil
		}
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	return find(all, ref)
}

func find(all []*Network, ref string) (*Network, error) {
	var found []*Network
	for _, n := range all {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("network %s %w", ref, ErrNotExist)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("network %s %w: %d networks have IDs that begin so", ref,
		ErrNotExist, len(found))
}

// List returns all networks, sorted by their names.
func (s *Store) List() ([]*Network, error) {
	all, err := s.readNetworks()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(n *Network) bool { return n.Name == Bridge }) {
		if err := s.makeDefault(); err != nil {
			return nil, fmt.Errorf("make the network %q: %w", Bridge, err)
		}
		if all, err = s.readNetworks(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b *Network) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// readNetworks reads the records and adds those that need none.
func (s *Store) readNetworks() ([]*Network, error) {
	names, err := readNames(s.dir)
	if err != nil {
		return nil, err
	}
	all := []*Network{withoutBridge(Host), withoutBridge(None)}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".json")
		if !ok {
			continue
		}
		n := &Network{}
		err := readRecord(s.networkFile(id), n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// withoutBridge is Host or None.
func withoutBridge(name string) *Network {
	driver := name
	if name == None {
		driver = "null"
	}
	return &Network{
		ID: stableID(name), Created: time.Unix(0, 0).UTC(), Config: Config{Name: name, Driver: driver},
	}
}

// stableID is the ID of a network that is on every machine.
func stableID(name string) string {
	sum := sha256.Sum256([]byte("minidocker network " + name))
	return hex.EncodeToString(sum[:])
}

// makeDefault makes the network that containers are on who name none.
func (s *Store) makeDefault() error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(s.networkFile(stableID(Bridge))); err == nil {
		return nil
	}
	options := map[string]string{OptionBridgeName: DefaultBridge}
	_, err = s.create(stableID(Bridge), Config{Name: Bridge, Options: options})
	return err
}
