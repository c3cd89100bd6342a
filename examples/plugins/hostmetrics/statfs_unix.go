//go:build unix

package main

import "syscall"

func statfs(path string) (usage, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return usage{}, err
	}
	size := uint64(st.Bsize) //nolint:gosec,unconvert // its type differs between systems
	return usage{
		size: uint64(st.Blocks) * size, free: uint64(st.Bfree) * size, available: uint64(st.Bavail) * size, //nolint:gosec,unconvert // its type differs between systems
		files: uint64(st.Files), filesFree: uint64(st.Ffree), //nolint:gosec,unconvert // its type differs between systems
	}, nil
}
