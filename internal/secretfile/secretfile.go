// Package secretfile reads keys and passwords from files that nobody but
// their owner may use.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// Read returns the content of a small regular file without the white space
// around it. It refuses a file of more than limit bytes and one that others
// than its owner can use; the mode is that of the opened file, not of the
// path. what names the file for people; nothing of its content gets into an
// error.
func Read(what, path string, limit int64) (text string, err error) {
	// A FIFO without a writer would hold the caller up for good.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s %s is no regular file: give the file itself", what, path)
	}
	// Windows has no such bits; access lists guard the file there.
	if perm := info.Mode().Perm(); runtime.GOOS != "windows" && perm&0o077 != 0 {
		return "", fmt.Errorf("%s %s has mode %04o, so others than its owner can use it: run chmod 600 on it, and replace what it holds if that was exposed", what, path, perm)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if int64(len(data)) > limit {
		return "", fmt.Errorf("%s %s is larger than %d bytes: give another file", what, path, limit)
	}
	return strings.TrimSpace(string(data)), nil
}
