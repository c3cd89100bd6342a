//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// identity is what stays the same when a file is renamed.
func identity(_ string, fi fs.FileInfo) (dev, inode uint64) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), uint64(st.Ino) //nolint:gosec,unconvert // their types differ between systems
	}
	return 0, 0
}
