//go:build !linux

package main

import "errors"

// process is what pidfd_linux.go has.
type process struct{}

func openProcess(int) (process, error) { return process{}, errors.ErrUnsupported }

func (process) kill() error  { return errors.ErrUnsupported }
func (process) wait() error  { return errors.ErrUnsupported }
func (process) close() error { return nil }
