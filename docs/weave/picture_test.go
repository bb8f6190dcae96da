package main

import "testing"

func TestCheckPictures(t *testing.T) {
	t.Parallel()
	text := "```mermaid\nsequenceDiagram\n  a->>b: one, two\n  a->>b: one; two\n  a->>b: one#59; two\n```\n" +
		"\n```mermaid\ngraph TD\n  a --> b;\n```\n\n```sh\nsequenceDiagram; true\n```\n"
	var problems problemList
	checkPictures(scanPage("x.md", text), &problems)
	if len(problems) != 1 || problems[0].line != 4 {
		t.Errorf("got %v, want one problem in line 4", problems)
	}
}
