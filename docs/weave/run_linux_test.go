package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// withSession is a repository whose first lesson has one console block. An ordinary
// user can read all of it.
func withSession(t *testing.T, session string) string {
	t.Helper()
	f := goodRepo()
	f["step01-one/README.md"] = "# One\n\n```console\n" + session + "```\n"
	root := f.write(t)
	// What t.TempDir makes lies in a folder that is root's alone.
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// noScratch fails if a session has left its folder.
func noScratch(t *testing.T, root string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(root, "build", "_*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRun_Session(t *testing.T) {
	t.Parallel()
	root := withSession(t, `# minidocker you
hello you
# pwd; ls -A
/…/build/_step01-…/work
# echo "$STEP $REPO" | sed "s|$REPO|R|g"
R/step01-one R
# cd /usr; name=value
# pwd; echo $name
/usr
value
# false
# echo $?
1
# cat
# read x; echo "read $? <$x>"
read 1 <>
# wc -c <<X
> it's
> X
5
# echo out; echo err >&2; printf 'no newline'
out
err
no newline
# echo 'it'"'"'s'   "$(echo 'a
> b')"
it's a
b
# nosuch
bash: nosuch: command not found
# echo "unclosed
bash: unexpected EOF while looking for matching …"'
# sleep 1000 &
# kill %1; wait; echo ended
[1]+  Terminated              sleep 1000
ended
# sh -c 'kill -KILL $$'
Killed
# echo $?; (sh -c 'kill -TERM 0'; echo not this); sh -c 'kill -SEGV $$'
137
Terminated
Segmentation fault
# ls -l /proc/self/fd | grep -v fd$ | sed 's/.* \([0-9]*\) ->/\1/' | sort
0 /dev/null
1 pipe:…
2 …
total 0
# cd; cd - >/dev/null; mount -t tmpfs none /mnt && touch /mnt/x && ls /mnt
x
# touch $REPO/x
touch: cannot touch '…/x': Read-only file system
# cp $STEP/*.go . 2>/dev/null || cd -P $OLDPWD; cd $(dirname $(dirname $(which minidocker)))/work
# cp $STEP/*.go . && go build -o broken . && ./broken there
hello there
# hostname box; hostname
box
# seq 3 | sed 's/$/   /'
1
2
3

# echo last
last
`)
	got := mustWeave(t, root, "run", "1")
	if want := "step01-one/README.md: 1 blocks, 26 commands run, 0 not run\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	noScratch(t, root)
	if host, err := os.Hostname(); err != nil || host == "box" {
		t.Errorf("the machine's host name is %q, %v", host, err)
	}
}

func TestRun_User(t *testing.T) {
	t.Parallel()
	root := withSession(t, `# id -u
0
$ id -u; id -G; touch here && ls -A
1000
1000
here
$ cd /; pwd
/
$ pwd; minidocker me; echo $HOME
/
hello me
/…/home
# pwd
/…/work
$ touch $REPO/x
touch: cannot touch …
`)
	mustWeave(t, root, "run")
	// Without a way there it is said what to do.
	if err := os.Chmod(filepath.Dir(root), 0o700); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, root, "run", "chmod o+x")
	noScratch(t, root)
}

func TestRun_Differs(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# echo a; echo b\na\nc\n# minidocker you\nhello …\n")
	out, status := weaveIn(t, root, "run")
	want := `step01-one/README.md:4: echo a; echo b: the output differs: - expected, + printed
      a
    - c
    + b
step01-one/README.md: 1 blocks, 2 commands run, 0 not run
`
	if out != want || status != 1 {
		t.Errorf("got exit status %d and\n%s\nwant\n%s", status, out, want)
	}
}

func TestRun_Update(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# echo one; echo 12; echo 3\none\n1…\nx\n# echo a; echo b; echo c; echo d\na\n…\nd\n"+
		"# echo new\n# true\nold\n# echo same\nsame\n")
	want := "# One\n\n```console\n# echo one; echo 12; echo 3\none\n1…\n3\n" +
		"# echo a; echo b; echo c; echo d\na\n…\nd\n# echo new\nnew\n# true\n# echo same\nsame\n```\n"
	out := mustWeave(t, root, "run", "-update")
	if !strings.HasPrefix(out, "step01-one/README.md: 3 outputs written\n") {
		t.Errorf("got %q", out)
	}
	if got := read(t, root, "step01-one/README.md"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	file := filepath.Join(root, "step01-one/README.md")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	mustWeave(t, root, "run", "-update", "step01-one/README.md")
	if after, err := os.Stat(file); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("what was right is written again: %v", err)
	}
}

func TestRun_UpdateRefuses(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# echo '# x'\n# echo '```'\n# echo '> x'\n# echo new\n")
	wantFailure(t, root, "run -update", ":4: ", "read as a command", ":5: ", "end of the block",
		":6: ", "more of the command")
	want := "# One\n\n```console\n# echo '# x'\n# echo '```'\n# echo '> x'\n# echo new\nnew\n```\n"
	if got := read(t, root, "step01-one/README.md"); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestRun_Hangs(t *testing.T) {
	root := withSession(t, "# sleep 1000 & true\n# echo so far; sleep 1000; echo more\n"+
		"# jobs\n[1]+  Running …\n# exit 3\n# echo never\n")
	out, status := weaveIn(t, root, "run", "-timeout", "300ms")
	want := "step01-one/README.md:5: echo so far; sleep 1000; echo more: " +
		`still running after 300ms and killed; it printed:
    so far
step01-one/README.md:8: exit 3: the shell has ended and nothing after this is run; it printed:
step01-one/README.md: 1 blocks, 4 commands run, 1 not run
`
	if out != want || status != 1 {
		t.Errorf("got exit status %d and\n%s\nwant\n%s", status, out, want)
	}
	noScratch(t, root)
}

func TestRun_HangsInTheShell(t *testing.T) {
	root := withSession(t, "# while :; do :; done\n# echo never\n")
	wantFailure(t, root, "run -timeout 200ms", ":4: ", "still running after 200ms and killed; the shell has ended",
		"1 commands run, 1 not run")
}

func TestRun_MuchOutput(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# yes | head -c 3000000\ny\n…\n# echo after\nafter\n")
	mustWeave(t, root, "run")
}

func TestRun_Conditions(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# true\n")
	block := "<!-- weave: %s -->\n\n```console\n# echo $((%d + 0))\n%d\n```\n\n"
	here := cgroupVersion()
	put(t, root, "step02-two/README.md", "# Two\n\n"+
		fmt.Sprintf(block, "norun because it is slow", 1, 0)+
		fmt.Sprintf(block, fmt.Sprintf("only cgroup=v%d", here), 2, 2)+
		fmt.Sprintf(block, fmt.Sprintf("only cgroup=v%d", 3-here), 3, 0))
	out := mustWeave(t, root, "run", "-v", "2")
	want := fmt.Sprintf(`step02-two/README.md:5: not run: it is slow
step02-two/README.md:19: not run: only for cgroup v%d
step02-two/README.md: 3 blocks, 1 commands run, 2 not run
`, 3-here)
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func TestRun_ManyFiles(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# minidocker you\nhello you\n# sleep 0.2\n")
	put(t, root, "docs/one.md", "# Docs\n\n```console\n# minidocker \"\"; echo $STEP\n"+
		"hello nobody\n/…/step02-two\n```\n")
	put(t, root, "step02-two/README.md", "# Two\n\n1. List\n\n   ```console\n"+
		"   # minidocker ''\n   hello nobody\n   ```\n")
	put(t, root, "docs/x/step01.md", "# Docs\n\n```console\n# echo $STEP\n/…/step01-one\n```\n")
	out := mustWeave(t, root, "run", "-j", "3")
	want := `docs/one.md: 1 blocks, 1 commands run, 0 not run
docs/x/step01.md: 1 blocks, 1 commands run, 0 not run
step01-one/README.md: 1 blocks, 2 commands run, 0 not run
step02-two/README.md: 1 blocks, 1 commands run, 0 not run
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	noScratch(t, root)
}

// Once there is an engine, it is what a page that is not about a step uses.
func TestRun_Engine(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# minidocker you\nhello you\n")
	const engine = "package main\n\nfunc main() { println(\"engine\") }\n"
	put(t, root, "final/cmd/minidocker/main.go", engine)
	put(t, root, "final/cmd/minirunc/main.go", engine)
	put(t, root, "docs/one.md", "```console\n# minidocker; minirunc\nengine\nengine\n```\n")
	mustWeave(t, root, "run")
}

func TestRun_Rootfs(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# echo \"<$ROOTFS>\"\n<>\n")
	mustWeave(t, root, "run", "1")
	put(t, root, "step04-four/run.go", stepTwo)
	put(t, root, "step04-four/README.md", "# Four\n\n```console\n# cat $ROOTFS/etc/name; echo new >$ROOTFS/etc/name\n"+
		"here\n$ cat $ROOTFS/etc/name; echo new >$ROOTFS/etc/name\nhere\n```\n")
	wantFailure(t, root, "run 4", "run make rootfs first")
	rootfs := "build/rootfs/" + runtime.GOARCH
	put(t, root, rootfs+"/etc/name", "here\n")
	mustWeave(t, root, "run", "4")
	if got := read(t, root, rootfs+"/etc/name"); got != "here\n" {
		t.Errorf("the root file system itself was changed: %q", got)
	}
	noScratch(t, root)
}

func TestRun_BrokenProgram(t *testing.T) {
	t.Parallel()
	root := withSession(t, "# true\n")
	put(t, root, "step01-one/run.go", "package main\n\nfunc main() { nosuch() }\n")
	wantFailure(t, root, "run", "step01-one/README.md: ", "undefined: nosuch")
	noScratch(t, root)
}
