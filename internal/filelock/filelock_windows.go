// Package filelock locks whole files between processes. A lock belongs to the
// open file, and the system gives it up with it.
package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// beyond is what is locked: bytes that no file has, because a lock here keeps
// others from reading.
const beyond = 1 << 20

// Lock locks f against every other locker, without waiting. Held tells an
// error that stands for another holder.
func Lock(f *os.File) error {
	return lock(f, windows.LOCKFILE_EXCLUSIVE_LOCK)
}

// LockShared locks f against Lock alone, without waiting.
func LockShared(f *os.File) error { return lock(f, 0) }

func lock(f *os.File, flags uint32) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), flags|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{Offset: beyond})
}

// Held reports whether a lock was refused because another process has it.
func Held(err error) bool { return errors.Is(err, windows.ERROR_LOCK_VIOLATION) }
