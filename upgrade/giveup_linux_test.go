package upgrade

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// TestAttemptGivesUpByItselfInTime: a rollout counts a host as one that may come
// back any moment until its deadline, and not after.
func TestAttemptGivesUpByItselfInTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	mute := r.publish(build{Version: "1.1.0", Fault: "mute"})
	first := r.serves("1.0.0")
	r.staged(mute, 0) // or the slow download of a busy machine counts
	for _, c := range []struct {
		name  string
		busy  bool
		asked Request
		state State
		says  string
	}{
		{"busy for too long", true, Request{Pin: mute, GiveUp: time.Second}, Failed, "given up: it was to have ended within 1s"},
		{"no time for its probation", false, Request{Pin: mute, GiveUp: time.Minute, Probation: 50 * time.Second}, Failed, "are for the probation and the way back"},
		{"never serves", false, Request{Pin: mute, GiveUp: 4 * time.Second}, RolledBack, "given up: it was to have ended within 4s"},
	} {
		if c.busy {
			r.write("busy", "backup")
		}
		began := time.Now()
		a := r.followed(r.leave(c.asked))
		if took := time.Since(began); a.State != c.state || !strings.Contains(a.Reason, c.says) || a.GiveUp.IsZero() || a.Updated.After(a.GiveUp) {
			t.Errorf("%s: %s after %v, it was due at %v and ended at %v: %s", c.name, a.State, took, a.GiveUp, a.Updated, a.Reason)
		}
		if c.busy {
			r.removes("busy")
		}
	}
	if w := r.serves("1.0.0"); w != first {
		t.Errorf("%+v serves, it was %+v", w, first)
	}
	if q := r.quarantined(); len(q) > 0 {
		t.Errorf("quarantined for want of time: %+v", q)
	}
	if n := strings.Count(r.hooks(), "before-start"); n != 1 {
		t.Errorf("%d successors were started, want the one that had time", n)
	}
}

// The next process counts on from what is left, and one that asks again has no
// more time for it.
func TestTimeThatIsLeftTravelsWithARequestThatWaits(t *testing.T) {
	u, err := New(Config{StateDir: t.TempDir(), Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	u.Request(Request{ID: "a", GiveUp: time.Hour})
	first := u.waiting().due
	u.Request(Request{ID: "a", GiveUp: time.Hour})
	if again := u.waiting().due; !again.Equal(first) || first.IsZero() {
		t.Errorf("due at %v, and asked again at %v", first, again)
	}
	u.pending.due = time.Now().Add(time.Minute)
	data, err := json.Marshal(u.waiting().passedOn())
	if err != nil {
		t.Fatal(err)
	}
	var next Request
	if err := json.Unmarshal(data, &next); err != nil || next.GiveUp > time.Minute || next.GiveUp < 50*time.Second {
		t.Errorf("%s has %v left, %v", data, next.GiveUp, err)
	}
	u.pending.due = time.Now().Add(-time.Minute)
	if left := u.waiting().passedOn().GiveUp; left != 1 {
		t.Errorf("what is over has %v left in the next process", left)
	}
}

func TestBoundsOfARequestAreThoseOfTheHost(t *testing.T) {
	cfg, err := Config{StateDir: "x", Name: "demo", Version: "1.0.0", Probation: 2 * time.Hour, Retention: 1000 * time.Hour}.complete()
	if err != nil || cfg.ProbationLimit != 2*time.Hour || cfg.RetentionLimit != 1000*time.Hour {
		t.Fatalf("limits below what is set: %v, %v, %v", cfg.ProbationLimit, cfg.RetentionLimit, err)
	}
	if cfg, err = (Config{StateDir: "x", Name: "demo", Version: "1.0.0"}).complete(); err != nil {
		t.Fatal(err)
	}
	u := &Upgrader{cfg: cfg}
	for asked, want := range map[time.Duration]time.Duration{0: 30 * time.Second, time.Second: 30 * time.Second, time.Minute: time.Minute, 5 * time.Hour: time.Hour} {
		if got := u.probationFor(Request{Probation: asked}); got != want {
			t.Errorf("a probation of %v is asked for and %v granted, want %v", asked, got, want)
		}
	}
	for asked, want := range map[time.Duration]time.Duration{0: 0, time.Hour: 0, 100 * time.Hour: 100 * time.Hour, 1000 * time.Hour: 720 * time.Hour} {
		if got := u.keepFor(Request{Retain: asked}); got != want {
			t.Errorf("%v are to be retained, and %v are, want %v", asked, got, want)
		}
	}
	for name, r := range map[string]Request{
		"below zero":              {Action: ActionRollback, GiveUp: -1},
		"beyond sense":            {Action: ActionRollback, Retain: 1 << 62},
		"of what changes nothing": {Action: ActionHold, Probation: time.Minute},
		"leave of a rollback":     {Action: ActionRollback, Leave: release.Pin{Version: "1.0.0"}},
		"a revert of nothing":     {Action: ActionRevert},
		"a floating leave":        {Action: ActionRevert, Leave: release.Pin{Version: "latest"}},
	} {
		if r.Validate() == nil {
			t.Errorf("%s passes: %+v", name, r)
		}
	}
}
