//go:build linux

// Package changes changes an image's configuration by lines of a Dockerfile: those of commit
// --change and import --change, and the ones in a Dockerfile that change nothing else.
package changes

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"minidocker/final/image"
)

// allowed are the instructions that commit and import take, as Docker does.
var allowed = strings.Fields(
	"CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR")

// Apply changes a configuration by lines, in their order.
func Apply(c *image.Config, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	parsed, err := parser.Parse(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return fmt.Errorf("change: %w", err)
	}
	cmdGiven := false // in these lines: an ENTRYPOINT takes away the CMD that the image had
	for _, node := range parsed.AST.Children {
		name := strings.ToUpper(node.Value)
		if !slices.Contains(allowed, name) {
			return fmt.Errorf("change %q: %s is not possible here, but %s",
				node.Original, name, strings.Join(allowed, ", "))
		}
		command, err := instructions.ParseCommand(node)
		if err == nil {
			err = Instruct(c, command, parsed.EscapeToken, c.Config.Env, cmdGiven)
		}
		if err != nil {
			return fmt.Errorf("change %q: %w", node.Original, err)
		}
		cmdGiven = cmdGiven || name == "CMD"
	}
	return nil
}

// ErrOther is what Instruct gives for an instruction that changes more than the configuration.
var ErrOther = errors.New("the instruction is not about the configuration")

// Instruct changes a configuration by one instruction. Variables in it stand for those in env, a
// list of NAME=VALUE. keepCmd says that an ENTRYPOINT leaves the CMD.
func Instruct(
	c *image.Config, command instructions.Command, escape rune, env []string, keepCmd bool,
) error {
	if expand, ok := command.(instructions.SupportsSingleWordExpansion); ok {
		lex, variables := shell.NewLex(escape), shell.EnvsFromSlice(env)
		if err := expand.Expand(func(word string) (string, error) {
			word, _, err := lex.ProcessWord(word, variables)
			return word, err
		}); err != nil {
			return err
		}
	}
	to := &c.Config
	switch cmd := command.(type) {
	case *instructions.CmdCommand:
		to.Cmd = commandLine(c, cmd.ShellDependantCmdLine)
	case *instructions.EntrypointCommand:
		to.Entrypoint = commandLine(c, cmd.ShellDependantCmdLine)
		if !keepCmd {
			to.Cmd = nil
		}
	case *instructions.EnvCommand:
		for _, kv := range cmd.Env {
			to.Env = setEnv(to.Env, kv.Key, kv.Value)
		}
	case *instructions.LabelCommand:
		for _, kv := range cmd.Labels {
			set(&to.Labels, kv.Key, kv.Value)
		}
	case *instructions.ExposeCommand:
		ports := maps.Clone(to.ExposedPorts)
		if ports == nil {
			ports = map[string]struct{}{}
		}
		to.ExposedPorts = ports
		return expose(cmd.Ports, func(port string) { ports[port] = struct{}{} })
	case *instructions.VolumeCommand:
		for _, v := range cmd.Volumes {
			if v == "" {
				return errors.New("a volume needs a path")
			}
			set(&to.Volumes, v, struct{}{})
		}
	case *instructions.UserCommand:
		to.User = cmd.User
	case *instructions.WorkdirCommand:
		to.WorkingDir = workdir(to.WorkingDir, cmd.Path)
	case *instructions.HealthCheckCommand:
		to.Healthcheck = cmd.Health
	case *instructions.StopSignalCommand:
		to.StopSignal = cmd.Signal
	case *instructions.OnbuildCommand:
		to.OnBuild = append(slices.Clone(to.OnBuild), cmd.Expression)
	case *instructions.ShellCommand:
		to.Shell = cmd.Shell
	case *instructions.MaintainerCommand:
		c.Author = cmd.Maintainer
	default:
		return fmt.Errorf("%s: %w", command.Name(), ErrOther)
	}
	return nil
}

// commandLine is a command's words; those that were not written as a list are the shell's.
func commandLine(c *image.Config, line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	return append(Shell(c), strings.Join(line.CmdLine, " "))
}

// Shell is what runs a command line: SHELL's words, or /bin/sh -c.
func Shell(c *image.Config) []string {
	if len(c.Config.Shell) > 0 {
		return slices.Clone(c.Config.Shell)
	}
	return []string{"/bin/sh", "-c"}
}

// setEnv changes a variable in place, or adds it.
func setEnv(env []string, name, value string) []string {
	env = slices.Clone(env)
	for i, old := range env {
		if n, _, _ := strings.Cut(old, "="); n == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

// set puts a value into a copy of a map: the image that the old one is of keeps that.
func set[V any](m *map[string]V, key string, value V) {
	changed := make(map[string]V, len(*m)+1)
	for k, v := range *m {
		changed[k] = v
	}
	changed[key] = value
	*m = changed
}

// workdir is a folder as seen from another.
func workdir(from, to string) string {
	if path.IsAbs(to) {
		return path.Clean(to)
	}
	return path.Join("/", from, to)
}

// expose reads ports: PORT[-PORT][/PROTOCOL].
func expose(ports []string, add func(port string)) error {
	for _, text := range ports {
		numbers, protocol, found := strings.Cut(text, "/")
		if !found {
			protocol = "tcp"
		}
		protocol = strings.ToLower(protocol)
		first, last, isRange := strings.Cut(numbers, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		known := slices.Contains([]string{"tcp", "udp", "sctp"}, protocol)
		if err := errors.Join(err1, err2); err != nil || from > to || from == 0 || !known {
			return fmt.Errorf("port %q: want PORT or PORT-PORT, and perhaps /tcp, /udp or /sctp", text)
		}
		for p := from; p <= to; p++ {
			add(fmt.Sprintf("%d/%s", p, protocol))
		}
	}
	return nil
}
