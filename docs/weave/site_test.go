package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

// siteOf is what weave site prints for a small repository.
func siteOf(t *testing.T, f files) siteData {
	t.Helper()
	f["go.mod"] = "module tiny\n"
	var out, errs bytes.Buffer
	if status := weave(&call{f.write(t), []string{"site"}, &out, &errs}); status != 0 {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	var data siteData
	if err := json.Unmarshal(out.Bytes(), &data); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSite_ChangesAndTheirExplanation(t *testing.T) {
	t.Parallel()
	data := siteOf(t, files{
		"step01-one/run.go": "package main\n\nfunc a() {\n\tone()\n}\n",
		"step01-one/README.md": "# Step 01: one\n\nLead.\n\n## In Go\n\n" +
			"<!-- weave: code run.go package -->\n<!-- weave: code run.go a -->\n",
		"step02-two/run.go": "package main\n\nfunc a() {\n\ttwo()\n}\n\nfunc b() {}\n",
		"step02-two/README.md": "# Step 02: two\n\nLead.\n\n## In Go\n\n<!-- weave: diff run.go a -->\n\n" +
			"### More\n\n<!-- weave: code run.go b -->\n\n[x](../notes.txt) [y](run.go) [z](../dir)\n",
		"notes.txt": "x\n", "dir/a": "x\n",
	})
	if len(data.Pairs) != 3 || len(data.Steps) != 2 || data.Steps[1].Title != "Step 02: two" {
		t.Fatalf("got %+v", data)
	}
	refs := data.Refs["step02-two/README.md"]
	if len(refs) != 2 || refs[0].ID != "in-go-run.go-a" || refs[1].Heading != "More" {
		t.Errorf("refs: got %+v", refs)
	}
	want := []siteChange{
		{4, 1, 4, 1, "func a", "in-go-run.go-a"},
		// The blank line above b goes with it.
		{6, 0, 6, 2, "func b", "in-go-run.go-b"},
	}
	for _, p := range data.Pairs {
		if p.From != 1 {
			continue
		}
		got := p.Files[0].Changes
		if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("changes: got %+v, want %+v", got, want)
		}
	}
	if w, ok := data.Linked["notes.txt"]; !ok || len(w) != 0 || data.Linked["dir"][0] != "dir/a" ||
		len(data.Linked) != 2 {
		t.Errorf("linked: got %v", data.Linked)
	}
}

func TestSite_ALessonWithoutAHeading(t *testing.T) {
	t.Parallel()
	f := files{"go.mod": "module tiny\n", "step01-one/README.md": "text\n", "step01-one/a.go": ""}
	var out, errs bytes.Buffer
	status := weave(&call{f.write(t), []string{"site"}, &out, &errs})
	if status != 1 || !strings.Contains(errs.String(), "step01-one/README.md has no heading") {
		t.Errorf("status %d: %s", status, errs.String())
	}
}

func TestServe_TellsPagesToStayAtHome(t *testing.T) {
	t.Parallel()
	dir := files{"go.mod": "", "step/03.html": "process 1"}.write(t)
	server := httptest.NewServer(site(dir))
	defer server.Close()
	answer, err := server.Client().Get(server.URL + "/step/03.html")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || string(body) != "process 1" {
		t.Errorf("got %q, %v", body, err)
	}
	if csp := answer.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self'") {
		t.Errorf("got policy %q", csp)
	}
}
