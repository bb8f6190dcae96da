//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
)

// flags are a command's options: --name value, --name=value, -n value.
type flags struct {
	command, arguments string
	all                []option
}

type option struct {
	name, usage string
	value       func(string) error // nil for a switch
	on          *bool
}

func newFlags(command, arguments string) *flags {
	return &flags{command: command, arguments: arguments}
}

func (f *flags) text(p *string, name, usage string) {
	f.each(name, usage, func(s string) error { *p = s; return nil })
}

func (f *flags) list(p *[]string, name, usage string) {
	f.each(name, usage, func(s string) error { *p = append(*p, s); return nil })
}

func (f *flags) each(name, usage string, value func(string) error) {
	f.all = append(f.all, option{name: name, usage: usage, value: value})
}

func (f *flags) flag(p *bool, name, usage string) {
	f.all = append(f.all, option{name: name, usage: usage, on: p})
}

// parse takes the options off the arguments, up to the first that is none; without
// first, those behind arguments as well, up to "--".
func (f *flags) parse(args []string, first bool) ([]string, error) {
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(rest, args...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			if first {
				return append(rest, args...), nil
			}
			continue
		}
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		o := f.find(name)
		if o == nil && (name == "help" || name == "h") {
			f.help()
			return nil, errHelp
		}
		if o == nil {
			return nil, fmt.Errorf("%s: unknown option %s: see minirunc --help", f.command, arg)
		}
		if o.on != nil {
			*o.on = value != "false"
			continue
		}
		if !given {
			if len(args) == 0 {
				return nil, fmt.Errorf("%s: option %s needs a value", f.command, arg)
			}
			value, args = args[0], args[1:]
		}
		if err := o.value(value); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.command, arg, err)
		}
	}
	return rest, nil
}

func (f *flags) find(name string) *option {
	for i := range f.all {
		if f.all[i].name == name {
			return &f.all[i]
		}
	}
	return nil
}

// errHelp is no error: help was asked for, and is printed.
var errHelp = errors.New("help")

// described are the commands, for help, which the table of them cannot name itself.
var described []command

// help prints what the command is for, and its options.
func (f *flags) help() {
	for _, c := range described {
		if c.name == f.command {
			fmt.Printf("NAME:\n   minirunc %s - %s\n\nUSAGE:\n   minirunc %s [OPTION...] %s\n",
				c.name, c.usage, c.name, f.arguments)
		}
	}
	if len(f.all) > 0 {
		fmt.Println("\nOPTIONS:")
		f.print()
	}
}

func (f *flags) print() {
	for _, o := range f.all {
		name := "--" + o.name
		if len(o.name) == 1 {
			name = "-" + o.name
		}
		fmt.Printf("  %-22s %s\n", name, o.usage)
	}
}
