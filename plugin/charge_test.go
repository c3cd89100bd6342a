package plugin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestStateDirectoryThatIsNotHandedOverIsRefusedInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := takeCharge(t.Context(), dir, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeCharge(t.Context(), dir, 20*time.Millisecond); err == nil || !strings.Contains(err.Error(), "another host has been in charge of it for 20ms") {
		t.Errorf("beside the first: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := takeCharge(over, dir, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("told to end: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		c, err := takeCharge(t.Context(), dir, time.Minute)
		if err == nil {
			if c.id != first.id {
				err = errors.New("the directory is another one")
			}
			c.release()
		}
		got <- err
	}()
	first.release()
	if err := <-got; err != nil {
		t.Errorf("after the first: %v", err)
	}
}
