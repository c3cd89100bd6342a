//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"syscall"
)

// adopt is refused: without it a process could be left behind.
func adopt() error { return errors.ErrUnsupported }

func isolate(*exec.Cmd) {}

func children() ([]int, error) { return nil, errors.ErrUnsupported }

func reap(int) (gone bool, err error) { return false, errors.ErrUnsupported }

func signalTo(int, syscall.Signal) {}
