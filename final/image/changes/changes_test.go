//go:build linux

package changes_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"minidocker/final/image"
	"minidocker/final/image/changes"
)

func TestApply(t *testing.T) {
	base := image.Config{}
	base.Config.Env = []string{"PATH=/bin", "A=1"}
	base.Config.Cmd = []string{"old"}
	base.Config.WorkingDir = "/srv"
	base.Config.Labels = map[string]string{"a": "b"}
	before := base
	ports := map[string]struct{}{"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}
	for lines, want := range map[string]func(c *image.Config){
		"": func(*image.Config) {},
		`CMD ["a","b c"]`: func(c *image.Config) {
			c.Config.Cmd = []string{"a", "b c"}
		},
		"CMD echo $A": func(c *image.Config) {
			c.Config.Cmd = []string{"/bin/sh", "-c", "echo $A"}
		},
		`ENTRYPOINT ["e"]`: func(c *image.Config) {
			c.Config.Entrypoint, c.Config.Cmd = []string{"e"}, nil
		},
		"cmd [\"c\"]\nENTRYPOINT [\"e\"]": func(c *image.Config) {
			c.Config.Entrypoint, c.Config.Cmd = []string{"e"}, []string{"c"}
		},
		"ENV PATH=$PATH:/x B='two words'\nENV C $B": func(c *image.Config) {
			c.Config.Env = []string{"PATH=/bin:/x", "A=1", "B=two words", "C=two words"}
		},
		"EXPOSE 80 53/UDP 8000-8001": func(c *image.Config) { c.Config.ExposedPorts = ports },
		"LABEL a=c d=${A}e": func(c *image.Config) {
			c.Config.Labels = map[string]string{"a": "c", "d": "1e"}
		},
		"VOLUME /data": func(c *image.Config) {
			c.Config.Volumes = map[string]struct{}{"/data": {}}
		},
		"USER me:us":       func(c *image.Config) { c.Config.User = "me:us" },
		"WORKDIR x/../y":   func(c *image.Config) { c.Config.WorkingDir = "/srv/y" },
		"WORKDIR /":        func(c *image.Config) { c.Config.WorkingDir = "/" },
		"STOPSIGNAL TERM":  func(c *image.Config) { c.Config.StopSignal = "TERM" },
		"ONBUILD RUN true": func(c *image.Config) { c.Config.OnBuild = []string{"RUN true"} },
		"HEALTHCHECK --interval=5s --retries=2 CMD true": func(c *image.Config) {
			c.Config.Healthcheck = &dockerspec.HealthcheckConfig{
				Test: []string{"CMD-SHELL", "true"}, Interval: 5 * time.Second, Retries: 2,
			}
		},
	} {
		got, expected := base, base
		want(&expected)
		if err := changes.Apply(&got, strings.Split(lines, "\n")); lines != "" && err != nil {
			t.Errorf("%q: %v", lines, err)
		} else if !reflect.DeepEqual(got, expected) {
			t.Errorf("%q: got %+v, want %+v", lines, got, expected)
		}
	}
	if !reflect.DeepEqual(base, before) || base.Config.Env[0] != "PATH=/bin" || len(base.Config.Labels) != 1 {
		t.Errorf("the base was changed: %+v", base)
	}
}

func TestApply_Wrong(t *testing.T) {
	for line, want := range map[string]string{
		"RUN true": "RUN is not possible here", "FROM x": "FROM", "nonsense": "NONSENSE",
		"EXPOSE x": "port", "EXPOSE 0": "port", "EXPOSE 70000": "port", "EXPOSE 9-8": "port",
		"EXPOSE 1/ip": "port", "ENV": "ENV", "ENV =x": "ENV", "CMD [": "", "VOLUME": "VOLUME", "LABEL x": "LABEL",
		"STOPSIGNAL": "STOPSIGNAL", "HEALTHCHECK": "HEALTHCHECK", "ONBUILD FROM x": "FROM",
	} {
		var c image.Config
		err := changes.Apply(&c, []string{line})
		if line == "CMD [" { // no list, so it is a command line
			if err != nil || c.Config.Cmd[2] != "[" {
				t.Errorf("%q: got %v, %q", line, err, c.Config.Cmd)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %+v", line, err, c.Config)
		}
	}
}
