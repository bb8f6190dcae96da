//go:build linux

package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdAPI is api FILE METHOD PATH [BODY]: it asks the daemon at $DOCKER_HOST what no client asks,
// and writes the answer's status, a line's end and its body to FILE. $ID is the Id in it, if any.
func cmdAPI(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: api FILE METHOD PATH [BODY]")
	}
	socket, ok := strings.CutPrefix(ts.Getenv("DOCKER_HOST"), "unix://")
	if !ok {
		ts.Fatalf("DOCKER_HOST is no unix socket")
	}
	client := &http.Client{Timeout: patience(), Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", socket)
		}}}
	var body io.Reader
	if len(args) == 4 {
		body = strings.NewReader(args[3])
	}
	request, err := http.NewRequest(args[1], "http://d"+args[2], body)
	ts.Check(err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	ts.Check(err)
	var made struct{ ID string }
	if json.Unmarshal(answer, &made) == nil && made.ID != "" {
		ts.Setenv("ID", made.ID)
	}
	text := fmt.Appendf(nil, "%d\n%s", response.StatusCode, answer)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
}
