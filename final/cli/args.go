//go:build linux

package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// arguments are a command's words, sorted out.
type arguments struct {
	words []string // --name=value …, --, arguments: as urfave/cli reads them
	flags []cli.Flag
	help  bool
}

// sortOut reads a command's words as Docker does (-it, -p80:80, --name x, flags behind arguments;
// with first, the first argument ends the flags) and writes them as urfave/cli wants them. Only
// flags that were given are kept: the library's time grows with the square of their number, which
// costs run three milliseconds with all of its hundred.
func sortOut(flags []cli.Flag, words []string, first bool) (*arguments, error) {
	table := make(map[string]cli.Flag, 2*len(flags))
	for _, f := range flags {
		for _, name := range f.Names() {
			table[name] = f
		}
	}
	a := &arguments{}
	used := map[cli.Flag]bool{}
	give := func(f cli.Flag, value string) {
		if !used[f] {
			used[f] = true
			a.flags = append(a.flags, f)
		}
		a.words = append(a.words, "--"+f.Names()[0]+"="+value)
	}
	var rest []string
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" || first && !isFlag(word) {
			if word != "--" {
				rest = append(rest, word)
			}
			rest = append(rest, words...)
			break
		}
		var err error
		switch {
		case !isFlag(word):
			rest = append(rest, word)
		case word == "--help", word == "-h" && table["h"] == nil:
			a.help = true
			return a, nil
		case strings.HasPrefix(word, "--"):
			words, err = long(table, word[2:], words, give)
		default:
			words, err = group(table, word[1:], words, give)
		}
		if err != nil {
			return nil, err
		}
	}
	a.words = append(append(a.words, "--"), rest...)
	return a, nil
}

func isFlag(word string) bool { return len(word) > 1 && word[0] == '-' }

// long reads name[=value]; a switch takes no word more.
func long(
	table map[string]cli.Flag, word string, words []string, give func(cli.Flag, string),
) ([]string, error) {
	name, value, has := strings.Cut(word, "=")
	f := table[name]
	if f == nil || len(name) < 2 {
		return nil, fmt.Errorf("unknown flag: --%s", name)
	}
	if _, ok := f.(*cli.BoolFlag); ok {
		if !has {
			value = "true"
		} else if _, err := strconv.ParseBool(value); err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"--%s\" flag: want true or false",
				value, name)
		}
	} else if !has {
		if len(words) == 0 {
			return nil, fmt.Errorf("flag needs an argument: --%s", name)
		}
		value, words = words[0], words[1:]
	}
	give(f, value)
	return words, nil
}

// group reads letters, of which the last may have a value, in the same word or the next.
func group(
	table map[string]cli.Flag, letters string, words []string, give func(cli.Flag, string),
) ([]string, error) {
	for i := range len(letters) {
		letter, rest := letters[i:i+1], letters[i+1:]
		f := table[letter]
		if f == nil {
			return nil, fmt.Errorf("unknown shorthand flag: '%s' in -%s", letter, letters)
		}
		value, has := strings.CutPrefix(rest, "=")
		if _, ok := f.(*cli.BoolFlag); ok {
			if has {
				return long(table, f.Names()[0]+rest, words, give)
			}
			give(f, "true")
			continue
		}
		if value == "" && !has {
			if len(words) == 0 {
				return nil, fmt.Errorf("flag needs an argument: '%s' in -%s", letter, letters)
			}
			value, words = words[0], words[1:]
		}
		give(f, value)
		return words, nil
	}
	return words, nil
}
