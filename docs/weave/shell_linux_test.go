package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// shellIn runs weave shell in mount namespace of its own, with input typed in.
func shellIn(t *testing.T, root, input string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"shell"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), weaveItself+"=1")
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestShell(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# true\n")
	out, err := shellIn(t, root, "ls -A\nminidocker you\ncp $STEP/*.go . && go build -o broken . && ./broken me\n"+
		"mkdir m && mount -t tmpfs none m && echo mounted\nexit 7\n", "01")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"step01# ", "hello you\n", "hello me\n", "mounted\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	noScratch(t, root) // what was mounted in it is unmounted
}

// A mount that is in use is not unmounted, and nothing in it is removed.
func TestShell_BusyMount(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# true\n")
	put(t, root, "keep/file", "precious\n")
	out, err := shellIn(t, root, "mkdir m && mount --bind $REPO/keep m\n"+
		"(cd m && exec sleep 2 >/dev/null 2>&1) &\nsleep 0.3\n", "1")
	if err == nil || !strings.Contains(out, "unmount it and remove") {
		t.Errorf("got %v and\n%s", err, out)
	}
	if got := read(t, root, "keep/file"); got != "precious\n" {
		t.Errorf("the file in the mount is %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "build", "_step01-*")); len(left) != 1 {
		t.Errorf("the folder is gone: %v", left)
	}
}

func TestShell_User(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# true\n")
	out, err := shellIn(t, root, "id -u; touch x && pwd\n", "-user", "1")
	if err != nil || !strings.Contains(out, "1000\n") || !strings.Contains(out, "/home\n") {
		t.Errorf("got %v and\n%s", err, out)
	}
	noScratch(t, root)
}

func TestUnescapeMount(t *testing.T) {
	t.Parallel()
	if got := unescapeMount(`/a\040b\011c\134040`); got != "/a b\tc\\040" {
		t.Errorf("got %q", got)
	}
}
