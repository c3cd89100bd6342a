package release

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/filelock"
)

// TestHolderOfTheTrustStateKeepsNoAgentFromEnding: whoever waits for a process
// that is stopped, or hangs on its disk, ends with its own context.
func TestHolderOfTheTrustStateKeepsNoAgentFromEnding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	holder, err := os.OpenFile(f.state+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Close() })
	if err := filelock.Lock(holder); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	// The clock is first looked at when all has been read.
	c, err := NewClient(ClientConfig{
		Source: f.source(), Trust: fixtureTrust(t, 1), Name: "agentd", StateFile: f.state,
		Now: func() time.Time { cancel(); return f.clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Index(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrLocked) {
		t.Errorf("it ended with %v, want the context's error and ErrLocked", err)
	}
	if x := c.Accepted(); x != nil {
		t.Errorf("it has accepted %+v, which is not saved", x)
	}
}

func TestAcceptedIndexIsToldWhileAnotherIsSaved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	c := f.client()
	if _, err := c.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock() // as whoever waits for the lock of trust.json does
	defer c.mu.Unlock()
	told := make(chan *Index)
	go func() { told <- c.Accepted() }()
	select {
	case x := <-told:
		if x == nil || x.Sequence != 1 {
			t.Errorf("accepted is %+v, want sequence 1", x)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits")
	}
}
