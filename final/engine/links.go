//go:build linux

package engine

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// Links are what containers in the default network have found each other by before there were
// networks of users' own: docker run --link NAME[:ALIAS]. There, the one that is linked to must run
// before; its address is in /etc/hosts, and what it is like in the environment. In the others the
// alias is a name that only this container has for its neighbour: see package network.

// link is a container's name, and what another calls it.
type link struct{ name, alias string }

// parseLink reads NAME[:ALIAS], and /NAME:/CONTAINER/ALIAS, as inspect shows it.
func parseLink(text string) link {
	name, alias, ok := strings.Cut(text, ":")
	name = strings.TrimPrefix(name, "/")
	if alias = alias[strings.LastIndexByte(alias, '/')+1:]; !ok || alias == "" {
		alias = name
	}
	return link{name, alias}
}

// checkLinks sees that there is whom a new container is to be linked to.
func (c *creation) checkLinks() error {
	for _, text := range c.r.HostConfig.Links {
		l := parseLink(text)
		if l.name == "" {
			return failed(Invalid, "invalid link: %s", quoted(text))
		}
		if _, err := c.e.find(l.name); err != nil {
			return failed(Invalid, "could not get container for %s: %w", l.name, err)
		}
	}
	if len(c.r.HostConfig.Links) > 0 && c.r.HostConfig.NetworkMode.IsHost() {
		return failed(Invalid, "conflicting options: host type networking can't be used with links. "+
			"This would result in undefined behavior")
	}
	return nil
}

// linkNames are the names that containers have by links of others, by their own: /OTHER/ALIAS.
func linkNames(records []*record) map[string][]string {
	all := map[string][]string{}
	for _, r := range records {
		for _, text := range r.HostConfig.Links {
			l := parseLink(text)
			all[l.name] = append(all[l.name], "/"+r.Name+"/"+l.alias)
		}
	}
	return all
}

// RemoveLink removes a link: a container does not know the other by that name when it is started
// the next time.
func (e *Engine) RemoveLink(ref, alias string) error {
	l, err := e.lock(ref)
	if err != nil {
		return err
	}
	defer l.unlock()
	rest := slices.DeleteFunc(slices.Clone(l.HostConfig.Links),
		func(text string) bool { return parseLink(text).alias == alias })
	if len(rest) == len(l.HostConfig.Links) {
		return failed(NotFound, "No such link: /%s/%s", l.Name, alias)
	}
	l.HostConfig.Links = rest
	return e.write(l.record)
}

// neighbour is a container that is linked to.
type neighbour struct {
	link
	*record
	address string
}

// neighbours are those that a container of the default network is linked to.
func (s *starting) neighbours() ([]neighbour, error) {
	if s.Networks[network.NetworkBridge] == nil {
		return nil, nil
	}
	var all []neighbour
	for _, text := range s.HostConfig.Links {
		l := parseLink(text)
		r, state, err := s.e.get(l.name)
		if err != nil {
			return nil, missing(err)
		}
		if state.Status != "running" {
			return nil, failed(Conflict, "Cannot link to a non running container: /%s AS /%s/%s", r.Name,
				s.Name, l.alias)
		}
		endpoints, err := s.e.networks.Of(r.ID)
		if err != nil {
			return nil, err
		}
		for _, ep := range endpoints {
			if ep.NetworkName == network.NetworkBridge && ep.IPv4.IsValid() {
				all = append(all, neighbour{l, r, ep.IPv4.Addr().String()})
			}
		}
	}
	return all, nil
}

// linkHosts writes the lines of /etc/hosts for those that the container is linked to.
func linkHosts(text *bytes.Buffer, all []neighbour) {
	for _, n := range all {
		names := []string{n.alias, n.Config.Hostname, n.Name}
		fmt.Fprintf(text, "%s\t%s\n", n.address, strings.Join(slices.Compact(names), " "))
	}
}

// linkEnv are the variables that tell of those that the container is linked to.
func linkEnv(container string, all []neighbour) []string {
	var env []string
	for _, n := range all {
		prefix := strings.ToUpper(strings.ReplaceAll(n.alias, "-", "_"))
		env = append(env, fmt.Sprintf("%s_NAME=/%s/%s", prefix, container, n.alias))
		ports := slices.SortedFunc(maps.Keys(n.Config.ExposedPorts),
			func(a, b network.Port) int { return int(a.Num()) - int(b.Num()) })
		for i, p := range ports {
			url := fmt.Sprintf("%s://%s:%d", p.Proto(), n.address, p.Num())
			if i == 0 {
				env = append(env, prefix+"_PORT="+url)
			}
			at := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.Num(), strings.ToUpper(string(p.Proto())))
			env = append(env, at+"="+url, at+"_ADDR="+n.address, fmt.Sprintf("%s_PORT=%d", at, p.Num()),
				fmt.Sprintf("%s_PROTO=%s", at, p.Proto()))
		}
		for _, kv := range n.Config.Env {
			if name, _, ok := strings.Cut(kv, "="); ok && name != "PATH" && name != "HOME" {
				env = append(env, prefix+"_ENV_"+kv)
			}
		}
	}
	return env
}
