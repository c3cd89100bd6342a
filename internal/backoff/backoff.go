// Package backoff spaces retries: exponential growth with jitter, so that a
// fleet that failed together does not return together.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff computes the waits between attempts: each evenly distributed between
// half a bound and the bound, which doubles from Min to Max. The zero value
// waits 100 to 200 ms at first and 5 to 10 s in the end. It is not safe for
// concurrent use.
type Backoff struct {
	// Min is the first bound; default 200 ms.
	Min time.Duration
	// Max is the largest bound, also where Min is larger; default 10 s.
	Max time.Duration

	attempt int
}

// Next returns the wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	lo, hi := b.Min, b.Max
	if lo <= 0 {
		lo = 200 * time.Millisecond
	}
	if hi <= 0 {
		hi = 10 * time.Second
	}
	bound := lo
	for range b.attempt {
		if bound >= hi/2 {
			bound = hi
			break
		}
		bound *= 2
	}
	bound = min(bound, hi)
	b.attempt++
	return Jitter(bound/4*3, 1.0/3)
}

// Reset makes the next wait a first one again.
func (b *Backoff) Reset() { b.attempt = 0 }

// Wait sleeps for Next or until ctx ends, whose error it then returns.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Sleep waits for d or until ctx ends, whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Jitter spreads d evenly over d ± fraction·d.
func Jitter(d time.Duration, fraction float64) time.Duration {
	return d + time.Duration(float64(d)*fraction*(2*rand.Float64()-1))
}
