//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// network is a bridge on the host with a subnet: networks/NAME.json in the store.
type network struct {
	Name, Bridge string
	Subnet       netip.Prefix
	Gateway      netip.Addr // the bridge's own address
}

// defaultNetwork comes with the first container that uses it and goes with the last.
const defaultNetwork = "bridge"

// networkOptions reads --network and -p into cfg.
func networkOptions(c *cli.Context, cfg *config) error {
	cfg.Network = c.String("network")
	if cfg.Network == "" {
		cfg.Network = defaultNetwork
		if os.Geteuid() != 0 {
			cfg.Network = "host" // as in the steps before: a bridge takes root
		}
	}
	if os.Geteuid() != 0 && cfg.Network != "host" && cfg.Network != "none" {
		return errors.New("networks are for root: an ordinary user has --network host or none")
	}
	for _, spec := range c.StringSlice("publish") {
		p, err := parsePort(spec)
		if err != nil {
			return err
		}
		cfg.Ports = append(cfg.Ports, p)
	}
	if cfg.Ports != nil && !cfg.bridged() {
		return fmt.Errorf("-p is for a bridged network, and not for --network %s", cfg.Network)
	}
	if cfg.bridged() || strings.HasPrefix(cfg.Network, "container:") {
		cfg.ResolvConf = reachableResolvers(cfg.ResolvConf)
	}
	return nil
}

// reachableResolvers leaves the name servers at loopback addresses out of a resolv.conf:
// what listens at 127.0.0.53 on the host is not there in the container.
func reachableResolvers(conf string) string {
	var kept strings.Builder
	servers, dropped := 0, 0
	for line := range strings.Lines(conf) {
		if server, ok := strings.CutPrefix(strings.TrimSpace(line), "nameserver"); ok {
			if a, err := netip.ParseAddr(strings.TrimSpace(server)); err == nil && a.IsLoopback() {
				dropped++
				continue
			}
			servers++
		}
		kept.WriteString(line)
	}
	if servers > 0 || dropped == 0 {
		return kept.String()
	}
	// systemd-resolved keeps the true ones here.
	if conf, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
		return string(conf)
	}
	logrus.Warn("/etc/resolv.conf names only servers of this machine's loopback: no names are found")
	return kept.String()
}

// ownNetwork says whether the container has a network namespace of its own.
func (cfg config) ownNetwork() bool {
	return cfg.Network != "host" && !strings.HasPrefix(cfg.Network, "container:")
}

func (cfg config) bridged() bool { return cfg.ownNetwork() && cfg.Network != "none" }

func (n network) file() string { return filepath.Join(stateDir, "networks", n.Name+".json") }

// lockNetworks is held by whoever reads or changes networks, sandboxes, links or
// rules: there is one at a time, so that no two find the same address free.
func lockNetworks() (*os.File, error) {
	store, err := openStore(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return lockFolder(filepath.Join(stateDir, "networks"), unix.LOCK_EX)
}

// readNetworks returns the networks by name. They are locked.
func readNetworks() (map[string]network, error) {
	all := map[string]network{}
	return all, readRecords("networks", func(data []byte) error {
		var n network
		err := json.Unmarshal(data, &n)
		all[n.Name] = n
		return err
	})
}

// readRecords hands the content of each file in a folder of the store to read.
func readRecords(folder string, read func(data []byte) error) error {
	files, err := filepath.Glob(filepath.Join(stateDir, folder, "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			err = read(data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// findNetwork returns the network of that name; the default one is made if it is not there.
func findNetwork(name string) (network, error) {
	all, err := readNetworks()
	if err != nil {
		return network{}, err
	}
	n, found := all[name]
	if !found && name == defaultNetwork {
		return newNetwork(name, "minidocker0", netip.Prefix{})
	}
	if !found {
		return network{}, fmt.Errorf("no network %q: see minidocker network ls", name)
	}
	return n, nil
}

// removeUnusedDefault removes the default network if no endpoint is on it.
func removeUnusedDefault() error {
	networks, err := readNetworks()
	if err != nil {
		return err
	}
	n, found := networks[defaultNetwork]
	if used, err := n.endpoints(); err != nil || used > 0 || !found {
		return err
	}
	return n.remove()
}

// remove removes the network: its record last, so that after a kill it can be removed again.
func (n network) remove() error {
	if err := deleteLink(n.Bridge); err != nil {
		return err
	}
	if err := writeRules(n.Name); err != nil {
		return err
	}
	return os.Remove(n.file())
}

// endpoints counts those on the network.
func (n network) endpoints() (int, error) {
	all, err := readSandboxes()
	count := 0
	for _, sb := range all {
		for _, ep := range sb.Endpoints {
			if ep.Network == n.Name {
				count++
			}
		}
	}
	return count, err
}

func networkCommand() *cli.Command {
	return &cli.Command{
		Name:  "network",
		Usage: "make, list and remove networks, and connect running containers to them",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a network", ArgsUsage: "NAME", OnUsageError: usageError,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "subnet", Usage: "`ADDRESS/BITS` (default: a free one)"},
				},
				Action: locked(1, createNetwork),
			},
			{
				Name: "ls", Usage: "list the networks", OnUsageError: usageError,
				Action: locked(0, listNetworks),
			},
			{
				Name: "rm", Usage: "remove a network", ArgsUsage: "NAME", OnUsageError: usageError,
				Action: locked(1, removeNetwork),
			},
			{
				Name: "connect", Usage: "give a running container one more interface",
				ArgsUsage: "NETWORK ID", OnUsageError: usageError, Action: locked(2, connectNetwork),
			},
			{
				Name: "disconnect", Usage: "take an interface away from a running container",
				ArgsUsage: "NETWORK ID", OnUsageError: usageError, Action: locked(2, disconnectNetwork),
			},
		},
	}
}

// locked is an action that takes so many arguments and has the networks locked.
func locked(args int, action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != args {
			return fmt.Errorf("want %d arguments: %s %s", args, c.Command.HelpName, c.Command.ArgsUsage)
		}
		if os.Geteuid() != 0 {
			return errors.New("networks are for root")
		}
		if err := sweepNetworks(); err != nil {
			return err
		}
		lock, err := lockNetworks()
		if err != nil {
			return err
		}
		defer lock.Close()
		return action(c)
	}
}

func createNetwork(c *cli.Context) error {
	name := c.Args().First()
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*$`).MatchString(name) ||
		slices.Contains([]string{defaultNetwork, "host", "none"}, name) {
		return fmt.Errorf("%q cannot be a network's name: want lower-case letters and digits", name)
	}
	if all, err := readNetworks(); err != nil || all[name].Name != "" {
		return errors.Join(err, fmt.Errorf("there is a network %q", name))
	}
	var subnet netip.Prefix
	if s := c.String("subnet"); s != "" {
		var err error
		subnet, err = netip.ParsePrefix(s)
		if err != nil || !subnet.Addr().Is4() || subnet != subnet.Masked() || subnet.Bits() > 30 ||
			subnet.Bits() < 8 || !subnet.Addr().IsGlobalUnicast() {
			return fmt.Errorf("--subnet %q: want one such as 192.168.7.0/24", s)
		}
	}
	n, err := newNetwork(name, "br-"+newID(), subnet)
	if err != nil {
		return err
	}
	err = n.makeBridge()
	if err == nil {
		err = writeRules("")
	}
	if err != nil {
		return errors.Join(err, n.remove())
	}
	return nil
}

func listNetworks(*cli.Context) error {
	all, err := readNetworks()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NETWORK\tBRIDGE\tSUBNET\tENDPOINTS")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		count, err := n.endpoints()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", n.Name, n.Bridge, n.Subnet, count)
	}
	return w.Flush()
}

func removeNetwork(c *cli.Context) error {
	all, err := readNetworks()
	if err != nil {
		return err
	}
	n, found := all[c.Args().First()]
	if !found {
		return fmt.Errorf("no network %q", c.Args().First())
	}
	if count, err := n.endpoints(); err != nil || count > 0 {
		return errors.Join(err, fmt.Errorf("network %s has %d endpoints", n.Name, count))
	}
	return n.remove()
}

// connectNetwork adds an endpoint and then, last, goes into the container's network
// namespace to do there what its init would do.
func connectNetwork(c *cli.Context) error {
	sb, err := findSandbox(c.Args().Get(1))
	if err != nil {
		return err
	}
	name := c.Args().First()
	if slices.ContainsFunc(sb.Endpoints, func(ep endpoint) bool { return ep.Network == name }) {
		return fmt.Errorf("container %s is connected to %s", sb.ID, name)
	}
	before := len(sb.Endpoints)
	if err := sb.connect(name, nil); err != nil {
		return errors.Join(err, sb.disconnect(name))
	}
	if err := sb.enter(); err != nil {
		return err
	}
	return configureLinks(sb.Endpoints[before:])
}

func disconnectNetwork(c *cli.Context) error {
	sb, err := findSandbox(c.Args().Get(1))
	if err != nil {
		return err
	}
	name := c.Args().First()
	if !slices.ContainsFunc(sb.Endpoints, func(ep endpoint) bool { return ep.Network == name }) {
		return fmt.Errorf("container %s is not connected to %s", sb.ID, name)
	}
	return sb.disconnect(name)
}
