//go:build linux

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

func psCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "ps", Usage: "List containers", Description: "ps -a --filter status=exited",
		Flags: []cli.Flag{
			Toggle("all a", "Show all containers (default: those that run)"), filter(), format(),
			count("last n", "Show the last that were created, in any state"),
			Toggle("latest l", "Show the one that was created last, in any state"),
			noTrunc(), quiet(), Toggle("size s", "Show sizes"),
		},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 0); err != nil {
				return err
			}
			return c.ps(ctx)
		},
	}
}

func (c *CLI) ps(ctx *cli.Context) error {
	filters, err := parseFilters(ctx)
	if err != nil {
		return err
	}
	e, err := c.Engine()
	if err != nil {
		return err
	}
	o := engine.ListOptions{
		All: ctx.Bool("all"), Limit: ctx.Int("last"), Filters: filters,
		Size: ctx.Bool("size") || strings.Contains(ctx.String("format"), ".Size"),
	}
	if ctx.Bool("latest") {
		o.Limit = 1
	}
	list, err := e.Containers(ctx.Context, o)
	if err != nil {
		return err
	}
	long := ctx.Bool("no-trunc")
	if ctx.Bool("quiet") && !ctx.IsSet("format") {
		for i := range list {
			fmt.Fprintln(c.Out, short(list[i].ID, long))
		}
		return nil
	}
	rows := make([]containerRow, len(list))
	for i := range list {
		rows[i] = newContainerRow(&list[i], long)
	}
	p := printer[containerRow]{
		out: c.Out, format: ctx.String("format"), header: containerHeader,
		table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
	}
	if o.Size {
		p.table += "\t{{.Size}}"
	}
	return p.print(rows)
}

// containerRow is a line of ps; its fields are what Docker's templates call them.
type containerRow struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Platform,
	Ports, RunningFor, Size, State, Status string
	labels
}

var containerHeader = containerRow{
	Command: "COMMAND", CreatedAt: "CREATED AT", ID: "CONTAINER ID", Image: "IMAGE",
	Labels: "LABELS", LocalVolumes: "LOCAL VOLUMES", Mounts: "MOUNTS", Names: "NAMES",
	Networks: "NETWORKS", Platform: "PLATFORM", Ports: "PORTS", RunningFor: "CREATED",
	Size: "SIZE", State: "STATE", Status: "STATUS",
}

func newContainerRow(s *container.Summary, long bool) containerRow {
	created := time.Unix(s.Created, 0)
	row := containerRow{
		Command: strconv.Quote(ellipsis(s.Command, 20, long)), CreatedAt: created.String(),
		ID: short(s.ID, long), Image: s.Image, Labels: joined(s.Labels),
		LocalVolumes: "0", Ports: portsOf(s.Ports), RunningFor: ago(created),
		State: string(s.State), Status: s.Status, labels: orEmpty(s.Labels),
		Size: fmt.Sprintf("%s (virtual %s)", size(s.SizeRw), size(s.SizeRootFs)),
	}
	if s.Image == "" {
		row.Image = "<no image>"
	} else if digest, ok := strings.CutPrefix(s.Image, "sha256:"); ok {
		row.Image = short(digest, long)
	}
	names := slices.Clone(s.Names)
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], "/")
	}
	row.Names = strings.Join(names, ",")
	var mounts []string
	volumes := 0
	for _, m := range s.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if m.Driver == "local" {
			volumes++
		}
		mounts = append(mounts, ellipsis(name, 15, long))
	}
	row.Mounts, row.LocalVolumes = strings.Join(mounts, ","), strconv.Itoa(volumes)
	if s.NetworkSettings != nil {
		row.Networks = strings.Join(slices.Sorted(maps.Keys(s.NetworkSettings.Networks)), ",")
	}
	return row
}

// portsOf are a container's ports as in "0.0.0.0:8080-8082->80-82/tcp, 9000/tcp".
func portsOf(ports []container.PortSummary) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b container.PortSummary) int {
		return strings.Compare(portKey(a), portKey(b))
	})
	var all []string
	for i := 0; i < len(ports); {
		first, last := ports[i], ports[i]
		for i++; i < len(ports) && follows(last, ports[i]); i++ {
			last = ports[i]
		}
		s := span(first.PrivatePort, last.PrivatePort) + "/" + first.Type
		if first.PublicPort != 0 {
			host := first.IP.String()
			if first.IP.Is6() {
				host = "[" + host + "]"
			}
			s = host + ":" + span(first.PublicPort, last.PublicPort) + "->" + s
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

func portKey(p container.PortSummary) string {
	return fmt.Sprintf("%t %s %s %05d %05d",
		p.PublicPort == 0, p.IP, p.Type, p.PrivatePort, p.PublicPort)
}

// follows says whether two ports can be one range.
func follows(a, b container.PortSummary) bool {
	if a.IP != b.IP || a.Type != b.Type || b.PrivatePort != a.PrivatePort+1 {
		return false
	}
	if a.PublicPort == 0 {
		return b.PublicPort == 0
	}
	return b.PublicPort == a.PublicPort+1
}

func span(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// short is the beginning of an ID that people read.
func short(id string, long bool) string {
	if long {
		return id
	}
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// ellipsis cuts a text to a number of characters.
func ellipsis(s string, n int, long bool) string {
	runes := []rune(s)
	if long || len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}

func joined(m map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return strings.Join(all, ",")
}

func orEmpty(m map[string]string) labels {
	if m == nil {
		return labels{}
	}
	return m
}

func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
