package request

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// Env is the environment: the files' lines, then the values, NAME=VALUE each. A NAME alone takes
// the value that it has here. If it has none, a file's is left out, and one of the values stays as
// it is: it takes away what the image says.
func Env(files, values []string) ([]string, error) {
	var env []string
	for _, file := range files {
		lines, err := readLines(file)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		for _, line := range lines {
			if line = withValue(line); strings.Contains(line, "=") {
				env = append(env, line)
			}
		}
	}
	for _, s := range values {
		if s == "" || s[0] == '=' {
			return nil, invalid("env", s, errors.New("invalid environment variable: "+s))
		}
		env = append(env, withValue(s))
	}
	return env, nil
}

func withValue(s string) string {
	if value, ok := os.LookupEnv(s); ok && !strings.Contains(s, "=") {
		return s + "=" + value
	}
	return s
}

// Labels are the files' lines and then the values, NAME[=VALUE] each.
func Labels(files, values []string) (map[string]string, error) {
	var all []string
	for _, file := range files {
		lines, err := readLines(file)
		if err != nil {
			return nil, fmt.Errorf("--label-file: %w", err)
		}
		all = append(all, lines...)
	}
	for _, s := range values {
		s = strings.TrimLeft(s, " \t")
		name, _, _ := strings.Cut(s, "=")
		if name == "" {
			return nil, invalid("label", s, fmt.Errorf("invalid label '%s': empty name", s))
		}
		if strings.ContainsAny(name, " \t") {
			return nil, invalid("label", s, fmt.Errorf("label '%s' contains whitespaces", name))
		}
		all = append(all, s)
	}
	return Pairs(all), nil
}

// readLines are a file's lines but for those that are empty or begin with #. Space before a name
// is taken off; there may be none in it.
func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for number := 1; scanner.Scan(); number++ {
		line := scanner.Text()
		if !utf8.ValidString(line) {
			return nil, fmt.Errorf("%s: invalid utf8 bytes at line %d: %q", name, number, line)
		}
		if number == 1 {
			line = strings.TrimPrefix(line, "\uFEFF")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		variable, _, hasValue := strings.Cut(line, "=")
		if variable == "" {
			return nil, fmt.Errorf("%s: no variable name on line '%s'", name, line)
		}
		if strings.ContainsAny(variable, " \t") {
			return nil, fmt.Errorf("%s: variable '%s' contains whitespaces", name, variable)
		}
		if !hasValue {
			line = variable
		}
		lines = append(lines, line)
	}
	return lines, scanner.Err()
}
