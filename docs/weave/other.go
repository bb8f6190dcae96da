//go:build !linux

package main

import "errors"

var errLinux = errors.New("minidocker needs Linux: see docs/vm.md")

const sessionVerb = "session"

func runCommand(*call) error   { return errLinux }
func shellCommand(*call) error { return errLinux }
func sessionCommand(*call) int { return 1 }
