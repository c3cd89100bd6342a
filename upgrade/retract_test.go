package upgrade

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A fleet that is frozen, or has another plan, would else have hosts change that
// were only waiting.
func TestRequestThatIsTakenBackStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := waitingUpgrader(t, Config{BusyLimit: time.Hour, Busy: func(context.Context) string { return "a backup" }})
		u.Request(Request{ID: "line"})
		u.Retract("other")
		u.Retract("")
		if r := u.waiting(); r == nil || r.ID != "line" {
			t.Fatalf("%+v waits: another request was taken back", r)
		}
		if u.Retract("line"); u.waiting() != nil {
			t.Error("it waits on in line")
		}

		begin := func() (ended chan error) {
			u.Request(Request{ID: "x"})
			r := u.take()
			ended = make(chan error, 1)
			go func() { ended <- u.mayStart(t.Context(), *r) }()
			return ended
		}
		ended := begin()
		u.Retract("x")
		u.Request(Request{ID: "x"}) // asked for again before that was noticed
		if err := <-ended; !errors.Is(err, errRetracted) || unbegun(t.Context(), err) != UnbegunRetracted {
			t.Errorf("it waited for the program and ended with %v", err)
		}
		if r := u.waiting(); r == nil || r.ID != "x" {
			t.Errorf("what was asked for again is lost: %+v", r)
		}

		u.cfg.Busy = nil
		if err := <-begin(); err != nil {
			t.Errorf("the next: %v", err)
		}
		if u.Retract("x"); u.wanted(false) != nil {
			t.Error("it was taken back when it had started")
		}
		u.Request(Request{ID: "x"})
		if u.waiting() != nil {
			t.Error("what is performed is asked for twice")
		}
		u.hold("y")
		if u.Retract("y"); u.mayStart(t.Context(), Request{ID: "y"}) == nil {
			t.Error("it starts though it was taken back just before")
		}
	})
}

// Who asks again after a host was stopped would be told that the release has failed.
func TestAttemptThatWasStoppedOrTakenBackTellsNothingOfTheRelease(t *testing.T) {
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if why := unbegun(stopped, stopped.Err()); why != UnbegunStopped {
		t.Errorf("stopped: %q", why)
	}
	if why := unbegun(t.Context(), errReplaced); why != "" {
		t.Errorf("replaced: %q", why)
	}
	// What was taken back may come again; what was stopped has its answer.
	for why, want := range map[Unbegun][]string{"": {"x", "old"}, UnbegunStopped: {"x", "old"}, UnbegunRetracted: {"old"}} {
		if ids := (Attempt{OrderID: "x", Unbegun: why, Earlier: []string{"old"}}).ended("next"); !slices.Equal(ids, want) {
			t.Errorf("%q: %q have ended, want %q", why, ids, want)
		}
	}
}
