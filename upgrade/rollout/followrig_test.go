package rollout

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// followRig drives a Follower step by step, by a clock of its own, with a host
// that does what the test says.
type followRig struct {
	*testing.T
	*Follower
	now    time.Time
	joined int64
	fresh  bool
	// renewed is how long ago, looks how often the registration was to be read.
	renewed time.Duration
	looks   int
	plan    Plan
	freeze  *Freeze

	begun   []Order
	stands  map[string]Standing // by request
	runs    string              // the version that runs
	held    string
	alarms  []string
	there   bool
	settled []string
	taken   []string // requests that were taken back
}

func newFollowRig(t *testing.T) *followRig {
	r := &followRig{
		T: t, now: time.Now(), joined: 50, fresh: true, there: true,
		stands: map[string]Standing{}, runs: "1.0.0",
	}
	r.plan = Plan{
		Schema: Schema, Fleet: DefaultFleet, ID: "r1", By: "ops", Created: r.now, Since: r.now,
		Strategy: Rolling, OnFailure: Revert, State: Running, Deadline: 100, RetainFor: 3600,
		Target:      Target{Release: releasePin("1.1.0"), Program: "demo"},
		Previous:    Target{Release: releasePin("1.0.0"), Program: "demo"},
		Stages:      []Stage{{Name: "all", BasisPoints: 10000}},
		Instruction: Instruction{Number: 1, Action: ActSwitch},
		Cursor:      Cursor{AsOf: 100},
	}
	r.restart(filepath.Join(t.TempDir(), "rollout.json"))
	return r
}

func releasePin(version string) release.Pin {
	return release.Pin{Version: version, Digest: "sha256:" + strings.Repeat("ab", 31) + "0" + version[2:3]}
}

// restart is another process of the same agent, whose state is kept at path.
func (r *followRig) restart(path string) {
	r.Follower = &Follower{keys: keys{"/agents/", DefaultFleet}, touched: make(chan struct{}, 1)}
	r.cfg = FollowerConfig{
		Self: func() Member { return Member{ID: "a1", Joined: r.joined, Groups: []string{"web"}} },
		Host: r, Renewed: func() (time.Duration, bool) { return r.renewed, r.fresh }, State: path, OnReport: func() {},
		Alarms: func() []string { return r.alarms },
		Logger: slog.New(slog.DiscardHandler),
	}
	r.lookUp = func(string) { r.looks++ }
	r.recall()
}

func (r *followRig) Begin(o Order) { r.begun = append(r.begun, o) }
func (r *followRig) Retract(request string) {
	r.taken = append(r.taken, request)
	if s := r.stands[request]; s.State == ReportWaiting {
		delete(r.stands, request)
	}
}
func (r *followRig) Settle(id string) { r.settled = append(r.settled, id) }
func (r *followRig) Standing(o Order) Standing {
	s := r.stands[o.Request]
	s.Held, s.There = r.held, r.there
	switch o.Action { //nolint:exhaustive // nothing is staged here
	case ActSwitch:
		s.Runs = r.runs == o.Target.Release.Version
	case ActRevert:
		s.Runs = r.runs != o.From.Release.Version
	}
	return s
}

// hears has the agent see the plan and the brake as they are.
func (r *followRig) hears() time.Duration {
	r.Helper()
	v := planView{mod: 1000}
	var err error
	if v.plan, err = json.Marshal(r.plan); err != nil {
		r.Fatal(err)
	}
	if r.freeze != nil {
		if v.freeze, err = json.Marshal(r.freeze); err != nil {
			r.Fatal(err)
		}
	}
	r.hear(v)
	return r.look(r.now)
}

// admits moves the mark over all.
func (r *followRig) admits() {
	r.plan.Cursor.Marks = []Mark{{Open: true, Rank: LastRank}}
}

// reports checks the report and what was begun so far.
func (r *followRig) reports(what string, state ReportState, begun ...string) {
	r.Helper()
	var state1 ReportState
	if report := r.Report(); report != nil {
		state1 = report.State
	}
	var requests []string
	for _, o := range r.begun {
		requests = append(requests, o.Request)
	}
	if state1 != state || !slices.Equal(requests, begun) {
		r.Errorf("%s: reports %q and has begun %q, want %q and %q; %+v", what, state1, requests, state, begun, r.Report())
	}
}
