package filelock

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

// Wait is Lock, and waits for another holder to give the file up: for patience
// at most, where that is above 0, and no longer than until ctx ends. Held tells an error that stands
// for a holder who has not; it wraps the context's where that has ended.
func Wait(ctx context.Context, f *os.File, patience time.Duration) error {
	waiting := ctx
	if patience > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	pause := backoff.Backoff{Min: 5 * time.Millisecond, Max: 100 * time.Millisecond}
	for {
		err := Lock(f)
		if err == nil || !Held(err) {
			return err
		}
		if pause.Wait(waiting) == nil {
			continue
		}
		if ended := ctx.Err(); ended != nil {
			return fmt.Errorf("%w: %w", err, ended)
		}
		return err
	}
}
