//go:build unix && !linux

package upgrade

import "golang.org/x/sys/unix"

// dupOver makes fd to a copy of from, which subprocesses inherit.
func dupOver(from, to int) error { return unix.Dup2(from, to) }
