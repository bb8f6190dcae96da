package quickjson

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// same decodes with both packages.
func same(t *testing.T, data []byte) {
	t.Helper()
	var ours, theirs specs.Spec
	ourErr, theirErr := Unmarshal(data, &ours), json.Unmarshal(data, &theirs)
	if (ourErr == nil) != (theirErr == nil) || theirErr != nil && ourErr.Error() != theirErr.Error() {
		t.Fatalf("%s: got error %v, want %v", data, ourErr, theirErr)
	}
	if theirErr == nil && !reflect.DeepEqual(ours, theirs) {
		t.Fatalf("%s:\ngot  %+v\nwant %+v", data, ours, theirs)
	}
}

var examples = []string{
	`{}`, `null`, `[]`, `{`, ``, `"x"`, `{"hostname": 1}`, `{"HostName": "x"}`, `{"hostname": null}`,
	`{"hostname": "a\u00e9\"\\\/\n\ud83d\ude00"}`, "{\"hostname\": \"\xff\"}", "{\"hostname\": \"\x01\"}",
	`{"process": {"args": ["a", "b"], "user": {"uid": 5, "umask": 18}, "rlimits": [{"hard": 1e3}]}}`,
	`{"process": {"user": {"uid": -1}}}`, `{"process": {"user": {"uid": 4294967296}}}`,
	`{"process": {"args": null, "terminal": "x"}}`, `{"process": null}`, `{"unknown": {"a": [1, {"b": "]}"}]}}`,
	`{"annotations": {"a": "b", "": "c", "a": "d"}}`, `{"hostname": "a", "hostname": "b"}`,
	`{"process": {"oomScoreAdj": -5, "env": []}, "process": {"cwd": "/"}}`,
	`{"linux": {"devices": [{"path": "/dev/x", "fileMode": 438, "uid": 0}], "sysctl": {}}}`,
	`{"linux": {"seccomp": {"syscalls": [{"names": [], "args": [{"value": 18446744073709551615}]}]}}}`,
	` { "mounts" : [ { "destination" : "/a" , "options" : [ "ro" ] } , {} ] } `, `{"mounts": [1]}`, `{}x`,
}

func TestUnmarshal(t *testing.T) {
	for _, example := range examples {
		same(t, []byte(example))
	}
	if _, err := exec.LookPath("go"); err != nil {
		return // nor are there the specification's examples, which are in its cache
	}
	const name = "github.com/opencontainers/runtime-spec"
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(strings.TrimSpace(string(module)) + "/schema/test/config/*/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("examples of the specification: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		same(t, data)
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, example := range examples {
		f.Add([]byte(example))
	}
	f.Fuzz(func(t *testing.T, data []byte) { same(t, data) })
}

func TestUnmarshal_Own(t *testing.T) {
	type record struct {
		Time  time.Time
		Later *time.Time
	}
	for _, text := range []string{`{"time": "2026-01-02T03:04:05Z"}`, `{"Later": "2026-01-02T03:04:05.5Z"}`,
		`{"Time": null, "Later": null}`, `{"Time": "x"}`} {
		var ours, theirs record
		ourErr, theirErr := Unmarshal([]byte(text), &ours), json.Unmarshal([]byte(text), &theirs)
		if (ourErr == nil) != (theirErr == nil) || !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%s: got %v, %v, want %v, %v", text, ours, ourErr, theirs, theirErr)
		}
	}
}
