//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// identity is what stays the same when a file is renamed.
func identity(_ string, fi fs.FileInfo) id {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return id{uint64(st.Dev), uint64(st.Ino)} //nolint:gosec,unconvert // their types differ between systems
	}
	return id{}
}

// unlinked reports whether an open file has no name any more.
func unlinked(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}
