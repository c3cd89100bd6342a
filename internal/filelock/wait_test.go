package filelock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestWaitEndsWithTheContextAndWithItsPatience(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	if err := Lock(open(t, path)); err != nil {
		t.Fatal(err)
	}
	waiter := open(t, path)
	if err := Wait(t.Context(), waiter, time.Millisecond); !Held(err) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after its patience: %v, want an error that Held knows and that is not the context's", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Wait(ctx, waiter, time.Hour) }()
	cancel()
	if err := <-ended; !Held(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("after the context has ended: %v, want an error that Held knows and that wraps the context's", err)
	}
}

func TestWaitLocksOnceTheHolderHasGone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	holder, waiter := open(t, path), open(t, path)
	if err := Lock(holder); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- Wait(t.Context(), waiter, time.Hour) }()
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := Lock(open(t, path)); !Held(err) {
		t.Errorf("beside the one who has waited: %v, want an error that Held knows", err)
	}
	// What stands for no holder ends the wait at once.
	if err := waiter.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Wait(t.Context(), waiter, time.Hour); err == nil || Held(err) {
		t.Errorf("of a closed file: %v", err)
	}
}
