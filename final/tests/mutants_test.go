//go:build linux

package tests

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

// mutants are programs with one isolation or one duty taken out. Each must make a
// script of the step that brought it fail, on that step's program and on the last
// one's. A replacement keeps the program compiling. One whose name begins with "v2: "
// can be noticed on cgroup v2 only.
var mutants = []struct {
	name     string
	since    int
	file     string
	old, new string
}{
	{"child outlives the parent", 1, "run.go", "Pdeathsig: unix.SIGKILL,", "Pdeathsig: unix.SIGKILL * 0,"},
	{"signals not forwarded", 1, "run.go", "go forwardSignals(cmd.Process)", ""},
	{"no process group of its own", 1, "terminal.go", "attr.Setsid = !t.interactive", ""},
	{"terminal not given", 1, "terminal.go", "attr.Foreground = t.interactive", "attr.Setpgid = t.interactive"},
	{"terminal not taken back", 1, "run.go", "defer term.restore()", ""},
	{"terminal taken in a pipeline", 1, "terminal.go", "interactive: err == nil && inForeground()", "interactive: inForeground()"},
	{"minidocker does not stop with the command", 1, "terminal.go", "case status.Stopped() && t.interactive:", "case false:"},
	{"signal numbers lost", 1, "run.go", "return 128 + int(status.Signal()), nil", "return 1, nil"},

	{"no UTS namespace", 2, "run.go", "unix.CLONE_NEWUTS", "0"},
	{"no IPC namespace", 2, "run.go", "unix.CLONE_NEWIPC", "0"},
	{"host name not set", 2, "uts.go", "unix.Sethostname([]byte(name))", `unix.Access("/", 0)`},

	{"no PID namespace", 3, "run.go", "unix.CLONE_NEWPID", "0"},
	{"no mount namespace", 3, "run.go", "unix.CLONE_NEWNS", "0"},
	{"mounts not private", 3, "mount.go", `return mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")`, "return nil"},
	{"only the root mount private", 3, "mount.go", "unix.MS_REC|unix.MS_PRIVATE", "unix.MS_PRIVATE"},
	{"no new /proc", 3, "mount.go", `return mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")`, "return nil"},

	{"no pivot_root", 4, "rootfs.go", `unix.PivotRoot(".", ".")`, "error(nil)"},
	{"chroot in place of pivot_root", 4, "rootfs.go", "changeRoot := pivotRoot", "changeRoot := chroot"},
	{"old root stays mounted", 4, "rootfs.go", `unix.Unmount(".", unix.MNT_DETACH)`, "error(nil)"},
	{"working directory stays outside", 4, "rootfs.go", `return unix.Chdir("/")`, "return nil"},
	{"read-only volume is writable", 4, "volume.go", "if v.ReadOnly {", "if false {"},
	{"read-only volume not recursive", 4, "volume.go", "unix.AT_EMPTY_PATH|unix.AT_RECURSIVE", "unix.AT_EMPTY_PATH"},
	{"volume not recursive", 4, "volume.go", "unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE", "unix.OPEN_TREE_CLOEXEC"},
	{"descriptors leak", 4, "init.go", "unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)", "unix.CloseRange(math.MaxInt32, math.MaxInt32, 0)"},
	{"host's environment", 4, "run.go", "cmd.Env = cfg.Env", ""},
	{"/sys writable", 4, "dev.go", " | unix.MS_RDONLY", ""},
	{"host's umask", 4, "rootfs.go", "unix.Umask(0o022)", ""},
	{"image's /etc files", 4, "etc.go", "source, target := filepath.Join(dir, f.name), filepath.Join(\"/etc\", f.name)", "source, target := filepath.Join(dir, f.name), filepath.Join(\"/tmp\", f.name)"},

	{"no user namespace", 5, "run.go", "unix.CLONE_NEWUSER", "0"},
	{"capabilities lost at execve", 5, "run.go", "cmd.SysProcAttr.AmbientCaps = allCapabilities()", ""},
	{"setgroups not denied", 5, "userns.go", `[]byte("deny")`, `[]byte("allow")`},
	{"group's map not written", 5, "userns.go", `if err := writeIDMap(pid, "gid", os.Getegid(), cfg.GIDMap); err != nil {`, "if false { var err error"},
	{"group stays nobody's", 5, "userns.go", "unix.Setresgid(0, 0, 0)", "error(nil)"},
	{"user stays nobody", 5, "userns.go", "unix.Setresuid(0, 0, 0)", "error(nil)"},
	{"groups kept", 5, "userns.go", "unix.Setgroups(nil)", "error(nil)"},
	{"child with new IDs outlives the parent", 5, "userns.go", "return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)", "return nil"},
	{"ranges not lent", 5, "userns.go", "return append(maps, idMap{1, start, count})", "return maps"},
	{"root is itself outside", 5, "userns.go", "{{0, 1000000, 65536}}", "{{0, 0, 65536}}"},
	{"/sys of the host writable", 5, "userns.go", `Target: "/sys", ReadOnly: true`, `Target: "/sys"`},
	{"no hint where it is forbidden", 5, "userns.go", "string(value)) == s.forbids", `string(value)) == "x"`},

	{"not in its group", 6, "run.go", "group.join(pid)", "error(nil)"},
	{"limits not set", 6, "cgroup.go", "if err := g.set(l); err != nil {", `if err := error(nil); err != nil && l.flag != "" {`},
	{"unlimited by mistake", 6, "cgroup.go", `return fmt.Errorf("%s: write %q: %w", l.flag, s.value, err)`, "continue"},
	{"a user's limits left out", 6, "cgroup.go", "len(cfg.Limits) == 0", "true"},
	{"group stays", 6, "run.go", "group.remove()", "error(nil)"},
	{"groups not swept", 6, "run.go", "sweepCgroups()", "error(nil)"},
	{"running container swept", 6, "cgroup.go", "unix.LOCK_NB", "0*unix.LOCK_NB"},
	{"out of memory not told", 6, "run.go", "group.warnIfOutOfMemory()", ""},
	{"pause does not wait", 6, "stats.go", "for range 500 {", "for range 0 {"},
	{"pause does not pause", 6, "stats.go", "if frozen {", "if false {"},
	{"swap beside memory", 6, "limits.go", "fmt.Sprint(both-bytes), fmt.Sprint(both)", "fmt.Sprint(both), fmt.Sprint(both+bytes)"},
	{"v2: no controllers for our group", 6, "cgroup.go", "[]string{filepath.Dir(parent), parent}", "[]string{parent}"},
	{"v2: no controllers for the containers", 6, "cgroup.go", "[]string{filepath.Dir(parent), parent}", "[]string{filepath.Dir(parent)}"},
	{"v2: nothing written to subtree_control", 6, "cgroup.go", `os.WriteFile(file, []byte("+"+c), 0)`, `os.WriteFile(file, nil, 0)`},

	{"store for all to read", 7, "image.go", "filepath.Join(stateDir, name), 0o700", "filepath.Join(stateDir, name), 0o755"},
	{"paths lead out", 7, "layer.go", "if !filepath.IsLocal(h.Name) {", "if false {"},
	{"links lead out", 7, "layer.go", "if !filepath.IsLocal(h.Linkname) {", "if false {"},
	{"any mode", 7, "layer.go", "h.Mode&^0o177777 != 0", "false"},
	{"any claim", 7, "layer.go", "u.free < 0", "false"},
	{"whiteouts are files", 7, "layer.go", "strings.CutPrefix(base, whiteoutPrefix); ok", "strings.CutPrefix(base, whiteoutPrefix); ok && base == opaqueName"},
	{"whiteout of ..", 7, "layer.go", `hidden == "" || hidden == "." || hidden == ".."`, "false"},
	{"opaque names forgotten", 7, "layer.go", "return makeOpaque(u.root, folder)", "return nil"},
	{"opaque root forgotten", 7, "overlay.go", "if isOpaque(layerDir(layer)) {", "if false {"},
	{"folder in place of a whiteout not opaque", 7, "layer.go", "replaced := err == nil && isWhiteout(old)", "replaced := false"},
	{"overlayfs's devices refused", 7, "layer.go", "h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0", "false"},
	{"devices made", 7, "layer.go", `return errors.New("device nodes have no place in an image: a container has its own /dev")`, "return unix.Mknodat(fd, base, unix.S_IFBLK, 8)"},
	{"overlayfs's attributes taken", 7, "layer.go", `strings.Contains(name, "overlay.") && (name != opaqueXattr || value != "y")`, "false"},
	{"owner set last", 7, "layer.go", "uint32(h.Mode&0o7777)", "uint32(h.Mode&0o777)"},
	{"owners forgotten", 7, "layer.go", "unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW)", "error(nil)"},
	{"times of folders forgotten", 7, "layer.go", "u.folders = append(u.folders, h)", ""},
	{"digest of the compressed archive", 7, "layer.go", "hash.Sum(nil)", "hash.Sum([]byte{0})"},
	{"what follows the archive not counted", 7, "layer.go", "io.Copy(io.Discard, plain)", "io.Copy(io.Discard, strings.NewReader(\"\"))"},
	{"half a layer stays", 7, "layer.go", "defer os.RemoveAll(tmp)", ""},
	{"a layer twice", 7, "overlay.go", "if !seen[layer] {", "if true {"},
	{"layers upside down", 7, "overlay.go", "for i := len(cfg.Layers) - 1; i >= 0; i-- {", "for i := range cfg.Layers {"},
	{"folders by their long names", 7, "overlay.go", "names = append(names, fmt.Sprint(f.Fd()))", "names = append(names, path)"},
	{"folders renamed by reference", 7, "overlay.go", "redirect_dir=off", "redirect_dir=on"},
	{"mounts are changes", 7, "container.go", `"init"+m.target`, `"other"+m.target`},
	{"everything added", 7, "container.go", "else if inLayers(ctr.Layers, name) {", "else if false {"},
	{"hidden layers are looked at", 7, "overlay.go", "hidden = hidden || isOpaque(at)", ""},
	{"--rm forgotten", 7, "container.go", "if ctr.AutoRemove {\n\t\treturn os.RemoveAll", "if false {\n\t\treturn os.RemoveAll"},
	{"store not swept", 7, "run.go", "sweepStore()", "error(nil)"},
	{"--rm not swept", 7, "container.go", "if ctr.AutoRemove && ctr.takeEnded() == nil {", "if false {"},
	{"half a container stays", 7, "container.go", "&container{ID: f.Name(), AutoRemove: true}", "&container{ID: f.Name()}"},
	{"layers at work swept", 7, "container.go", "openStore(unix.LOCK_EX | unix.LOCK_NB)", "openStore(unix.LOCK_SH)"},
	{"running containers removed", 7, "container.go", "ctr.lock, err = lockFolder(dir, unix.LOCK_EX)", "ctr.lock, err = lockFolder(dir, unix.LOCK_SH|unix.LOCK_UN)"},
	{"umask of whoever starts it", 7, "container.go", "unix.Umask(unix.Umask(0o022))", "unix.Umask(unix.Umask(0o077))"},
	{"user namespace on an image", 7, "image.go", `c.Bool("userns") || c.IsSet("uidmap") || c.IsSet("gidmap")`, "false"},
	{"base forgotten", 7, "image.go", `if base != "" {`, "if false {"},
	{"no network namespace", 8, "run.go", "cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET", ""},
	{"lo stays down", 8, "sandbox.go", `setUp("lo")`, `error(nil)`},
	{"no default route", 8, "sandbox.go", "addDefaultRoute(ep.Gateway)", "error(nil)"},
	{"no masquerade", 8, "nat.go", `"-A MINIDOCKER-OUT -s %s ! -o %s -j MASQUERADE\n", n.Subnet`, `"-A MINIDOCKER-OUT -s %s ! -o %s -j RETURN\n", n.Subnet`},
	{"no masquerade from 127.0.0.1", 8, "nat.go", "-s 127.0.0.0/8 -o %s -j MASQUERADE", "-s 127.0.0.0/8 -o %s -j RETURN"},
	{"no masquerade between neighbours", 8, "nat.go", "--ctstate DNAT -j MASQUERADE", "--ctstate DNAT -j RETURN"},
	{"no hairpin", 8, "netlink.go", "unix.IFLA_BRPORT_MODE, []byte{1}", "unix.IFLA_BRPORT_MODE, []byte{0}"},
	{"no route_localnet", 8, "nat.go", `"ipv4/conf/" + bridge + "/route_localnet",`, ""},
	{"not a router", 8, "nat.go", `"ipv4/ip_forward",`, ""},
	{"IPv6 on the bridge", 8, "nat.go", `"ipv6/conf/" + bridge + "/disable_ipv6",`, ""},
	{"packets for 127.0.0.1 from other links", 8, "nat.go", "! -i lo -d 127.0.0.0/8 -j DROP", "! -i lo -d 127.0.0.0/8 -j RETURN"},
	{"packets from 127.0.0.1 from other links", 8, "nat.go", "! -i lo -s 127.0.0.0/8 -j DROP", "! -i lo -s 127.0.0.0/8 -j RETURN"},
	{"anybody into the network", 8, "nat.go", `"-A MINIDOCKER -o %s -j DROP\n"`, `"-A MINIDOCKER -o %s -j ACCEPT\n"`},
	{"answers not let in", 8, "nat.go", "RELATED,ESTABLISHED,DNAT", "INVALID"},
	{"not let out", 8, "nat.go", `"-A MINIDOCKER -i %s -j ACCEPT\n"`, `"-A MINIDOCKER -i %s -j RETURN\n"`},
	{"rules after docker's", 8, "nat.go", `"-I %s %s\n"`, `"-A %s %s\n"`},
	{"published everywhere", 8, "nat.go", `to = "-d " + p.IP.String()`, `to = ""`},
	{"port not held", 8, "nat.go", "strconv.Itoa(int(p.Host))", "strconv.Itoa(0 * int(p.Host))"},
	{"nothing swept", 8, "sandbox.go", "if _, err := os.Stat(stateDir); err != nil || os.Geteuid() != 0 {", "if true {"},
	{"running ones swept", 8, "sandbox.go", "if errors.Is(err, unix.EWOULDBLOCK) {", "if err = nil; false {"},
	{"default network stays", 8, "network.go", "used > 0", "used >= 0"},
	{"rules stay with a network", 8, "network.go", "writeRules(n.Name)", "error(nil)"},
	{"addresses not one at a time", 8, "network.go", `lockFolder(filepath.Join(stateDir, "networks"), unix.LOCK_EX)`, `lockFolder(filepath.Join(stateDir, "networks"), unix.LOCK_SH)`},
	{"addresses given twice", 8, "bridge.go", "used[ep.Address.Addr()] = true", "used[ep.Gateway] = true"},
	{"subnets overlap", 8, "bridge.go", "if i := slices.IndexFunc(used, subnet.Overlaps); i >= 0 {", "if i := 0; false {"},
	{"routes not looked at", 8, "bridge.go", "bits.OnesCount32(mask) < 8", "true"},
	{"hardware address at random", 8, "sandbox.go", "mac := hardwareAddress(ep.Address.Addr())", "mac := hardwareAddress(n.Gateway)"},
	{"bridge borrows its hardware address", 8, "netlink.go", "	m.attribute(unix.IFLA_ADDRESS, mac)\n	m.nested", "	_ = mac\n	m.nested"},
	{"127.0.0.53 as name server", 8, "network.go", "a.IsLoopback()", "a.IsUnspecified()"},
	{"the host's name server for container:ID", 8, "network.go", `cfg.bridged() || strings.HasPrefix(cfg.Network, "container:")`, "cfg.bridged()"},
	{"container's address not in hosts", 8, "sandbox.go", "return cfg.Endpoints[0].Address.Addr().String()", `return "127.0.1.1"`},
	{"container:ID in a network of its own", 8, "sandbox.go", "return sb.enter()", "_ = sb; return nil"},
	{"half a bridge kept", 8, "bridge.go", "link.Flags&net.FlagUp != 0", "link != nil"},

	{"blob's digest not compared", 9, "archive.go", `ok && d.Digest != "sha256:"+digest`, "ok && digest == d.Digest"},
	{"diff_id not compared", 9, "archive.go", "layer != want", "false && layer != want"},
	{"size not compared", 9, "archive.go", "size != d.Size", "false && size != d.Size"},
	{"any digest is a path", 9, "oci.go", "if !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(digest) {", "if regexp.MustCompile(`^$`).MatchString(digest) {"},
	{"paths of an archive not looked at", 9, "archive.go", "!filepath.IsLocal(h.Name)", "false && !filepath.IsLocal(h.Name)"},
	{"claims not looked at", 9, "archive.go", "free -= h.Size; free < 0", "free -= 0; free < 0"},
	{"indexes without end", 9, "archive.go", "d.fits() && depth < 3", "d.fits()"},
	{"image of another machine", 9, "archive.go", "p == nil || p.OS", "true || p.OS"},
	{"whiteout spelled wrong", 9, "commit.go", "whiteoutPrefix + info.Name(),", `"wh." + info.Name(),`},
	{"whiteout as a device", 9, "commit.go", "if isWhiteout(info) {", "if false {"},
	{"opaque folder forgotten", 9, "commit.go", "info.IsDir() && isOpaque(path)", "false"},
	{"hard links forgotten", 9, "commit.go", "st.Nlink > 1 && !info.IsDir()", "st.Nlink > 1000"},
	{"attributes forgotten", 9, "commit.go", "h.PAXRecords, err = packAttributes(path)", "_, err = packAttributes(path)"},
	{"overlayfs's attributes packed", 9, "commit.go", `prefix != "user" && name != "security.capability"`, `prefix == "security"`},
	{"name of a whiteout packed", 9, "commit.go", "strings.HasPrefix(info.Name(), whiteoutPrefix)", "false"},
	{"container not paused", 9, "commit.go", "group.freeze(true)", "group.freeze(false)"},
	{"container stays paused", 9, "commit.go", "return func() { _ = group.freeze(false) }, nil", "return func() {}, nil"},
	{"container stays paused after a signal", 9, "commit.go", "_ = group.freeze(false) // there is nobody left to tell", ""},
	{"user's pause undone", 9, "commit.go", "if group.isFrozen() {", "if false {"},
	{"ended container can be removed", 9, "commit.go", "return func() { ctr.lock.Close() }, nil", "ctr.lock.Close(); return func() {}, nil"},
	{"export's mount stays", 9, "commit.go", "unix.Unshare(unix.CLONE_NEWNS)", "unix.Unshare(0)"},
	{"time in the configuration", 9, "oci.go", "by.Created = noTime", "by.Created = time.Now().Format(time.RFC3339Nano)"},
	{"blobs in random order", 9, "archive.go", "slices.Sorted(maps.Keys(blobs))", "slices.Collect(maps.Keys(blobs))"},
	{"garbage collector forgets containers", 9, "oci.go", `images["container "+id] = image{Layers: ctr.Layers, Manifest: ctr.Manifest}`, "_, _ = id, ctr"},
	{"garbage collector does not wait", 9, "oci.go", "openStore(unix.LOCK_EX | unix.LOCK_NB)", "openStore(unix.LOCK_SH)"},
	{"nothing is collected", 9, "oci.go", "if used[path] {", "if true {"},
	{"layers of a failed load stay", 9, "archive.go", "errors.Join(load(in), collectGarbage())", "load(in)"},
	{"layers of a failed import stay", 9, "oci.go", "return errors.Join(err, collectGarbage())", "return err"},
	{"rm leaves layers", 9, "container.go", "return collectGarbage()", "return nil"},
	{"image's user ignored", 9, "oci.go", `"root:root"}, d.User)`, `"root:root", d.User}, d.User)`},
	{"image's entry point ignored", 9, "oci.go", "append(d.Entrypoint, cfg.Args...)", "append(d.Entrypoint[:0], cfg.Args...)"},
	{"image's environment for init", 9, "rootfs.go", `"HOME=/root",`, `"HOME=/root", append(cfg.ImageEnv, "X=")[0],`},
	{"image's folder ignored", 9, "init.go", "os.Chdir(cfg.Dir)", `os.Chdir("/")`},
	{"docker's names ignored", 9, "archive.go", "tags[config] = append(tags[config], d.RepoTags...)", "_ = tags[config]"},
}

// TestMutants shows that the scripts notice when something is missing. It takes a
// while, so it runs where MINIDOCKER_MUTANTS is set, to 1, all or the number of a step.
func TestMutants(t *testing.T) {
	if os.Getenv("MINIDOCKER_MUTANTS") == "" {
		t.Skip("run make mutants")
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	setup := Setup{
		Rootfs: Rootfs(t, top), Escape: Lab(t, top, "escape"), Lookup: Lab(t, top, "lookup"),
		Peer: Lab(t, top, "peer"),
	}
	dirs, err := filepath.Glob(filepath.Join(top, "step*"))
	if err != nil {
		t.Fatal(err)
	}
	buildOnly := os.Getenv("MINIDOCKER_BUILD_ONLY") != ""
	// Two at a time on two processors: most of a script's time is waiting.
	slots := make(chan struct{}, 2*runtime.NumCPU())
	for _, dir := range dirs {
		step, err := strconv.Atoi(filepath.Base(dir)[4:6])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mutants {
			only := os.Getenv("MINIDOCKER_MUTANTS")
			if only != "1" && only != "all" && only != strconv.Itoa(m.since) {
				continue
			}
			// On its own step; MINIDOCKER_MUTANTS=all has them on the last one as well.
			last := os.Getenv("MINIDOCKER_MUTANTS") == "all" && dir == dirs[len(dirs)-1]
			if m.since != step && !last {
				continue
			}
			if strings.HasPrefix(m.name, "v2: ") && !cgroupV2() && !buildOnly {
				continue
			}
			t.Run(filepath.Base(dir)+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				setup := setup
				setup.Step = step
				setup.Program = buildMutant(t, dir, m.file, m.old, m.new)
				for _, s := range Scripts(t) {
					if s.Since != m.since {
						continue
					}
					if r := s.Run(setup); !r.Passed {
						t.Logf("noticed by %s: %s", s.Name, r.Reason())
						return
					}
				}
				t.Errorf("no script of step %d notices", m.since)
			})
		}
	}
}

// buildMutant builds the program in dir with one text replaced, without touching dir.
func buildMutant(t *testing.T, dir, file, before, after string) string {
	t.Helper()
	if program := prebuilt(t); program != "" {
		return program
	}
	path := filepath.Join(dir, file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), before); n < 1 {
		t.Fatalf("%s has no %q", path, before)
	}
	changed := t.TempDir()
	mutated := strings.ReplaceAll(string(source), before, after)
	if err := os.WriteFile(filepath.Join(changed, file), []byte(mutated), 0o644); err != nil {
		t.Fatal(err)
	}
	return buildOverlay(t, dir, changed)
}
