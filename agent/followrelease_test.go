package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// A fleet that has staged a release switches at once: who waits there a while, so
// that not all ask the repository together, is late for nothing.
func TestStagedReleaseIsThereForAPlan(t *testing.T) {
	t.Parallel()
	pin := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	wanted := upgrade.Ref{Version: pin.Version, Manifest: pin.Digest}
	other := upgrade.Ref{Version: pin.Version, Manifest: "sha256:" + strings.Repeat("cd", 32)}
	order := rollout.Order{Action: rollout.ActSwitch, Target: rollout.Target{Release: pin}}
	for name, c := range map[string]struct {
		status upgrade.Status
		there  bool
	}{
		"nothing":            {upgrade.Status{}, false},
		"staged":             {upgrade.Status{Staged: &wanted}, true},
		"another is staged":  {upgrade.Status{Staged: &other}, false},
		"retained":           {upgrade.Status{Retained: []upgrade.Ref{other, wanted}}, true},
		"what runs is other": {upgrade.Status{Running: other}, false},
	} {
		if got := there(order, c.status); got != c.there {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What was taken back would count as a failure of the release, or never be begun
// again.
func TestWhatWasNotBegunIsAsIfItHadNotBeenAsked(t *testing.T) {
	t.Parallel()
	u, err := upgrade.New(upgrade.Config{StateDir: t.TempDir(), Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{upgrader: u}
	a.orders = &orders{agent: a}
	h := releaseHost{Agent: a}
	pin := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	order := rollout.Order{Request: "r1.1", Action: rollout.ActSwitch, Target: rollout.Target{Release: pin}, GiveUp: time.Minute}
	h.begin(order)
	if s := h.standing(order); s.State != rollout.ReportStarted {
		t.Errorf("in line: %+v", s)
	}
	h.retract("r1.0")
	if s := h.standing(order); s.State != rollout.ReportStarted {
		t.Errorf("another was taken back: %+v", s)
	}
	h.retract(order.Request)
	if s := h.standing(order); s.State != "" {
		t.Errorf("taken back: %+v", s)
	}
	failed := upgrade.Status{Attempt: upgrade.Attempt{OrderID: order.Request, State: upgrade.Failed, Reason: "no"}}
	if s := h.stands(order, failed); s.State != rollout.ReportRefused {
		t.Errorf("failed: %+v", s)
	}
	failed.Unbegun = upgrade.UnbegunStopped
	if s := h.stands(order, failed); s.State != "" {
		t.Errorf("stopped before anything had begun: %+v", s)
	}
	h.begin(order)
	if s := h.stands(order, failed); s.State != rollout.ReportStarted {
		t.Errorf("begun again: %+v", s)
	}
}

// A document that comes into force after the brake was pulled is what the brake was
// pulled for.
func TestDocumentThatIsStillReadIsTakenBackAndOneThatIsLaidIsNot(t *testing.T) {
	t.Parallel()
	h := &configHost{}
	order := rollout.Order{Request: "r1.1"}
	begun := func() context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		h.order, h.stand, h.end, h.lays = order, rollout.Standing{State: rollout.ReportStarted}, cancel, false
		return ctx
	}
	reading := begun()
	h.retract("r1.0")
	if reading.Err() != nil {
		t.Error("another was taken back")
	}
	h.retract(order.Request)
	if reading.Err() == nil || h.changes(order) {
		t.Error("it is laid over though it was taken back")
	}
	laying := begun()
	if !h.changes(order) {
		t.Error("it is not laid over")
	}
	if h.retract(order.Request); laying.Err() != nil || h.order != order {
		t.Error("what is in force was taken back by half")
	}
}
