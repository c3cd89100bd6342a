package plugin

import (
	"errors"
	"slices"
	"syscall"

	"github.com/perennial-go/perennial/internal/disk"
)

// shortage reports whether err says that this machine lacks something for now,
// which is no fault of the plugin's and no verdict on its files: room on a
// disk, descriptors, processes, memory.
func shortage(err error) bool {
	return disk.IsFull(err) || slices.ContainsFunc(
		[]error{syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.ENOMEM},
		func(lack error) bool { return errors.Is(err, lack) })
}
