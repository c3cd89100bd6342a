//go:build !linux

package plugin

import (
	"errors"
	"fmt"
)

// hold enforces nothing here: the limits of another process cannot be set.
func (l Limits) hold(_ int, held *holdings) {
	for limit, asked := range map[string]bool{
		"memory": l.MemoryBytes != 0, "cpu": l.CPU != 0, "processes": l.Processes != 0, "files": l.Files != 0,
	} {
		if asked {
			held.add(limit, "", fmt.Errorf("limits of a process: %w", errors.ErrUnsupported))
		}
	}
}
