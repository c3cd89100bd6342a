//go:build unix

package etcdtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock waits for the exclusive lock on path; closing the file, or the end of
// the process, gives it back.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
