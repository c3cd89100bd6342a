package backoff_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

// TestWaitsStayWithinTheirBounds: too short hammers a server that is down, too
// long keeps an agent away after it is back.
func TestWaitsStayWithinTheirBounds(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		backoff backoff.Backoff
		bounds  []time.Duration
	}{
		"zero value":         {backoff.Backoff{}, []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10000 * ms, 10000 * ms}},
		"set":                {backoff.Backoff{Min: 10 * ms, Max: 45 * ms}, []time.Duration{10 * ms, 20 * ms, 40 * ms, 45 * ms, 45 * ms}},
		"minimum above max":  {backoff.Backoff{Min: 100 * ms, Max: 45 * ms}, []time.Duration{45 * ms, 45 * ms}},
		"as long as it gets": {backoff.Backoff{Min: math.MaxInt64 / 4, Max: math.MaxInt64 / 2}, []time.Duration{math.MaxInt64 / 4, math.MaxInt64 / 2, math.MaxInt64 / 2}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 200 {
				b := c.backoff
				for i, bound := range c.bounds {
					// A nanosecond or two are lost in floating point.
					slack := bound/1e9 + 2
					if w := b.Next(); w < bound/2-slack || w > bound+slack {
						t.Fatalf("attempt %d: waits %s, want %s to %s", i+1, w, bound/2, bound)
					}
				}
				b.Reset()
				if w := b.Next(); w > c.bounds[0]+c.bounds[0]/1e9+2 {
					t.Fatalf("after Reset: waits %s, want at most %s", w, c.bounds[0])
				}
			}
		})
	}
}

// TestWaitsDiffer: a fleet that failed together must not come back together.
func TestWaitsDiffer(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		seen[new(backoff.Backoff).Next()] = true
	}
	if len(seen) < 90 {
		t.Errorf("of 100 first waits only %d differ", len(seen))
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.Backoff{Min: time.Minute, Max: time.Minute}
		began := time.Now()
		if err := b.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if w := time.Since(began); w < 29*time.Second || w > 61*time.Second {
			t.Errorf("waited %s: want 30 s to 1 m", w)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("want the context's error after 1 s, got %v after %s", err, time.Since(began))
		}
	})
}

func TestJitterSpreadsAroundItsMiddle(t *testing.T) {
	lo, hi := time.Duration(math.MaxInt64), time.Duration(0)
	for range 1000 {
		d := backoff.Jitter(time.Second, 0.2)
		lo, hi = min(lo, d), max(hi, d)
	}
	if lo < 800*time.Millisecond || lo > 850*time.Millisecond || hi > 1200*time.Millisecond || hi < 1150*time.Millisecond {
		t.Errorf("spread from %s to %s: want about 0.8 s to 1.2 s", lo, hi)
	}
	if d := backoff.Jitter(time.Second, 0); d != time.Second {
		t.Errorf("no fraction: got %s", d)
	}
}
