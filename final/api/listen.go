//go:build linux

package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultHost is where the daemon listens if nobody says otherwise.
const DefaultHost = "unix:///run/minidocker.sock"

// TLS are files of PEM. Who may speak to the daemon is root on its machine, and so both sides
// show certificates, always.
type TLS struct{ CA, Cert, Key string }

// Listen opens the address of a host: unix://PATH; tcp://HOST:PORT, with certificates only; or
// fd://, the sockets that systemd gives (sd_listen_fds(3)). Group owns the unix socket besides
// root; "" is docker's, if there is one.
func Listen(host, group string, files TLS) ([]net.Listener, error) {
	kind, address, ok := strings.Cut(host, "://")
	if !ok && strings.HasPrefix(host, "/") {
		kind, address, ok = "unix", host, true
	}
	switch {
	case ok && kind == "unix" && filepath.IsAbs(address):
		l, err := listenUnix(address, group)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	case ok && kind == "tcp":
		l, err := listenTLS(address, files)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	case ok && kind == "fd":
		return inherited()
	}
	return nil, fmt.Errorf("host %q: want unix:///PATH, tcp://ADDRESS:PORT or fd://", host)
}

// listenUnix makes a socket that root and a group may use. One that is left from a daemon that was
// killed is replaced; one that somebody listens on is not.
func listenUnix(path, group string) (net.Listener, error) {
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close() // it was a question
		return nil, fmt.Errorf("listen on %q: another daemon does", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	// Under a name of its own until it is as it should be: nobody finds it half made, and two
	// daemons do not remove each other's.
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = errors.Join(os.Chown(made, 0, gid), os.Chmod(made, 0o660))
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(made))
	}
	return l, nil
}

// groupID is the number of a group. That there is no group docker is no mistake.
func groupID(name string) (int, error) {
	asked := name != ""
	if !asked {
		name = "docker"
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		if asked {
			return 0, fmt.Errorf("--group: %w", err)
		}
		return 0, nil
	}
	return strconv.Atoi(g.Gid)
}

func listenTLS(address string, files TLS) (net.Listener, error) {
	if files.CA == "" || files.Cert == "" || files.Key == "" {
		return nil, fmt.Errorf("tcp://%s without certificates would make everybody who reaches it "+
			"root: give --tlscacert, --tlscert and --tlskey", address)
	}
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %q: %w", files.Cert, err)
	}
	pem, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %q", files.CA)
	}
	return tls.Listen("tcp", address, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
		ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		NextProtos: []string{"http/1.1"}, // which can be hijacked
	})
}

// firstInherited is the first descriptor that systemd passes: SD_LISTEN_FDS_START.
const firstInherited = 3

// inherited are the sockets that systemd listens on for this process.
func inherited() ([]net.Listener, error) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			_ = os.Unsetenv(name) // a name that is valid
		}
	}()
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	if err != nil || pid != os.Getpid() {
		return nil, errors.New("fd:// is for systemd's socket units: there is no socket for this " +
			"process in LISTEN_FDS")
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 1 {
		return nil, errors.New("fd://: LISTEN_FDS says that there is no socket")
	}
	var all []net.Listener
	for fd := firstInherited; fd < firstInherited+n; fd++ {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "LISTEN_FD_"+strconv.Itoa(fd))
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("fd://: descriptor %d: %w", fd, err)
		}
		if _, ok := l.(*net.UnixListener); !ok {
			return nil, errors.Join(fmt.Errorf("fd://: descriptor %d is no unix socket, and others "+
				"are without certificates", fd), l.Close())
		}
		all = append(all, l)
	}
	return all, nil
}
