package waittest

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// Background runs run until the returned function is called, or the test ends,
// and fails the test if it returns anything but the end of its context.
func Background(tb testing.TB, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := Next(tb, "Run returns", done); !errors.Is(err, context.Canceled) {
				tb.Errorf("Run: want only the end of its context, got %v", err)
			}
		})
	}
	tb.Cleanup(stop)
	return stop
}
