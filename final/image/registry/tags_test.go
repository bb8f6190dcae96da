//go:build linux

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"minidocker/final/image/registry"
)

func TestTags(t *testing.T) {
	s, _, _, _ := pushed(t)
	if got, err := client().Tags(t.Context(), s.host+"/fruits"); err != nil || !slices.Equal(got, []string{"1"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := client().Tags(t.Context(), s.host+"/nuts"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("of what is not there: got %q, %v", got, err)
	}
	n := 0
	s.put(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/tags/list") {
			return false
		}
		if n++; n < 4 {
			w.Header().Set("Link", `</v2/fruits/tags/list?n=1&last=x>; rel="next"`)
		}
		fmt.Fprintf(w, `{"name":"fruits","tags":["t%d"]}`, n)
		return true
	})
	want := []string{"t1", "t2", "t3", "t4"}
	if got, err := client().Tags(t.Context(), s.host+"/fruits"); err != nil || !slices.Equal(got, want) {
		t.Errorf("page by page: got %q, %v", got, err)
	}
	for _, link := range []string{"/v2/fruits/tags/list", "http://192.0.2.1/"} {
		s.put(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Link", "<"+link+`>; rel="next"`)
			fmt.Fprint(w, `{"tags":["x"]}`)
			return strings.HasSuffix(r.URL.Path, "/tags/list")
		})
		if got, err := client().Tags(t.Context(), s.host+"/fruits"); err == nil {
			t.Errorf("a list that goes on at %s: got %d tags", link, len(got))
		}
	}
}

func TestSearch(t *testing.T) {
	s, _, _, _ := pushed(t)
	for term, want := range map[string]int{"/fru": 1, "/fruits": 1, "/nut": 0} {
		got, err := client().Search(t.Context(), s.host+term, 10)
		if err != nil || len(got) != want || want == 1 && got[0].Name != s.host+"/fruits" {
			t.Errorf("%q: got %v, %v", term, got, err)
		}
	}
	hub := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/search" || r.Host != "index.docker.io" || r.FormValue("n") != "7" {
			t.Errorf("the request is %s%s", r.Host, r.URL)
		}
		fmt.Fprintf(w, `{"results":[{"name":%q,"description":"d","star_count":3,"is_official":true}]}`,
			r.FormValue("q"))
	}))
	defer hub.Close()
	c := insecure(client())
	c.SetDial(func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("tcp", hub.Listener.Addr().String())
	})
	got, err := c.Search(t.Context(), "busybox", 7)
	want := registry.Found{Name: "busybox", Description: "d", Stars: 3, Official: true}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v", got, err)
	}
}
