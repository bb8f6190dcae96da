//go:build linux

package main

import (
	"fmt"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// setHostname sets the host name in this process's UTS namespace: sethostname(2).
func setHostname(name string) error {
	logrus.Debugf("init: sethostname %q", name)
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("sethostname %q (at most 64 bytes): %w", name, err)
	}
	return nil
}
