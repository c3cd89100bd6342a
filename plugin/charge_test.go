package plugin

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

func TestHostWaitsForAPredecessorThatStandsStillAndSaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var said waittest.Log
	log := slog.New(slog.NewTextHandler(&said, nil))
	first, err := takeCharge(t.Context(), dir, time.Minute, log)
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := takeCharge(over, dir, time.Minute, log); !errors.Is(err, context.Canceled) {
		t.Errorf("told to end: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		c, err := takeCharge(t.Context(), dir, 20*time.Millisecond, log)
		if err == nil {
			if c.id != first.id {
				err = errors.New("the directory is another one")
			}
			c.release()
		}
		got <- err
	}()
	waittest.Until(t, "it has said twice that it waits", func() bool {
		return said.Count("another host is in charge") >= 2
	})
	first.release()
	if err := waittest.Next(t, "the charge", got); err != nil {
		t.Errorf("after the first: %v", err)
	}
}
