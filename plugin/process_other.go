//go:build !linux

package plugin

import (
	"errors"
	"fmt"
)

// awaitExit cannot wait without reaping here.
func awaitExit(int) bool { return false }

func identify(int) (string, error) {
	return "", fmt.Errorf("the start time of a process: %w", errors.ErrUnsupported)
}

func measure(int) Usage { return Usage{} }
