package upgrade

import (
	"errors"

	"golang.org/x/sys/windows"
)

// lockHeld reports whether a lock was refused because another process has it.
func lockHeld(err error) bool { return errors.Is(err, windows.ERROR_LOCK_VIOLATION) }
