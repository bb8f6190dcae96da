package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
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

// From the step on that keeps images the machine's /var/lib is out of the lesson's reach, and
// from the next one on its network.
func TestShell_OwnStoreAndNetwork(t *testing.T) {
	t.Parallel()
	var machine syscall.Stat_t
	if err := syscall.Stat("/var/lib", &machine); err != nil {
		t.Fatal(err)
	}
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	// The shell shows what is typed in: the words are put together by what it does.
	input := fmt.Sprintf("test $(stat -c %%d /var/lib) = %d || echo own'-'store\n"+
		"test $(readlink /proc/self/ns/net) = '%s' || ip -brief link show up | sed 's/ .*/-is-up/'\n",
		machine.Dev, network)
	for step, want := range map[string]string{"06": "", "07": "own-store", "08": "own-store lo-is-up"} {
		f := goodRepo()
		f["step"+step+"-new/run.go"] = stepOne
		f["step"+step+"-new/README.md"] = lessonWith("")
		f["build/rootfs/"+runtime.GOARCH+"/etc/hostname"] = ""
		out, err := shellIn(t, f.write(t), input, step)
		if err != nil {
			t.Errorf("step %s: %v\n%s", step, err, out)
		}
		got := regexp.MustCompile("own-store|[a-z0-9]+-is-up").FindAllString(out, -1)
		if strings.Join(got, " ") != want {
			t.Errorf("step %s: got %q, want %q:\n%s", step, got, want, out)
		}
	}
}

func TestUnescapeMount(t *testing.T) {
	t.Parallel()
	if got := unescapeMount(`/a\040b\011c\134040`); got != "/a b\tc\\040" {
		t.Errorf("got %q", got)
	}
}
