//go:build !linux

package plugin

import (
	"errors"
	"fmt"
)

// imageDigest cannot be had here.
func imageDigest(int, string, string) (string, error) {
	return "", fmt.Errorf("what a process executes: %w", errors.ErrUnsupported)
}

// ours cannot tell here.
func ours(int, string, string) bool { return false }
