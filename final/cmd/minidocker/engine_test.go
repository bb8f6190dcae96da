//go:build linux

package main

import (
	"testing"

	"minidocker/final/tests"
)

func TestMain(m *testing.M) { tests.Main(m) }

func TestEngine(t *testing.T) { tests.RunEngine(t) }
