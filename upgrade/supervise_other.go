//go:build !linux

package upgrade

import (
	"context"
	"fmt"
)

func becomeSupervisor(context.Context) error {
	return fmt.Errorf("supervise: %w; set it to never", ErrNotSupported)
}

func follow(context.Context, SuperviseConfig, int) error {
	return fmt.Errorf("supervise: %w", ErrNotSupported)
}

func descends(_, _ int) bool { return false }
