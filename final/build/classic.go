//go:build linux

package build

import (
	"fmt"
	"io"
)

// Classic prints the events of a build as the Docker API has always done: "Step 1/3 : FROM …".
func Classic(w io.Writer) func(Event) {
	n := 0
	return func(e Event) {
		switch {
		case (e.Kind == Begun || e.Kind == Meta) && e.Source != "":
			n++
			fmt.Fprintf(w, "Step %d/%d : %s\n", min(n, max(e.Of, n)), max(e.Of, n), e.Source)
		case e.Kind == Cached:
			fmt.Fprintln(w, " ---> Using cache")
		case e.Kind == Printed && e.Source != "":
			fmt.Fprint(w, e.Text)
		}
	}
}
