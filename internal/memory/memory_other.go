//go:build !linux

package memory

import "errors"

// Now returns errors.ErrUnsupported: this system is not asked.
func Now() (Free, error) { return Free{}, errors.ErrUnsupported }
