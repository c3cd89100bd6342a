//go:build !linux

package plugin

import (
	"errors"
	"fmt"
	"syscall"
)

// handle exists on Linux only.
type handle struct{}

func openHandle(int) (*handle, error) {
	return nil, fmt.Errorf("a handle on a process: %w", errors.ErrUnsupported)
}

// await cannot wait without reaping here.
func (*handle) await() error                     { return errors.ErrUnsupported }
func (*handle) gone() bool                       { return false }
func (*handle) signal(syscall.Signal) error      { return errors.ErrUnsupported }
func (*handle) signalGroup(syscall.Signal) error { return errors.ErrUnsupported }
func (*handle) close()                           {}
