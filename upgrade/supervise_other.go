//go:build !linux

package upgrade

import (
	"context"
	"fmt"
)

func follow(context.Context, SuperviseConfig, int, keeper) error {
	return fmt.Errorf("supervise: %w; set it to never", ErrNotSupported)
}

func keep(int) error { return fmt.Errorf("supervise: %w", ErrNotSupported) }

func descends(_, _ int) bool { return false }

func cacheInSmallPieces(string) {}
