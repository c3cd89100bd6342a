//go:build !(linux || darwin || freebsd || windows)

package disk

import "errors"

// Free is not known here; a full disk shows when it is written to.
func Free(string) (int64, error) { return 0, errors.ErrUnsupported }

// UseOf is not known here.
func UseOf(string) (Use, error) { return Use{}, errors.ErrUnsupported }

// IsFull reports whether err says that a file system or a quota is full.
func IsFull(error) bool { return false }
