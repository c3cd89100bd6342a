//go:build unix

// Package filelock locks whole files between processes. A lock belongs to the
// open file: descriptors made of it by dup or inheritance share it, and the
// system gives it up with the last of them.
package filelock

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lock locks f against every other locker, without waiting. Held tells an
// error that stands for another holder.
func Lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// LockShared locks f against Lock alone, without waiting.
func LockShared(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) }

// Held reports whether a lock was refused because another process has it.
func Held(err error) bool {
	return errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR)
}
