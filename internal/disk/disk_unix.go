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

// UseOf returns how full the file system of dir is.
func UseOf(dir string) (Use, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Use{}, err
	}
	//nolint:gosec,unconvert // none is negative but for what is reserved on FreeBSD; the types differ between systems
	var (
		size, all, free = uint64(s.Bsize), uint64(s.Blocks), uint64(s.Bfree)
		usable          = uint64(max(0, int64(s.Bavail)))
		files, left     = uint64(s.Files), uint64(max(0, int64(s.Ffree)))
	)
	used := all - min(free, all)
	return Use{Used: used * size, Usable: (used + usable) * size, Files: files - min(left, files), FilesUsable: files}, nil
}

// IsFull reports whether err says that a file system or a quota is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
