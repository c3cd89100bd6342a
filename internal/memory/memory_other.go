//go:build !linux

package memory

import (
	"errors"
	"fmt"
	"runtime"
)

// Now returns errors.ErrUnsupported: this system is not asked.
func Now() (Free, error) { return Free{}, errors.ErrUnsupported }

// UsedBy returns an error that wraps errors.ErrUnsupported.
func UsedBy(string, string) (Used, error) {
	return Used{}, fmt.Errorf("memory on %s: %w: only Linux is measured", runtime.GOOS, errors.ErrUnsupported)
}
