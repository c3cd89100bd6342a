//go:build !linux

package health

import (
	"errors"
	"fmt"
	"runtime"
)

func readMemory() (memory, error) {
	return memory{}, fmt.Errorf("memory on %s: %w: only Linux is measured", runtime.GOOS, errors.ErrUnsupported)
}
