//go:build linux || darwin || freebsd

package disk

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Free returns the bytes that this user may still write below dir.
func Free(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	// The product of the two fits wherever a file system can be made.
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:gosec,unconvert // see above; the types differ between systems
}

// IsFull reports whether err says that a file system or a quota is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
