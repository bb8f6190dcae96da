//go:build linux

package image_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLean sees that the store links nothing that makes a program start later, since every
// minidocker run has it.
func TestLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/moby/docker-image-spec/specs-go/v1") {
		t.Fatalf("that are not the dependencies: %q", deps)
	}
	for _, dep := range deps {
		for _, heavy := range []string{
			"net", "net/http", "crypto/tls", "os/exec", "text/template", "compress/gzip",
			"github.com/distribution/reference", "github.com/klauspost/compress",
			"github.com/google/go-containerregistry", "github.com/sirupsen/logrus",
			"minidocker/final/storage",
		} {
			if dep == heavy || strings.HasPrefix(dep, heavy+"/") {
				t.Errorf("it depends on %s", dep)
			}
		}
	}
}
