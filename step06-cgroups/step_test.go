//go:build linux

package main

import (
	"testing"

	"minidocker/final/tests"
)

func TestMain(m *testing.M) { tests.Main(m) }

func TestStep(t *testing.T) { tests.RunStep(t) }
