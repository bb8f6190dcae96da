//go:build linux

// Package rootless lets an ordinary user run the engine. It gives the user a place where he is
// root, and the engine is the same in there:
//
//	user namespace     the user is 0, and 1 to 65536 are what /etc/subuid and /etc/subgid lend him
//	mount namespace    so that the engine may mount
//	network namespace  with the engine's bridges in it; slirp4netns, a process, carries packets
//	                   between it and the host's sockets, and listens at published ports
//
// There is one such place for each user, held by a process that does nothing else. Every command
// goes into it: setns(2) into a user namespace takes a process of one thread, which a Go program
// never is, so nsenter(1) does it, and executes the program again. Step 05 has the reasons for
// the rest.
package rootless

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inside is set for the program in the place: it is where the place's own files are.
const inside = "MINIDOCKER_ROOTLESS"

// HolderArg is the word by which the program is started that holds the place.
const HolderArg = "rootless-holder"

// Wanted says whether this process is an ordinary user's, who has no place yet.
func Wanted() bool { return os.Geteuid() != 0 && os.Getenv(inside) == "" }

// Dir is the folder with the place's files, "" outside of one.
func Dir() string { return os.Getenv(inside) }

// Environment are the variables that tell a program that it is in the place.
func Environment() []string {
	var all []string
	for _, name := range []string{inside, "HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"} {
		if value, ok := os.LookupEnv(name); ok {
			all = append(all, name+"="+value)
		}
	}
	return all
}

// Dirs are where an ordinary user's engine has its state: what is to stay, and what is only true
// until the next boot.
func Dirs() (root, run string, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", err
	}
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		data = filepath.Join(home, ".local/share")
	}
	run = os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = fmt.Sprintf("/tmp/minidocker-%d", os.Getuid())
	}
	return filepath.Join(data, "minidocker"), filepath.Join(run, "minidocker"), nil
}

// Enter goes into the user's place, which it makes if there is none, and executes this program
// again in there, with the same arguments. It returns only if it fails.
func Enter() error {
	_, run, err := Dirs()
	if err != nil {
		return err
	}
	if err := makePrivate(filepath.Dir(run)); err != nil {
		return err
	}
	if err := makePrivate(run); err != nil {
		return err
	}
	pid, err := holder(run)
	if err != nil {
		return err
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("%w (package util-linux)", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"nsenter", "--target", strconv.Itoa(pid), "--user", "--mount", "--net",
		"--preserve-credentials", "--wd=" + dir, "--", self}
	environment := append(os.Environ(), inside+"="+run)
	if Offline() {
		environment = append(environment, offline+"=1")
	}
	return unix.Exec(nsenter, append(args, os.Args[1:]...), environment)
}

// makePrivate makes a folder that is the user's alone, and sees that it is: one in /tmp could be
// somebody else's.
func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a folder of yours: set XDG_RUNTIME_DIR to one", dir)
	}
	return nil
}

// holder returns the process that holds the user's place, and starts one if there is none. The
// lock sees to it that there is one.
func holder(run string) (int, error) {
	lock, err := os.OpenFile(filepath.Join(run, "rootless.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return 0, os.NewSyscallError("flock", err)
	}
	record := filepath.Join(run, "rootless.pid")
	if text, err := os.ReadFile(record); err == nil {
		if pid, ok := alive(string(text)); ok {
			return pid, nil
		}
	}
	pid, err := start(run)
	if err != nil {
		return 0, err
	}
	began, err := startTime(pid)
	if err != nil {
		return 0, err
	}
	return pid, os.WriteFile(record, []byte(fmt.Sprintf("%d %s\n", pid, began)), 0o600)
}

// alive says whether the process of a record is that one still: a number is used again.
func alive(record string) (int, bool) {
	number, began, ok := strings.Cut(strings.TrimSpace(record), " ")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil {
		return 0, false
	}
	now, err := startTime(pid)
	return pid, err == nil && now == began
}

// startTime is field 22 of proc_pid_stat(5).
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(f) < 20 {
		return "", fmt.Errorf("/proc/%d/stat: %q", pid, data)
	}
	return f[19], nil
}

// start starts a holder, gives it its maps, and its way to the network.
func start(run string) (int, error) {
	cmd := exec.Command("/proc/self/exe", HolderArg)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
	}
	// The child waits for its maps, and says when it is done.
	childReads, weWrite, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer weWrite.Close()
	weRead, childWrites, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer weRead.Close()
	// What ends when the holder does.
	ends, held, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ends.Close()
	cmd.ExtraFiles = []*os.File{childReads, childWrites, held}
	err = cmd.Start()
	childReads.Close()
	childWrites.Close()
	held.Close()
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
			return 0, fmt.Errorf("clone CLONE_NEWUSER: %w: this machine does not let ordinary users have "+
				"user namespaces: see docs/troubleshooting.md, or use sudo", err)
		}
		return 0, err
	}
	fail := func(err error) (int, error) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, err
	}
	if err := writeMaps(cmd.Process.Pid); err != nil {
		return fail(err)
	}
	if _, err := weWrite.Write([]byte("x")); err != nil {
		return fail(err)
	}
	said, _ := bufio.NewReader(weRead).ReadString('\n')
	if said != "ready\n" {
		return fail(fmt.Errorf("the holder of the namespaces: %s", strings.TrimSpace(said)))
	}
	if err := startSlirp(run, cmd.Process.Pid, ends); err != nil {
		return fail(err)
	}
	pid := cmd.Process.Pid // Release takes it away
	return pid, cmd.Process.Release()
}

// Holder is the process that holds the place: descriptor 3 says that its maps are there, and on 4
// it says that it is ready. It returns the exit status.
func Holder() int {
	in, out := os.NewFile(3, "maps"), os.NewFile(4, "ready")
	var err error
	if len(os.Args) == 2 {
		err = becomeRoot(in) // it returns only if it fails
	} else {
		err = hold()
	}
	if err != nil {
		fmt.Fprintln(out, err)
		return 1
	}
	fmt.Fprintln(out, "ready")
	out.Close()
	for {
		_ = unix.Pause() // until it is killed
	}
}

// becomeRoot waits for the maps and executes the program once more: until then the process was
// nobody, and execve(2) has left it no capabilities. Now it is root.
func becomeRoot(maps *os.File) error {
	if _, err := maps.Read(make([]byte, 1)); err != nil {
		return errors.New("whoever has started it is gone")
	}
	maps.Close()
	for _, fd := range []uintptr{4, 5} { // 5 stays open as long as it lives
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl F_SETFD", err)
		}
	}
	return unix.Exec("/proc/self/exe", append(os.Args, "mapped"), os.Environ())
}

func hold() error {
	// With the capabilities that it has got by execve(2) it is not to be looked at, and nobody
	// could enter its namespaces.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	// What is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// writeMaps writes uid_map and gid_map, by the setuid programs that know what the user is lent.
func writeMaps(pid int) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	for _, one := range []struct {
		program, file string
		own           int
	}{{"newuidmap", "/etc/subuid", os.Getuid()}, {"newgidmap", "/etc/subgid", os.Getgid()}} {
		first, count, err := lent(one.file, me)
		if err != nil {
			return err
		}
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(one.own), "1",
			"1", strconv.Itoa(first), strconv.Itoa(count)}
		if out, err := exec.Command(one.program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s (package uidmap): %w: %s", one.program,
				strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// lent is the range of IDs that subuid(5) or subgid(5) lends a user.
func lent(file string, me *user.User) (first, count int, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != me.Username && f[0] != me.Uid {
			continue
		}
		first, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && count > 0 {
			return first, count, nil
		}
	}
	return 0, 0, fmt.Errorf("%s lends %s no IDs: as root, usermod --add-subuids 100000-165535 "+
		"--add-subgids 100000-165535 %s", file, me.Username, me.Username)
}

// slirpStart is how long slirp4netns may take to be ready.
const slirpStart = 10 * time.Second
