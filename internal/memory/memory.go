// Package memory tells how much memory a process may still take.
package memory

import (
	"errors"
	"fmt"
)

// ErrNotEnough is wrapped by what is refused for want of memory.
var ErrNotEnough = errors.New("not enough memory")

// Free is what may be taken without swapping and without being killed.
type Free struct {
	// Bytes is the amount.
	Bytes int64
	// Where says what bounds it, for people.
	Where string
}

// Check returns an error that wraps ErrNotEnough when what is free is less
// than need bytes.
func (f Free) Check(need int64) error {
	if f.Bytes < need {
		return fmt.Errorf("%w: %d bytes are needed, %d are free (%s)", ErrNotEnough, need, f.Bytes, f.Where)
	}
	return nil
}
