//go:build linux

package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/network"
	"github.com/urfave/cli/v2"

	"minidocker/final/cli/request"
)

func networksCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "List networks", Description: "network ls --filter driver=bridge",
		Flags: []cli.Flag{filter(), format(), noTrunc(), quiet()},
		Action: func(ctx *cli.Context) error {
			filters, err := parseFilters(ctx)
			if err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			list, err := e.Networks(ctx.Context, filters)
			if err != nil {
				return err
			}
			return c.printNetworks(ctx, list)
		},
	}
}

// networkRow is a line of network ls.
type networkRow struct {
	CreatedAt, Driver, ID, IPv4, IPv6, Internal, Labels, Name, Scope string
	labels
}

func (c *CLI) printNetworks(ctx *cli.Context, list []network.Summary) error {
	long := ctx.Bool("no-trunc")
	var rows []networkRow
	for i := range list {
		n := &list[i]
		if ctx.Bool("quiet") && !ctx.IsSet("format") {
			fmt.Fprintln(c.Out, short(n.ID, long))
			continue
		}
		rows = append(rows, networkRow{
			CreatedAt: n.Created.String(), Driver: n.Driver, ID: short(n.ID, long),
			IPv4: strconv.FormatBool(n.EnableIPv4), IPv6: strconv.FormatBool(n.EnableIPv6),
			Internal: strconv.FormatBool(n.Internal), Labels: joined(n.Labels), Name: n.Name,
			Scope: n.Scope, labels: orEmpty(n.Labels),
		})
	}
	if ctx.Bool("quiet") && !ctx.IsSet("format") {
		return nil
	}
	p := printer[networkRow]{
		out: c.Out, format: ctx.String("format"),
		table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
		header: networkRow{
			CreatedAt: "CREATED AT", Driver: "DRIVER", ID: "NETWORK ID", IPv4: "IPV4", IPv6: "IPV6",
			Internal: "INTERNAL", Labels: "LABELS", Name: "NAME", Scope: "SCOPE",
		},
	}
	return p.print(rows)
}

func createNetworkCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "Create a network", ArgsUsage: "NETWORK",
		Description: "network create --subnet 10.7.0.0/24 --ipv6 front",
		Flags: []cli.Flag{
			Toggle("attachable", "For swarm; without effect here"),
			List("aux-address", "Address that is taken (router=10.7.0.9)"),
			Text("driver d", "bridge, macvlan or ipvlan (default bridge)"),
			List("gateway", "Gateway of a subnet"), Toggle("internal", "No way to the outside"),
			List("ip-range", "Part of the subnet from which addresses are given"),
			Text("ipam-driver", "Driver that gives addresses"),
			List("ipam-opt", "Option of the IPAM driver"),
			Toggle("ipv4", "IPv4 (default true)"), Toggle("ipv6", "IPv6"),
			List("label", "Set a label (name=value)"),
			List("opt o", "Option of the driver (parent=eth0)"),
			List("subnet", "Subnet, as in 10.7.0.0/24"),
		},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 1); err != nil {
				return err
			}
			r, err := request.Network(ctx, ctx.Args().First())
			if err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			created, err := e.CreateNetwork(ctx.Context, r)
			if created.Warning != "" {
				fmt.Fprintln(c.Err, "WARNING:", created.Warning)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, created.ID)
			return nil
		},
	}
}

func rmNetworkCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "Remove one or more networks", ArgsUsage: "NETWORK [NETWORK...]",
		Description: "network rm front",
		Flags:       []cli.Flag{force("No error if there is none")},
		Action: func(ctx *cli.Context) error {
			return c.each(ctx, func(e Engine, ref string) error {
				err := e.RemoveNetwork(ctx.Context, ref)
				if err != nil && ctx.Bool("force") && notFound(err) {
					return nil
				}
				return err
			})
		},
	}
}

func connectCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "connect", Usage: "Connect a container to a network", ArgsUsage: "NETWORK CONTAINER",
		Description: "network connect --alias db front web",
		Flags: []cli.Flag{
			List("alias", "Another name in the network"), List("driver-opt", "Option of the driver"),
			count("gw-priority", "Which network's gateway it takes: the highest"),
			Text("ip", "IPv4 address"), Text("ip6", "IPv6 address"), hidden(List("link", "")),
			List("link-local-ip", "Link-local address"), Text("mac-address", "MAC address"),
		},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 2); err != nil {
				return err
			}
			endpoint, err := request.Endpoint(ctx)
			if err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			return e.Connect(ctx.Context, ctx.Args().Get(0), network.ConnectRequest{
				Container: ctx.Args().Get(1), EndpointConfig: endpoint,
			})
		},
	}
}

func disconnectCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "disconnect", Usage: "Disconnect a container from a network",
		ArgsUsage: "NETWORK CONTAINER", Description: "network disconnect front web",
		Flags: []cli.Flag{force("Even if the container is gone")},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 2); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			return e.Disconnect(ctx.Context, ctx.Args().Get(0), network.DisconnectRequest{
				Container: ctx.Args().Get(1), Force: ctx.Bool("force"),
			})
		},
	}
}

func portCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "port", Usage: "List a container's published ports, or where one of them is",
		ArgsUsage: "CONTAINER [PRIVATE_PORT[/PROTO]]", Description: "port web 80",
		Action: func(ctx *cli.Context) error {
			if err := AtLeast(ctx, 1); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			info, err := e.Inspect(ctx.Context, ctx.Args().First(), false)
			if err != nil {
				return err
			}
			return c.ports(info.NetworkSettings.Ports, ctx.Args().Get(1), ctx.Args().First())
		},
	}
}

func (c *CLI) ports(ports network.PortMap, one, ref string) error {
	if one != "" {
		port, err := network.ParsePort(one)
		if err != nil {
			return err
		}
		bindings := ports[port]
		if len(bindings) == 0 {
			return fmt.Errorf("no public port '%s' published for %s", port, ref)
		}
		for _, b := range bindings {
			fmt.Fprintln(c.Out, hostPort(b))
		}
		return nil
	}
	for _, port := range sortedPorts(ports) {
		for _, b := range ports[port] {
			fmt.Fprintf(c.Out, "%s -> %s\n", port, hostPort(b))
		}
	}
	return nil
}

func hostPort(b network.PortBinding) string {
	ip := b.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	if ip.Is6() {
		return "[" + ip.String() + "]:" + b.HostPort
	}
	return ip.String() + ":" + b.HostPort
}

func sortedPorts(ports network.PortMap) []network.Port {
	return slices.SortedFunc(maps.Keys(ports), func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.Num(), b.Num()), cmp.Compare(a.Proto(), b.Proto()))
	})
}
