package release

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// readSecret reads a small regular file that only its owner may use. The
// mode is that of the opened file, not of the path. what names the file for
// people; nothing of its content gets into an error.
func readSecret(what, path string) (text string, err error) {
	f, err := os.Open(path)
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
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFileSize+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if len(data) > maxKeyFileSize {
		return "", fmt.Errorf("%s %s is larger than %d bytes: give another file", what, path, maxKeyFileSize)
	}
	return strings.TrimSpace(string(data)), nil
}
