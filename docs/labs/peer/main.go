//go:build linux

// Command peer is the other end of a connection, for the tests and for looking around
// in networks: it says who is seen there, which busybox's nc does not, and speaks UDP.
//
//	peer listen tcp:ADDR:PORT udp:ADDR:PORT …   print "ready", answer for ever, print who asks
//	peer ask tcp:ADDR:PORT [ANY TEXT]           print the answer: "you are ADDR: ANY TEXT"
//	peer miss tcp:ADDR:PORT                     print why there is no answer: there must be none
//
// ask waits ten seconds for an answer, miss waits one; with MINIDOCKER_TIME_SCALE=10 ten
// times as long. The exit status is 1 if it is not as it should be.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: peer listen|ask|miss tcp|udp:ADDR:PORT …")
	}
	switch args[0] {
	case "listen":
		for _, address := range args[1:] {
			if err := answer(address); err != nil {
				return err
			}
		}
		fmt.Println("ready")
		select {}
	case "ask":
		return ask(args[1], strings.Join(args[2:], " "), 10*time.Second)
	case "miss":
		err := ask(args[1], "anybody?", time.Second)
		if err == nil {
			return errors.New("there is an answer")
		}
		fmt.Println(err)
		return nil
	}
	return fmt.Errorf("peer %s?", args[0])
}

func answer(spec string) error {
	protocol, address, _ := strings.Cut(spec, ":")
	if protocol == "udp" {
		conn, err := net.ListenPacket("udp4", address)
		if err != nil {
			return err
		}
		go func() {
			buf := make([]byte, 1500)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					continue // an ICMP message about an answer
				}
				host, _, _ := net.SplitHostPort(from.String()) // as ReadFrom made it
				fmt.Printf("asked by %s: %s", host, buf[:n])
				_, _ = conn.WriteTo(fmt.Appendf(nil, "you are %s: %s", host, buf[:n]), from)
			}
		}()
		return nil
	}
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String()) // as Accept made it
			text, _ := bufio.NewReader(conn).ReadString('\n')           // whoever it is may hang up
			fmt.Printf("asked by %s: %s", host, text)
			fmt.Fprintf(conn, "you are %s: %s", host, text)
			_ = conn.Close() // the answer is on its way
		}
	}()
	return nil
}

func ask(spec, text string, wait time.Duration) error {
	if n, err := strconv.Atoi(os.Getenv("MINIDOCKER_TIME_SCALE")); err == nil && n > 0 {
		wait *= time.Duration(n)
	}
	limit := time.Now().Add(wait)
	protocol, address, _ := strings.Cut(spec, ":")
	conn, err := net.DialTimeout(protocol+"4", address, wait)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for {
		turn := limit
		if protocol == "udp" { // a datagram may be lost
			turn = time.Now().Add(wait / 10)
		}
		if err := conn.SetReadDeadline(turn); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(conn, text); err != nil {
			return err
		}
		got, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			fmt.Print(got)
			return nil
		}
		if time.Now().After(limit) || !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no answer: %w", err)
		}
	}
}
