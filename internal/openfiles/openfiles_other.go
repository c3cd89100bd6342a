//go:build !linux

package openfiles

import (
	"errors"
	"fmt"
	"runtime"
)

var errSystem = fmt.Errorf("open files on %s: %w: only Linux is measured", runtime.GOOS, errors.ErrUnsupported)

// Count returns an error that wraps errors.ErrUnsupported.
func Count(string) (int, error) { return 0, errSystem }

// Limit returns an error that wraps errors.ErrUnsupported.
func Limit() (uint64, error) { return 0, errSystem }
