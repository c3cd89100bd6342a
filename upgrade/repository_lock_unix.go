//go:build unix

package upgrade

import (
	"errors"
	"syscall"
)

// lockHeld reports whether a lock was refused because another process has it.
func lockHeld(err error) bool {
	return errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR)
}
