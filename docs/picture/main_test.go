package main

import (
	"slices"
	"strings"
	"testing"
)

func TestScreenLines(t *testing.T) {
	got := screenLines("one\r\n\x1b[6n/ # lx\bs\r\n50 %\r100 %\r\n\r\n")
	if want := []string{"one", "/ # ls", "100 %"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRecord_TypesAtThePrompt(t *testing.T) {
	script := `while printf "> " && read -r line; do case $line in exit) exit;; *) echo "<$line>"; esac; done`
	got, err := record("> ", []string{"sh", "-c", script}, []string{"a b"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"> a b", "<a b>", "> exit"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDraw_Escapes(t *testing.T) {
	got := draw([]string{"$ make demo", "/ # echo '<a>'", "<a>"}, "/ # ")
	for _, want := range []string{
		"<title>$ make demo, at a terminal</title>", `<tspan class="t">make demo</tspan>`,
		`<tspan class="p">/ # </tspan><tspan class="t">echo &#39;&lt;a&gt;&#39;</tspan>`,
		`xml:space="preserve">&lt;a&gt;</text>`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
}
