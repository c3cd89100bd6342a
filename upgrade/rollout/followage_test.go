package rollout

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestAgentDoesNotFollowWhatEtcdHeldBefore: after a backup was restored the whole fleet
// would do again what it has left, such as the bad release: at once, as all marks have
// passed, and counted by nobody.
func TestAgentDoesNotFollowWhatEtcdHeldBefore(t *testing.T) {
	r := newFollowRig(t)
	refuses := func(what, why string) {
		t.Helper()
		r.hears()
		if err := r.Trouble(); err == nil || !strings.Contains(err.Error(), why) || len(r.begun) != 0 {
			t.Errorf("%s: %v, begun %v", what, err, r.begun)
		}
	}
	takes := func(what string, requests ...string) {
		t.Helper()
		if r.hears(); r.Trouble() != nil {
			t.Errorf("%s: %v", what, r.Trouble())
		}
		r.reports(what, ReportStarted, requests...)
		r.stands[requests[0]] = Standing{State: ReportDone}
		r.look(r.now)
		r.begun = nil
	}
	r.admits()
	earlier := r.plan
	takes("the first", "r1.1")
	r.runs = "1.1.0"
	r.plan.Instruction = Instruction{Number: 2, Action: ActRevert}
	r.plan.State = Reverting
	takes("its revert", "r1.2")
	r.runs = "1.0.0"

	r.plan = earlier
	refuses("the instruction before", "number 2")
	r.restart(r.cfg.State)
	refuses("the instruction before, to another process", "number 2")

	r.plan = earlier
	r.plan.ID, r.plan.Created = "r2", earlier.Created.Add(time.Second)
	takes("the next rollout", "r2.1")
	r.plan = earlier
	refuses("the rollout before", "older than r2")
	r.plan.ID, r.plan.Created = "r3", earlier.Created.Add(2*time.Second)
	takes("one that began later", "r3.1")
}

// TestAgentDoesNotFollowAPlanThatWasCountedInAnotherEtcd: whoever joins there would be
// let in by its marks, and be counted by nobody.
func TestAgentDoesNotFollowAPlanThatWasCountedInAnotherEtcd(t *testing.T) {
	for _, late := range []bool{false, true} {
		r := newFollowRig(t)
		r.admits()
		if r.plan.Cursor.AsOf = 1000; late {
			r.plan.Cursor.AsOf, r.plan.Cursor.Late = 100, Late{AsOf: 1000, Mark: Mark{Open: true, Rank: LastRank}}
		}
		if r.hears(); len(r.begun) != 0 || r.Trouble() == nil {
			t.Errorf("begun %v, %v", r.begun, r.Trouble())
		}
		r.plan.Cursor.recount(999)
		if r.hears(); len(r.begun) != 1 || r.Trouble() != nil {
			t.Errorf("once it is counted anew: begun %v, %v", r.begun, r.Trouble())
		}
	}
}

// TestNewestPlanThatWasFollowedIsStillRead: a successor of another release would follow
// what was before it.
func TestNewestPlanThatWasFollowedIsStillRead(t *testing.T) {
	data, err := os.ReadFile("testdata/followed-1-newest.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseFollowed(data)
	if want := (planAge{Rollout: "r1", Created: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Number: 2}); err != nil || got.Newest != want {
		t.Errorf("%+v, %v, want %+v", got.Newest, err, want)
	}
}

// TestControllerCountsAnewWhereEtcdHasGoneBack: it would wait for a revision that is far
// away, and all who join until then be let in uncounted.
func TestControllerCountsAnewWhereEtcdHasGoneBack(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	c.hold()
	c.start(planOf("1.1.0"))
	one := c.term()
	// It has seen the agents in what etcd was before, and does not know of it yet.
	before := *one.fleet
	before.Revision = 1_000_000
	one.fleet = &before
	if _, err := one.look(t.Context()); !errors.Is(err, errReset) {
		t.Errorf("it goes on: %v", err)
	}
	v := r.status()
	if v.Plan.Seq != 2 || !v.Plan.foreign(one.at.plan.mod+1000) {
		t.Fatalf("the test is of nothing: %+v", v.Plan.Cursor)
	}
	if _, err := c.client.Delete(t.Context(), r.operator.keys.leader()); err != nil {
		t.Fatal(err)
	}
	next := c.term()
	if _, err := next.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	past := r.history()[0].Records
	// Whoever joined before is in no snapshot, and may be let in by a mark that was.
	if p := r.status().Plan; p.foreign(next.at.plan.mod) || p.Cursor.AsOf > next.fleet.Revision || !p.Cursor.Unsure || past[2].Event != EventRecounted {
		t.Errorf("%+v, %s", p.Cursor, past[2].Event)
	}
}
