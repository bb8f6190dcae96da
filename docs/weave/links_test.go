package main

import (
	"slices"
	"strings"
	"testing"
)

func TestCheck_Links(t *testing.T) {
	t.Parallel()
	root := files{
		".gitignore":  "/build/\n",
		"build/out":   "made\n",
		"go.mod":      "module tiny\n",
		"docs/a.md":   "# A\n",
		"docs/x y.md": "# A\n",
		"code.go":     "package main\n\n// end\n",
		"sub/README.md": "# Sub & Co: `go run`, *now*\n\n## Again\n\n## Again\n\nUnder\n-----\n\n" +
			"<a id=\"by-hand\"></a>\n\n```text\n# no heading\n```\n",
		"front.md": "---\ntitle: x\n---\n\n# Top\n",
	}.write(t)
	tests := []struct{ link, want string }{
		{"[x](docs/a.md)", ""},
		{"[x](/docs/a.md)", ""},
		{"[x](docs/x%20y.md)", ""},
		{"[x](<docs/x y.md>)", ""},
		{"[x](docs), [y](.), [z](docs/)", ""},
		{"[x](sub#again-1)", ""},
		{"[x](sub/README.md#sub--co-go-run-now)", ""},
		{"[x](sub/README.md#under)", ""},
		{"[x](sub/README.md#by-hand)", ""},
		{"[x](front.md#top)", ""},
		{"[x](code.go#L1-L3)", ""},
		{"[x](#title)", ""},
		{"[x](https://example.org/nosuch), <mailto:a@b.c>, [y](//host/x)", ""},
		{"`[x](nosuch)`", ""},
		{"<!-- [x](nosuch) <img src=\"nosuch\"> -->", ""},
		{"[x](nosuch.md)", "dead link nosuch.md: there is no nosuch.md"},
		{"[x]( )", "it is empty"},
		{"![x](no.png)", "there is no no.png"},
		{"[x][r]\n\n[r]: nosuch", "there is no nosuch"},
		{"<p><img src=\"no.png\"></p>", "there is no no.png"},
		{"An <a href='nosuch'>a</a>", "there is no nosuch"},
		{"|[x](nosuch)|\n|---|", "there is no nosuch"},
		{"[x](../x.md)", "it leads out of the repository"},
		{"[x](build/out)", "build/out is here, but git ignores it"},
		{"[x](build)", "build is here, but git ignores it"},
		{"[x](#nosuch)", "there is no such heading in page.md"},
		{"[x](sub#again-2)", "there is no such heading in sub/README.md"},
		{"[x](sub#no-heading)", "there is no such heading"},
		{"[x](front.md#title-x)", "there is no such heading"},
		{"[x](docs#a)", "there is no docs/README.md"},
		{"[x](code.go#L4)", "code.go has no such line"},
		{"[x](code.go#end)", "code.go has no headings"},
	}
	for _, tt := range tests {
		put(t, root, "page.md", "# Title\n\nText\n\n"+tt.link+"\n")
		out, _ := weaveIn(t, root, "check")
		switch {
		case tt.want == "" && out != "":
			t.Errorf("%s: got %q", tt.link, out)
		case tt.want != "" && (!strings.HasPrefix(out, "page.md:5: dead link ") || !strings.Contains(out, tt.want)):
			t.Errorf("%s: got %q, want %q", tt.link, out, tt.want)
		}
	}
}

func TestSlug(t *testing.T) {
	t.Parallel()
	p := scanPage("x.md", "# What Docker does\n# `pivot_root`(2) & chroot\n# Größe 10 µs\n"+
		"# a-1\n# a\n# a\n# a\n# E = m·c²\n# \\*Star\\* &amp; [link](x)\n")
	want := []string{"what-docker-does", "pivot_root2--chroot", "größe-10-µs", "a-1", "a", "a-2", "a-3",
		"e--mc²", "star--link"}
	var got []string
	for _, h := range p.parse().headings {
		got = append(got, h.slug)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCheck_TestsThatNameALesson(t *testing.T) {
	t.Parallel()
	root := files{"go.mod": "module tiny\n", "docs/a.md": "# A\n\n## Under\n"}.write(t)
	script := "final/tests/scripts/01-x.txtar"
	put(t, root, script, "# it works\n# read: docs/a.md#under\n")
	if out, status := weaveIn(t, root, "check"); status != 0 {
		t.Errorf("got exit status %d, want 0\n%s", status, out)
	}
	put(t, root, script, "# it works\n# read: docs/a.md#over\n")
	wantFailure(t, root, "check", script+":2: dead link docs/a.md#over: there is no such heading")
}
