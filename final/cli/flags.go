//go:build linux

package cli

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// The makers of flags. Names are the long one and then the letter: "interactive i".

// Toggle is a switch.
func Toggle(names, usage string) cli.Flag {
	name, also := split(names)
	return &cli.BoolFlag{Name: name, Aliases: also, Usage: usage}
}

// Text has a value.
func Text(names, usage string) cli.Flag {
	name, also := split(names)
	return &cli.StringFlag{Name: name, Aliases: also, Usage: usage}
}

// List may be given several times. Its values stay as they are: with commas, with spaces.
func List(names, usage string) cli.Flag {
	name, also := split(names)
	return &cli.StringSliceFlag{Name: name, Aliases: also, Usage: usage, KeepSpace: true}
}

func integer(names, usage string) cli.Flag {
	name, also := split(names)
	return &cli.Int64Flag{Name: name, Aliases: also, Usage: usage}
}

func count(names, usage string) cli.Flag {
	name, also := split(names)
	return &cli.IntFlag{Name: name, Aliases: also, Usage: usage}
}

func duration(names, usage string) cli.Flag {
	name, also := split(names)
	return &cli.DurationFlag{Name: name, Aliases: also, Usage: usage}
}

func hidden(f cli.Flag) cli.Flag {
	switch f := f.(type) {
	case *cli.StringFlag:
		f.Hidden = true
	case *cli.StringSliceFlag:
		f.Hidden = true
	case *cli.BoolFlag:
		f.Hidden = true
	}
	return f
}

func split(names string) (name string, also []string) {
	name, letter, ok := strings.Cut(names, " ")
	if ok {
		also = []string{letter}
	}
	return name, also
}

// The flags that several commands have.

func quiet() cli.Flag   { return Toggle("quiet q", "Only display IDs") }
func noTrunc() cli.Flag { return Toggle("no-trunc", "Don't truncate output") }
func filter() cli.Flag {
	return List("filter f", `Filter output, as in "label=app" or "name=web"`)
}
func format() cli.Flag {
	return Text("format", `"table", "table TEMPLATE", "json" or a Go template`)
}
func force(usage string) cli.Flag { return Toggle("force f", usage) }
