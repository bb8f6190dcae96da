//go:build linux

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/system"
	"github.com/urfave/cli/v2"
)

func versionCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "Show the version", Description: "version --format json",
		Flags: inspectFlags(),
		Action: func(ctx *cli.Context) error {
			e, err := c.Engine()
			if err != nil {
				return err
			}
			v := e.Version(ctx.Context)
			if format := ctx.String("format"); format != "" {
				// As Docker has it, the command line is the client.
				return c.formatted(format, map[string]any{"Client": v, "Server": v})
			}
			for _, line := range [][2]string{
				{"Version", v.Version}, {"API version", v.APIVersion}, {"Go version", v.GoVersion},
				{"Git commit", v.GitCommit}, {"Built", v.BuildTime}, {"OS/Arch", v.Os + "/" + v.Arch},
				{"Kernel version", v.KernelVersion},
			} {
				if line[1] != "" {
					fmt.Fprintf(c.Out, "%-18s%s\n", line[0]+":", line[1])
				}
			}
			return nil
		},
	}
}

func (c *CLI) formatted(format string, v any) error {
	if format == "json" {
		encoder := json.NewEncoder(c.Out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	return c.byTemplate(t, v)
}

func infoCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "Show the engine's state, the storage driver and the machine",
		Description: "info --format '{{.Driver}}'", Flags: inspectFlags(),
		Action: func(ctx *cli.Context) error {
			e, err := c.Engine()
			if err != nil {
				return err
			}
			info, err := e.Info(ctx.Context)
			if err != nil {
				return err
			}
			if format := ctx.String("format"); format != "" {
				return c.formatted(format, info)
			}
			printInfo(c.Out, info)
			for _, w := range info.Warnings {
				fmt.Fprintln(c.Err, w)
			}
			return nil
		},
	}
}

func printInfo(w io.Writer, i *system.Info) {
	line := func(name string, value any) {
		if s := fmt.Sprint(value); s != "" {
			fmt.Fprintf(w, "%s: %s\n", name, s)
		}
	}
	line("Containers", i.Containers)
	line(" Running", i.ContainersRunning)
	line(" Paused", i.ContainersPaused)
	line(" Stopped", i.ContainersStopped)
	line("Images", i.Images)
	line("Server Version", i.ServerVersion)
	line("Storage Driver", i.Driver)
	for _, s := range i.DriverStatus {
		line(" "+s[0], s[1])
	}
	line("Logging Driver", i.LoggingDriver)
	line("Cgroup Driver", i.CgroupDriver)
	line("Cgroup Version", i.CgroupVersion)
	fmt.Fprintln(w, "Plugins:")
	line(" Volume", strings.Join(i.Plugins.Volume, " "))
	line(" Network", strings.Join(i.Plugins.Network, " "))
	line(" Log", strings.Join(i.Plugins.Log, " "))
	line("Default Runtime", i.DefaultRuntime)
	line("Init Binary", i.InitBinary)
	if len(i.SecurityOptions) > 0 {
		fmt.Fprintln(w, "Security Options:")
		for _, o := range i.SecurityOptions {
			fmt.Fprintln(w, " "+strings.TrimPrefix(o, "name="))
		}
	}
	line("Kernel Version", i.KernelVersion)
	line("Operating System", i.OperatingSystem)
	line("OSType", i.OSType)
	line("Architecture", i.Architecture)
	line("CPUs", i.NCPU)
	line("Total Memory", units.BytesSize(float64(i.MemTotal)))
	line("Name", i.Name)
	line("ID", i.ID)
	line("Docker Root Dir", i.DockerRootDir)
	line("Debug Mode", i.Debug)
	if i.FirewallBackend != nil {
		line("Firewall Backend", i.FirewallBackend.Driver)
	}
}

func dfCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "df", Usage: "Show what takes how much of the disk", Description: "system df -v",
		Flags: []cli.Flag{format(), Toggle("verbose v", "Show each object")},
		Action: func(ctx *cli.Context) error {
			e, err := c.Engine()
			if err != nil {
				return err
			}
			usage, err := e.DiskUsage(ctx.Context)
			if err != nil {
				return err
			}
			if ctx.Bool("verbose") {
				return c.dfVerbose(ctx, usage)
			}
			p := printer[usageRow]{
				out: c.Out, format: ctx.String("format"),
				table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
				header: usageRow{
					Type: "TYPE", TotalCount: "TOTAL", Active: "ACTIVE", Size: "SIZE",
					Reclaimable: "RECLAIMABLE",
				},
			}
			return p.print(usageRows(usage))
		},
	}
}

// usageRow is a line of system df.
type usageRow struct{ Active, Reclaimable, Size, TotalCount, Type string }

func newUsageRow(of string, total, active, bytes, reclaimable int64) usageRow {
	row := usageRow{
		Type: of, TotalCount: fmt.Sprint(total), Active: fmt.Sprint(active), Size: size(bytes),
		Reclaimable: size(reclaimable),
	}
	if bytes > 0 {
		row.Reclaimable += fmt.Sprintf(" (%d%%)", reclaimable*100/bytes)
	}
	return row
}

func usageRows(u *system.DiskUsage) []usageRow {
	rows := make([]usageRow, 0, 4)
	if i := u.ImageUsage; i != nil {
		rows = append(rows,
			newUsageRow("Images", i.TotalCount, i.ActiveCount, i.TotalSize, i.Reclaimable))
	}
	if i := u.ContainerUsage; i != nil {
		rows = append(rows,
			newUsageRow("Containers", i.TotalCount, i.ActiveCount, i.TotalSize, i.Reclaimable))
	}
	if i := u.VolumeUsage; i != nil {
		rows = append(rows,
			newUsageRow("Local Volumes", i.TotalCount, i.ActiveCount, i.TotalSize, i.Reclaimable))
	}
	if i := u.BuildCacheUsage; i != nil {
		rows = append(rows,
			newUsageRow("Build Cache", i.TotalCount, i.ActiveCount, i.TotalSize, i.Reclaimable))
	}
	return rows
}

// dfVerbose lists the objects with their sizes.
func (c *CLI) dfVerbose(ctx *cli.Context, u *system.DiskUsage) error {
	if ctx.IsSet("format") {
		return c.formatted(ctx.String("format"), u)
	}
	if u.ImageUsage != nil {
		fmt.Fprint(c.Out, "Images space usage:\n\n")
		var rows []imageRow
		for i := range u.ImageUsage.Items {
			rows = append(rows, imageRows(&u.ImageUsage.Items[i], false, false)...)
		}
		p := printer[imageRow]{
			out: c.Out, header: imageHeader, table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t" +
				"{{.CreatedSince}}\t{{.Size}}\t{{.Containers}}",
		}
		if err := p.print(rows); err != nil {
			return err
		}
	}
	if u.ContainerUsage != nil {
		fmt.Fprint(c.Out, "\nContainers space usage:\n\n")
		var rows []containerRow
		for i := range u.ContainerUsage.Items {
			rows = append(rows, newContainerRow(&u.ContainerUsage.Items[i], false))
		}
		p := printer[containerRow]{
			out: c.Out, header: containerHeader, table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t" +
				"{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
		}
		if err := p.print(rows); err != nil {
			return err
		}
	}
	if u.VolumeUsage == nil {
		return nil
	}
	fmt.Fprint(c.Out, "\nLocal Volumes space usage:\n\n")
	var rows []volumeRow
	for i := range u.VolumeUsage.Items {
		rows = append(rows, newVolumeRow(&u.VolumeUsage.Items[i]))
	}
	p := printer[volumeRow]{
		out: c.Out, header: volumeHeader, table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
	}
	return p.print(rows)
}
