//go:build linux

package cli

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

func statsCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "stats", Usage: "Show what containers use, every second",
		ArgsUsage: "[CONTAINER...]", Description: "stats --no-stream web",
		Flags: []cli.Flag{
			Toggle("all a", "Show containers that do not run as well"), format(),
			Toggle("no-stream", "Show it once"), noTrunc(),
		},
		Action: func(ctx *cli.Context) error {
			e, err := c.Engine()
			if err != nil {
				return err
			}
			w := &watch{engine: e, refs: ctx.Args().Slice(), all: ctx.Bool("all"),
				last: map[string]*container.StatsResponse{}}
			return c.stats(ctx, w)
		},
	}
}

// interval is between two samples: a rate needs two.
const interval = time.Second

func (c *CLI) stats(ctx *cli.Context, w *watch) error {
	once := ctx.Bool("no-stream")
	for first := true; ; first = false {
		samples, err := w.sample(ctx.Context)
		if err != nil {
			return err
		}
		if !once || !first {
			rows := make([]statsRow, len(samples))
			for i := range samples {
				rows[i] = newStatsRow(&samples[i], ctx.Bool("no-trunc"))
			}
			if err := c.printStats(ctx, rows, once); err != nil || once {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// printStats prints a table in the place of the one before.
func (c *CLI) printStats(ctx *cli.Context, rows []statsRow, once bool) error {
	var screen bytes.Buffer
	if !once && terminal(c.Out) >= 0 {
		screen.WriteString("\033[H\033[J") // home, clear
	}
	p := printer[statsRow]{
		out: &screen, format: ctx.String("format"), header: statsHeader,
		table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t" +
			"{{.BlockIO}}\t{{.PIDs}}",
	}
	if err := p.print(rows); err != nil {
		return err
	}
	_, err := screen.WriteTo(c.Out)
	return err
}

// watch takes samples of some containers, or of all.
type watch struct {
	engine Engine
	refs   []string
	all    bool
	last   map[string]*container.StatsResponse
}

// sample is one sample of each container. One that has gone meanwhile is nil, unless it was named.
func (w *watch) sample(ctx context.Context) ([]sample, error) {
	refs := w.refs
	if len(refs) == 0 {
		list, err := w.engine.Containers(ctx, engine.ListOptions{All: w.all})
		if err != nil {
			return nil, err
		}
		for i := range list {
			refs = append(refs, list[i].ID)
		}
	}
	samples, errs := make([]sample, len(refs)), make([]error, len(refs))
	var group sync.WaitGroup
	for i, ref := range refs {
		last := w.last[ref]
		group.Go(func() {
			samples[i].ref = ref
			samples[i].StatsResponse, errs[i] = w.engine.Stats(ctx, ref, last)
		})
	}
	group.Wait()
	for i, ref := range refs {
		if errs[i] != nil && len(w.refs) > 0 {
			return nil, errs[i]
		}
		w.last[ref] = samples[i].StatsResponse
	}
	return samples, nil
}

type sample struct {
	*container.StatsResponse
	ref string
}

// statsRow is a line of stats.
type statsRow struct {
	BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string
}

var statsHeader = statsRow{
	BlockIO: "BLOCK I/O", CPUPerc: "CPU %", Container: "CONTAINER", ID: "CONTAINER ID",
	MemPerc: "MEM %", MemUsage: "MEM USAGE / LIMIT", Name: "NAME", NetIO: "NET I/O", PIDs: "PIDS",
}

func newStatsRow(s *sample, long bool) statsRow {
	if s.StatsResponse == nil {
		return statsRow{
			BlockIO: "-- / --", CPUPerc: "--", Container: s.ref, ID: short(s.ref, long),
			MemPerc: "--", MemUsage: "-- / --", Name: "--", NetIO: "-- / --", PIDs: "--",
		}
	}
	memory := float64(s.MemoryStats.Usage) - float64(cache(s.MemoryStats))
	limit := float64(s.MemoryStats.Limit)
	row := statsRow{
		Container: s.ref, ID: short(s.ID, long), Name: trimSlash(s.Name),
		CPUPerc:  fmt.Sprintf("%.2f%%", cpuPercent(s.StatsResponse)),
		MemUsage: units.BytesSize(memory) + " / " + units.BytesSize(limit),
		MemPerc:  "0.00%", PIDs: fmt.Sprint(s.PidsStats.Current),
	}
	if limit > 0 {
		row.MemPerc = fmt.Sprintf("%.2f%%", memory/limit*100)
	}
	var received, sent, read, written uint64
	for _, n := range s.Networks {
		received += n.RxBytes
		sent += n.TxBytes
	}
	for _, b := range s.BlkioStats.IoServiceBytesRecursive {
		switch b.Op {
		case "Read", "read":
			read += b.Value
		case "Write", "write":
			written += b.Value
		}
	}
	row.NetIO, row.BlockIO = traffic(received, sent), traffic(read, written)
	return row
}

func traffic(in, out uint64) string { return size(int64(in)) + " / " + size(int64(out)) }

// cache is what the kernel gives back when memory is scarce: what people do not mean by usage. It
// is called total_inactive_file in version 1 of control groups.
func cache(m container.MemoryStats) uint64 {
	for _, name := range []string{"total_inactive_file", "inactive_file"} {
		if n, ok := m.Stats[name]; ok && n < m.Usage {
			return n
		}
	}
	return 0
}

// cpuPercent is the share of one processor between two samples: 200 % is two of them.
func cpuPercent(s *container.StatsResponse) float64 {
	used := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	all := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	if used <= 0 || all <= 0 || s.PreCPUStats.SystemUsage == 0 {
		return 0
	}
	return used / all * float64(max(s.CPUStats.OnlineCPUs, 1)) * 100
}

func trimSlash(name string) string {
	if len(name) > 0 && name[0] == '/' {
		return name[1:]
	}
	return name
}
