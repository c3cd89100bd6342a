//go:build unix

package main

import (
	"fmt"
	"syscall"
)

func statfs(mount string) (filesystem, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(mount, &st); err != nil {
		return filesystem{}, fmt.Errorf("file system %s: %w", mount, err)
	}
	size := uint64(st.Bsize)                                                                                        //nolint:gosec,unconvert // its type differs between systems
	return filesystem{Mount: mount, TotalBytes: uint64(st.Blocks) * size, FreeBytes: uint64(st.Bavail) * size}, nil //nolint:gosec,unconvert // likewise
}
