package upgrade

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// waitingUpgrader has an attempt that is staged.
func waitingUpgrader(t *testing.T, cfg Config) *Upgrader {
	t.Helper()
	cfg.StateDir, cfg.Name, cfg.Version, cfg.Logger = t.TempDir(), "demo", "1.0.0", slog.New(slog.DiscardHandler)
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u.slots = slots{cfg.StateDir}
	if err := u.load(); err != nil {
		t.Fatal(err)
	}
	if err := u.journal.begin(Attempt{OrderID: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := u.move(Staged, nil); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestBusyThatNeverAnswersHoldsAnUpgradeUpForTheLimitOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		u := waitingUpgrader(t, Config{BusyLimit: time.Minute, Busy: func(ctx context.Context) string {
			calls.Add(1)
			<-ctx.Done()
			return ""
		}})
		began := time.Now()
		if err := u.awaitIdle(ctx, Request{ID: "x", Action: ActionUpgrade}); err != nil {
			t.Errorf("after the limit: %v", err)
		}
		if waited := time.Since(began); waited < time.Minute || waited > 2*time.Minute {
			t.Errorf("it waited %v, want the limit of a minute", waited)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("it was asked %d times before it had answered once", n)
		}
		if why := u.journal.last.Reason; !strings.Contains(why, "has not answered") {
			t.Errorf("the attempt waits because %q", why)
		}
	})
}

func TestHoldEndsAnUpgradeThatWaitsAndOtherRequestsDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := waitingUpgrader(t, Config{BusyLimit: time.Hour, Busy: func(context.Context) string { return "a backup" }})
		ended := make(chan error, 1)
		go func() { ended <- u.awaitIdle(t.Context(), Request{ID: "x", Action: ActionUpgrade}) }()
		u.Request(Request{ID: "clear", Action: ActionClear})
		<-time.After(5 * time.Second)
		if a := u.Status().Answer; a == nil || a.OrderID != "clear" || a.Error != "" {
			t.Errorf("the request that is no attempt was answered with %+v", a)
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended the wait: %v", err)
		default:
		}
		u.Request(Request{ID: "hold", Action: ActionHold, By: "ann"})
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "held by ann") {
			t.Errorf("a hold ended the wait with %v", err)
		}
	})
}
