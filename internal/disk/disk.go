// Package disk tells how much room a file system has.
package disk

import (
	"errors"
	"fmt"
)

// ErrNoSpace is wrapped by what Check returns.
var ErrNoSpace = errors.New("not enough disk space")

// Check returns an error that wraps ErrNoSpace when this user may write fewer
// than need bytes below dir. Where the system does not tell, it returns nil:
// a full disk then shows when it is written to.
func Check(dir string, need int64) error {
	free, err := Free(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free < need {
		return fmt.Errorf("%w: %d bytes are needed in %s, %d are free: free %d more", ErrNoSpace, need, dir, free, need-free)
	}
	return nil
}
