package rollout

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestWhoMayHaveLeftTheRegistryReadsItBeforeItStarts: an agent whose lease was revoked
// a moment ago would be down and counted by nobody.
func TestWhoMayHaveLeftTheRegistryReadsItBeforeItStarts(t *testing.T) {
	for name, c := range map[string]func(r *followRig){
		"the plan says so":          func(r *followRig) { r.plan.Cursor.Unsure = true },
		"it is not remembered long": func(r *followRig) { r.renewed = vouched },
	} {
		t.Run(name, func(t *testing.T) {
			r := newFollowRig(t)
			r.admits()
			c(r)
			if again := r.hears(); again <= 0 || r.looks != 1 {
				t.Fatalf("looks again in %v, and has looked %d times", again, r.looks)
			}
			r.reports("it is being read", "")
			for what, s := range map[string]sighting{
				"no answer": {err: errors.New("no route to host")},
				"gone":      {revision: 1000},
				"back":      {revision: 1000, joined: 999},
			} {
				r.sight(s)
				r.look(r.now)
				r.reports(what, ReportWaiting)
				if reason := r.Report().Reason; !strings.Contains(reason, "left the registry") {
					t.Errorf("%s: says %q", what, reason)
				}
			}
			if r.looks != 1 {
				t.Errorf("read %d times at once", r.looks)
			}
			r.sight(sighting{revision: 999, joined: r.joined})
			r.look(r.now)
			r.reports("from before the plan", ReportWaiting)
			r.now = r.now.Add(2 * followAgain)
			r.look(r.now)
			if r.looks != 2 {
				t.Errorf("read %d times, want once more after a while", r.looks)
			}
			r.sight(sighting{revision: 1000, joined: r.joined})
			r.look(r.now)
			r.reports("it is there", ReportStarted, "r1.1")
		})
	}
}

// TestADiskThatTakesItsTimeHasTheRegistrationReadFirst: by the time that what is begun
// lies on the disk, nobody may remember the agent any more.
func TestADiskThatTakesItsTimeHasTheRegistrationReadFirst(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	asked := 0
	r.cfg.Renewed = func() (time.Duration, bool) {
		if asked++; asked > 2 { // it was kept meanwhile
			return vouched, true
		}
		return 0, true
	}
	r.hears()
	r.reports("it has to look first", ReportWaiting)
	r.look(r.now)
	r.sight(sighting{revision: 1000, joined: r.joined})
	r.look(r.now)
	r.reports("it has looked", ReportStarted, "r1.1")
}

// TestARegistrationIsReadFromEtcd: as above, with etcd itself.
func TestARegistrationIsReadFromEtcd(t *testing.T) {
	client := etcdtest.Start(t).Client(t)
	register := func() int64 {
		put, err := client.Put(t.Context(), "/agents/registry/a1", "{}")
		if err != nil {
			t.Fatal(err)
		}
		return put.Header.Revision
	}
	first := register()
	if _, err := client.Delete(t.Context(), "/agents/registry/a1"); err != nil {
		t.Fatal(err)
	}
	second := register()
	for joined, starts := range map[int64]bool{first: false, second: true} {
		f, h, stop := follower(t, client, filepath.Join(t.TempDir(), "rollout.json"), joined)
		r := newFollowRig(t)
		r.plan.Cursor = Cursor{AsOf: second, Unsure: true}
		r.admits()
		r.put(t, client)
		if starts {
			waittest.Next(t, "it begins", h.began)
		} else {
			f.waitsFor(t, "r1.1", ReportWaiting)
		}
		if stop(); len(h.began) > 0 {
			t.Errorf("joined at %d: has begun", joined)
		}
	}
}

// TestWhoStartsLateGivesUpNoLaterThanItIsCounted: its place is kept from when it was
// seen to leave, which may have been right after it was known to be there.
func TestWhoStartsLateGivesUpNoLaterThanItIsCounted(t *testing.T) {
	r := newFollowRig(t)
	r.plan.Deadline = 100
	r.admits()
	r.renewed = 24 * time.Second
	r.hears()
	r.reports("it begins", ReportStarted, "r1.1")
	gone := r.now.Add(-r.renewed)
	if until, counted := r.now.Add(r.begun[0].GiveUp), gone.Add(r.plan.attempt()); until.After(counted) {
		t.Errorf("is at it for %v longer than it is counted", until.Sub(counted))
	}

	r = newFollowRig(t)
	r.plan.Deadline = 100
	r.admits()
	r.renewed = 25 * time.Second
	if r.hears(); r.looks != 1 {
		t.Errorf("looks %d times, where not enough of its time is left", r.looks)
	}
}

// TestWhatWasReadAnAgeAgoVouchesForNobody: what was begun and is begun again would be
// so on a registration that may long be gone.
func TestWhatWasReadAnAgeAgoVouchesForNobody(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.renewed = vouched
	r.hears()
	r.sight(sighting{revision: 1000, joined: r.joined})
	r.look(r.now)
	r.reports("it has looked", ReportStarted, "r1.1")
	looks := r.looks
	r.stands["r1.1"] = Standing{State: ReportWaiting, Reason: "an order to this host goes first"}
	r.look(r.now)
	r.now = r.now.Add(90 * time.Second)
	delete(r.stands, "r1.1")
	if r.look(r.now); r.looks == looks {
		t.Errorf("begun %d times upon what was read once", len(r.begun))
	}
}
