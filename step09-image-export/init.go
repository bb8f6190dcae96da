//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// configFD is the first descriptor after standard input, output and error:
// the reading end of the pipe from the parent.
const configFD = 3

// The exit statuses of a command that could not be started; docker's and the shell's.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// containerInit is the child: it reads its configuration, sets the container up
// from inside and becomes the command. It returns only if that failed.
func containerInit() error {
	cfg, err := receiveConfig()
	if err != nil {
		return err
	}
	if cfg.Debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	if cfg.UIDMap != nil {
		if err := becomeRoot(); err != nil {
			return err
		}
	}
	if err := setHostname(cfg.Hostname); err != nil {
		return err
	}
	if cfg.ownNetwork() {
		if err := configureLinks(cfg.Endpoints); err != nil {
			return err
		}
	}
	if err := makeMountsPrivate(); err != nil {
		return err
	}
	if err := mountProc(); err != nil {
		return err
	}
	trees, err := openVolumes(cfg.Volumes)
	if err != nil {
		return err
	}
	if cfg.Rootfs != "" {
		if err := enterRootfs(cfg); err != nil {
			return err
		}
	}
	if err := attachVolumes(cfg.Volumes, trees); err != nil {
		return err
	}
	// Only now: in the environment that init is born with, an image's LD_PRELOAD or
	// GODEBUG would change what this program does on the host's root.
	for _, variable := range cfg.ImageEnv {
		key, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(key, value); err != nil {
			return fmt.Errorf("the image's environment: %q: %w", variable, err)
		}
	}
	if cfg.Dir != "" {
		if err := makeMountPoint(cfg.Dir, true); err != nil {
			return err
		}
		if err := os.Chdir(cfg.Dir); err != nil {
			return err
		}
	}
	// The command gets standard input, output and error and no other descriptor:
	// one of a folder of the host would be a way out. Since Linux 5.11.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	return execCommand(cfg.Args)
}

// receiveConfig reads what sendConfig wrote; it waits until there is something.
func receiveConfig() (config, error) {
	var cfg config
	pipe := os.NewFile(configFD, "configuration pipe")
	defer pipe.Close()
	if err := json.NewDecoder(pipe).Decode(&cfg); err != nil {
		return cfg, fmt.Errorf("init is started by run, not by hand: read configuration: %w", err)
	}
	return cfg, nil
}

// execCommand replaces this process by the command, found as a shell finds it:
// along $PATH unless its name has a slash. It returns only if that failed.
func execCommand(args []string) error {
	path, err := exec.LookPath(args[0])
	if err == nil {
		logrus.Debugf("init: process %d becomes %s %q", os.Getpid(), path, args)
		err = &fs.PathError{Op: "execve", Path: path, Err: unix.Exec(path, args, os.Environ())}
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return cli.Exit(err, exitNotFound)
	}
	return cli.Exit(err, exitNotExecutable)
}
