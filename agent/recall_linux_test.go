package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// TestOrderOfARevertEndsAProbationThatAnOrderHasAskedFor: the incumbent goes on
// hearing orders in a probation, however long that is, and the registry tells of
// both.
func TestOrderOfARevertEndsAProbationThatAnOrderHasAskedFor(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	pin := f.publish(build{Version: good})
	m := f.member("a1").start()
	first := m.registered()
	forward, err := f.dir.Order(f.ctx(), "a1", upgrade.Request{Action: upgrade.ActionUpgrade, Pin: pin, Probation: time.Hour, GiveUp: 2 * time.Hour, By: "fleet"})
	if err != nil {
		t.Fatal(err)
	}
	waittest.Nil(f, "it is on probation", func() error {
		entries, err := listed(f.ctx(), f.dir)
		if err != nil || len(entries) != 1 || entries[0].Status == nil {
			return fmt.Errorf("%d agents, %w", len(entries), err)
		}
		u := entries[0].Status.Upgrade
		if u.OrderID != forward.ID || u.State != upgrade.Probation || u.Attempt.Probation != time.Hour || u.GiveUp.IsZero() {
			return fmt.Errorf("%s is %s, probation %v, gives up at %v: %s", u.OrderID, u.State, u.Attempt.Probation, u.GiveUp, u.Reason)
		}
		return nil
	})
	back, err := f.dir.Order(f.ctx(), "a1", upgrade.Request{Action: upgrade.ActionRevert, Leave: pin, By: "fleet"})
	if err != nil {
		t.Fatal(err)
	}
	end, err := f.dir.Follow(f.ctx(), back, "a1", func(upgrade.Status) {})
	if err != nil || end.State != upgrade.Committed || !strings.Contains(end.Reason, "nothing to do") || end.LastFailed != nil {
		t.Errorf("%s: %s, blamed %+v, %v", end.State, end.Reason, end.LastFailed, err)
	}
	if last := m.registered(); last.PID != first.PID || last.Version != first.Version {
		t.Errorf("%s in %d, it was %s in %d: the revert was not warm", last.Version, last.PID, first.Version, first.PID)
	}
}
