//go:build linux

package rootless

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// What slirp4netns gives the namespace: see slirp4netns(1).
const (
	guest = "10.0.2.100" // the namespace's address
	// Nameserver is where it answers questions for names.
	Nameserver = "10.0.2.3"
)

func socketPath(run string) string { return filepath.Join(run, "slirp.sock") }

// startSlirp starts slirp4netns for a network namespace, to end when the other end of holder is
// closed. Without it there is no way out, and containers have each other.
func startSlirp(run string, pid int, holder *os.File) error {
	program, err := exec.LookPath("slirp4netns")
	if err != nil {
		fmt.Fprintln(os.Stderr, "minidocker: without slirp4netns containers have no network but "+
			"their own: install the package slirp4netns, and end process", pid)
		return nil
	}
	if err := os.Remove(socketPath(run)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ready, far, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(program, "--configure", "--mtu=65520", "--disable-host-loopback",
		"--ready-fd=3", "--exit-fd=4", "--api-socket="+socketPath(run), strconv.Itoa(pid), "tap0")
	log, err := os.OpenFile(filepath.Join(run, "slirp.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.ExtraFiles, cmd.Stderr = []*os.File{far, holder}, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	far.Close()
	if err != nil {
		return err
	}
	if err := ready.SetReadDeadline(time.Now().Add(slirpStart)); err != nil {
		return err
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		_ = cmd.Process.Kill()
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("slirp4netns is not ready: %w: %s", err, said)
	}
	return cmd.Process.Release()
}

// Port is a port of the host's that leads to the same one of the namespace.
type Port struct {
	HostIP netip.Addr // not valid: all addresses
	Port   uint16
	Proto  string
}

// Forward lets slirp4netns listen at ports of the host. It returns what Unforward takes.
func Forward(run string, ports []Port) ([]int, error) {
	var ids []int
	for _, p := range ports {
		if p.Proto != "tcp" && p.Proto != "udp" {
			return ids, fmt.Errorf("publish %d/%s: slirp4netns has tcp and udp", p.Port, p.Proto)
		}
		address := "0.0.0.0"
		if p.HostIP.Is4() {
			address = p.HostIP.String()
		}
		var added struct{ ID int }
		err := ask(run, "add_hostfwd", map[string]any{"proto": p.Proto, "host_addr": address,
			"host_port": p.Port, "guest_addr": guest, "guest_port": p.Port}, &added)
		if err != nil {
			return ids, fmt.Errorf("publish %s:%d/%s: %w", address, p.Port, p.Proto, err)
		}
		ids = append(ids, added.ID)
	}
	return ids, nil
}

// Unforward ends that. What is not there any more is no error.
func Unforward(run string, ids []int) {
	for _, id := range ids {
		_ = ask(run, "remove_hostfwd", map[string]any{"id": id}, nil)
	}
}

// ask asks slirp4netns for something: a line of JSON each way, one for each connection.
func ask(run, what string, arguments map[string]any, answer any) error {
	conn, err := net.Dial("unix", socketPath(run))
	if err != nil {
		return fmt.Errorf("slirp4netns: %w", err)
	}
	defer conn.Close() //nolint:errcheck // what was said is said
	if err := json.NewEncoder(conn).Encode(
		map[string]any{"execute": what, "arguments": arguments}); err != nil {
		return err
	}
	if c, ok := conn.(*net.UnixConn); ok {
		if err := c.CloseWrite(); err != nil {
			return err
		}
	}
	var got struct {
		Return json.RawMessage
		Error  struct{ Desc string }
	}
	if err := json.NewDecoder(conn).Decode(&got); err != nil {
		return fmt.Errorf("slirp4netns: %w", err)
	}
	if got.Error.Desc != "" {
		return errors.New(got.Error.Desc)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got.Return, answer)
}
