//go:build linux

package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/urfave/cli/v2"

	"minidocker/final/engine"
)

func logsCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "Show what a container has written", ArgsUsage: "CONTAINER",
		Description: "logs -f --tail 10 web",
		Flags: []cli.Flag{
			Toggle("details", "Show the labels and variables that log options name"),
			Toggle("follow f", "Go on as it writes"),
			Text("since", "From a time (2026-01-02T13:23:37Z) or that long ago (42m)"),
			Text("tail n", "Lines from the end (default all)"),
			Toggle("timestamps t", "Show times"),
			Text("until", "Until a time (2026-01-02T13:23:37Z) or that long ago (42m)"),
		},
		Action: func(ctx *cli.Context) error {
			if err := Exactly(ctx, 1); err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			tail := ctx.String("tail")
			if tail == "" {
				tail = "all"
			}
			out, flushOut := buffered(c.Out, ctx.Bool("follow"))
			errs, flushErrs := buffered(c.Err, ctx.Bool("follow"))
			err = e.Logs(ctx.Context, ctx.Args().First(), engine.LogOptions{
				Follow: ctx.Bool("follow"), Timestamps: ctx.Bool("timestamps"),
				Details: ctx.Bool("details"), Since: ctx.String("since"),
				Until: ctx.String("until"), Tail: tail, Stdout: true, Stderr: true,
			}, out, errs)
			flushOut()
			flushErrs()
			return err
		},
	}
}

// buffered gathers what is written, unless somebody waits for each line.
func buffered(w io.Writer, live bool) (io.Writer, func()) {
	if live || terminal(w) >= 0 {
		return w, func() {}
	}
	b := bufio.NewWriterSize(w, 64<<10)
	return b, func() { _ = b.Flush() } // it would have failed at the writing
}

func eventsCommand(c *CLI) *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "Show what happens, as it happens",
		Description: "events --since 10m --filter type=container",
		Flags: []cli.Flag{
			filter(), format(), Text("since", "Begin with what happened since"),
			Text("until", "End at a time"),
		},
		Action: func(ctx *cli.Context) error {
			filters, err := parseFilters(ctx)
			if err != nil {
				return err
			}
			e, err := c.Engine()
			if err != nil {
				return err
			}
			show, err := c.eventPrinter(ctx.String("format"))
			if err != nil {
				return err
			}
			return e.Events(ctx.Context, engine.EventOptions{
				Since: ctx.String("since"), Until: ctx.String("until"), Filters: filters,
			}, show)
		},
	}
}

func (c *CLI) eventPrinter(format string) (func(events.Message) error, error) {
	switch format {
	case "":
		return func(m events.Message) error {
			_, err := fmt.Fprintln(c.Out, eventLine(m))
			return err
		}, nil
	case "json", "{{json .}}":
		encoder := json.NewEncoder(c.Out)
		encoder.SetEscapeHTML(false)
		return func(m events.Message) error { return encoder.Encode(m) }, nil
	}
	t, err := parseTemplate(format)
	if err != nil {
		return nil, err
	}
	return func(m events.Message) error {
		if err := t.Execute(c.Out, m); err != nil {
			return fmt.Errorf("template: %w", err)
		}
		_, err := fmt.Fprintln(c.Out)
		return err
	}, nil
}

// eventLine is TIME TYPE ACTION ID (NAME=VALUE, …).
func eventLine(m events.Message) string {
	var attributes []string
	for _, name := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
		attributes = append(attributes, name+"="+m.Actor.Attributes[name])
	}
	line := fmt.Sprintf("%s %s %s %s",
		time.Unix(0, m.TimeNano).Format("2006-01-02T15:04:05.000000000Z07:00"),
		m.Type, m.Action, m.Actor.ID)
	if len(attributes) > 0 {
		line += " (" + strings.Join(attributes, ", ") + ")"
	}
	return line
}
