package etcdkv_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// background runs run until the test ends and joins it.
func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := waittest.Next(t, "Run returns", done); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: want only the end of its context, got %v", err)
		}
	})
}
