package rollout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// TestNobodyStartsWhoIsNotAdmitted: more agents would be down than the plan
// allows, and none of them counted.
func TestNobodyStartsWhoIsNotAdmitted(t *testing.T) {
	for name, c := range map[string]func(r *followRig){
		"mark not open":      func(r *followRig) { r.plan.Cursor.Marks = []Mark{{}} },
		"mark below":         func(r *followRig) { r.plan.Cursor.Marks[0].Rank = RankOf("r1", "a1") - 1 },
		"joined after":       func(r *followRig) { r.joined = 101 },
		"not registered":     func(r *followRig) { r.joined = 0 },
		"another group":      func(r *followRig) { r.plan.Selector = ".group=db" },
		"another stage":      func(r *followRig) { r.plan.Stages[0].Selector = "env=test" },
		"another fleet":      func(r *followRig) { r.plan.Fleet = "other" },
		"lease may be over":  func(r *followRig) { r.fresh = false },
		"frozen":             func(r *followRig) { r.freeze = &Freeze{Schema: Schema, By: "ops", At: r.now} },
		"frozen, it seems":   func(r *followRig) { r.freeze = &Freeze{Schema: 99} },
		"etcd does not talk": func(r *followRig) { r.deaf = errors.New("no route to host") },
		"halted":             func(r *followRig) { r.plan.State = Halted },
		"aborted":            func(r *followRig) { r.plan.State = Aborted },
		"held":               func(r *followRig) { r.held = "audit" },
		"runs already":       func(r *followRig) { r.runs = "1.1.0" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newFollowRig(t)
			r.admits()
			c(r)
			r.hears()
			if len(r.begun) != 0 {
				t.Errorf("begun: %+v", r.begun)
			}
		})
	}
	r := newFollowRig(t)
	r.admits()
	r.plan.Cursor.Marks[0].Rank = RankOf("r1", "a1")
	r.hears()
	r.reports("mark at its rank", ReportStarted, "r1.1")
}

// TestWhoMayNotStartNowStartsOnceItMay: an agent that lost etcd for a moment, or
// stood still under the brake, would otherwise stay behind, or nobody would know
// what it waits for.
func TestWhoMayNotStartNowStartsOnceItMay(t *testing.T) {
	for name, c := range map[string]struct{ not, may func(r *followRig) }{
		"lease": {func(r *followRig) { r.fresh = false }, func(r *followRig) { r.fresh = true }},
		"brake": {func(r *followRig) { r.freeze = &Freeze{Schema: Schema, By: "ops", At: r.now} }, func(r *followRig) { r.freeze = nil }},
		"etcd":  {func(r *followRig) { r.deaf = errors.New("no route to host") }, func(r *followRig) { r.deaf = nil }},
		"halt":  {func(r *followRig) { r.plan.State = Halted }, func(r *followRig) { r.plan.State = Running }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFollowRig(t)
			r.admits()
			c.not(r)
			if again := r.hears(); again <= 0 {
				t.Error("it does not look again by itself")
			}
			r.reports("kept from it", ReportWaiting)
			if r.Report().Reason == "" {
				t.Error("nobody is told why")
			}
			c.may(r)
			r.hears()
			r.reports("free to", ReportStarted, "r1.1")
		})
	}
}

// TestAnOrderSaysAllThatTheHostNeeds: the host would guess, or take longer than it is
// waited for.
func TestAnOrderSaysAllThatTheHostNeeds(t *testing.T) {
	r := newFollowRig(t)
	r.plan.Instruction.Probation = 60
	r.admits()
	r.hears()
	want := Order{
		Rollout: "r1", Request: "r1.1", By: "ops", Action: ActSwitch, Target: r.plan.Target,
		Probation: time.Minute, GiveUp: 144 * time.Second, Retain: time.Hour,
	}
	if got := r.begun[0]; got.GiveUp > want.GiveUp || got.GiveUp < want.GiveUp-10*time.Second {
		t.Errorf("gives up after %v, want %v, which is before its deadline, the probation beside", got.GiveUp, want.GiveUp)
	}
	r.begun[0].GiveUp = want.GiveUp
	if r.begun[0] != want {
		t.Errorf("%+v\nwant %+v", r.begun[0], want)
	}
	r.stands["r1.1"] = Standing{State: ReportStarted}
	r.plan.Instruction = Instruction{Number: 2, Action: ActRevert}
	r.hears()
	if o := r.begun[1]; o.Action != ActRevert || o.Target.Release != releasePin("1.0.0") || o.From.Release != releasePin("1.1.0") {
		t.Errorf("a revert is %+v", o)
	}
}

// TestWhatHasEndedIsNotBegunAgain: whoever moves the marks does not count the agent
// any more, so that it would be down uncounted.
func TestWhatHasEndedIsNotBegunAgain(t *testing.T) {
	for _, end := range []Standing{
		{State: ReportDone}, {State: ReportFailed, Reason: "probation", Class: "binary"}, {State: ReportRefused, Reason: "policy"}, {State: ReportHeld},
	} {
		t.Run(string(end.State), func(t *testing.T) {
			r := newFollowRig(t)
			r.admits()
			r.hears()
			r.stands["r1.1"] = end
			r.look(r.now)
			r.reports("it has ended", end.State, "r1.1")
			if got := r.Report(); got.Reason != end.Reason || got.Class != end.Class || got.Request != "r1.1" {
				t.Errorf("reports %+v", got)
			}
			clear(r.stands) // another order has been performed since
			r.plan.Seq++
			r.hears()
			r.reports("the plan moves on", end.State, "r1.1")
			r.restart(r.cfg.State)
			r.hears()
			r.reports("after a restart", end.State, "r1.1")
			// The next instruction is another matter.
			r.plan.Instruction.Number = 2
			r.hears()
			r.reports("the next instruction", ReportStarted, "r1.1", "r1.2")
		})
	}
}

// TestHeldAgentThatIsReleasedWaitsForTheNextInstruction: it was counted as held,
// and would be down uncounted.
func TestHeldAgentThatIsReleasedWaitsForTheNextInstruction(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.held = "audit"
	r.hears()
	r.reports("held", ReportHeld)
	r.held = ""
	r.look(r.now)
	r.reports("released", ReportHeld)
	r.plan.ID = "r2"
	r.hears()
	r.reports("the next rollout", ReportStarted, "r2.1")
}

// TestKilledBeforeTheHostHeardBeginsAgain: the agent would be taken for one that is
// under way, until its deadline, and then for a failure of the release.
func TestKilledBeforeTheHostHeardBeginsAgain(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.hears()
	r.reports("begun", ReportStarted, "r1.1")
	// The host knows nothing of it: this process was killed in between.
	r.restart(r.cfg.State)
	r.look(r.now)
	r.reports("before etcd is heard", ReportWaiting, "r1.1")
	r.hears()
	r.reports("heard", ReportStarted, "r1.1", "r1.1")

	// One that was away for longer than its lease is not let in by this mark.
	r.restart(r.cfg.State)
	r.joined = 120
	r.hears()
	r.reports("late", ReportWaiting, "r1.1", "r1.1")
	r.plan.Cursor.Late = Late{AsOf: 130, Mark: Mark{Open: true, Rank: LastRank}}
	r.hears()
	r.reports("let in late", ReportStarted, "r1.1", "r1.1", "r1.1")
}

// TestASwapOrACrashIsFinishedInTheReport: a successor does not begin what it is the
// result of, and a host that went back at its start says so.
func TestASwapOrACrashIsFinishedInTheReport(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.hears()
	r.restart(r.cfg.State)
	r.stands["r1.1"] = Standing{State: ReportDone}
	r.runs = "1.1.0"
	r.look(r.now) // without etcd
	r.reports("the successor", ReportDone, "r1.1")

	r = newFollowRig(t)
	r.admits()
	r.hears()
	if err := os.Remove(r.cfg.State); err != nil {
		t.Fatal(err)
	}
	r.restart(r.cfg.State)
	r.stands["r1.1"] = Standing{State: ReportFailed, Reason: "interrupted"}
	r.hears()
	r.reports("without what was kept", ReportFailed, "r1.1")
}

// TestWhatTheHostLosesIsGivenAgainInTheTimeThatIsLeft: an order of an operator has
// taken its place in the host. The agent would stay behind, or be down longer than it
// is counted.
func TestWhatTheHostLosesIsGivenAgainInTheTimeThatIsLeft(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.hears()
	r.begun[0].GiveUp = 0
	r.begun = nil
	r.Follower.begun = time.Now().Add(-30 * time.Second)
	r.now = time.Now()
	r.look(r.now)
	if len(r.begun) != 1 || r.begun[0].GiveUp > 61*time.Second || r.begun[0].GiveUp < 50*time.Second {
		t.Fatalf("given again as %+v, want with 60 s left", r.begun)
	}
	// It is the host's word that counts, as long as it has one.
	r.stands["r1.1"] = Standing{State: ReportWaiting, Reason: "busy"}
	r.now = r.now.Add(time.Hour)
	r.look(r.now)
	r.reports("the host waits", ReportWaiting, "r1.1")
	r.stands["r1.1"] = Standing{State: ReportStarted}
	r.look(r.now)
	clear(r.stands)
	r.look(r.now)
	r.reports("its time is over", ReportFailed, "r1.1")
}

// TestARevertIsForThoseWhoHaveChanged: ten thousand agents would say that they have
// nothing to do, or one that has changed would stay on the bad release.
func TestARevertIsForThoseWhoHaveChanged(t *testing.T) {
	revert := func(r *followRig) {
		r.plan.State = Reverting
		r.plan.Instruction = Instruction{Number: 2, Action: ActRevert}
		r.plan.Cursor = Cursor{AsOf: 100, Marks: []Mark{{Open: true, Rank: LastRank}}}
		r.hears()
	}
	r := newFollowRig(t)
	r.hears()
	revert(r)
	r.reports("never admitted", "")

	r = newFollowRig(t)
	r.admits()
	r.hears()
	r.stands["r1.1"] = Standing{State: ReportDone}
	r.runs = "1.1.0"
	r.look(r.now)
	r.freeze = &Freeze{Schema: Schema, At: r.now}
	revert(r)
	r.reports("changed, and frozen", ReportStarted, "r1.1", "r1.2")

	r = newFollowRig(t)
	r.runs = "1.1.0"
	r.freeze = &Freeze{Schema: Schema, At: r.now, Reverts: true}
	revert(r)
	r.reports("installed with it, and reverts are frozen", ReportWaiting)
	r.freeze = nil
	r.hears()
	r.reports("reverts are free", ReportStarted, "r1.2")

	// Under way: the host must hear, though the old release runs still.
	r = newFollowRig(t)
	r.admits()
	r.hears()
	r.stands["r1.1"] = Standing{State: ReportStarted}
	revert(r)
	r.reports("under way", ReportStarted, "r1.1", "r1.2")

	// Failed by itself: done.
	r = newFollowRig(t)
	r.admits()
	r.hears()
	r.stands["r1.1"] = Standing{State: ReportFailed}
	r.look(r.now)
	revert(r)
	r.reports("went back by itself", ReportDone, "r1.1")
}

// TestAnUnreadablePlanStartsNothingAndIsTold: an agent would follow half of it, or be
// silent about why it does not.
func TestAnUnreadablePlanStartsNothingAndIsTold(t *testing.T) {
	r := newFollowRig(t)
	for _, bad := range []string{"", "{", "[]", `{"schema":2}`, `{"schema":1,"fleet":"default"}`} {
		r.hear(planView{plan: []byte(bad)})
		r.look(r.now)
		if r.Trouble() == nil || !strings.Contains(r.Trouble().Error(), "/agents/plan/default") {
			t.Errorf("%q: trouble %v", bad, r.Trouble())
		}
	}
	r.admits()
	r.hears()
	r.reports("a good one follows", ReportStarted, "r1.1")
	if r.Trouble() != nil {
		t.Errorf("trouble after a good one: %v", r.Trouble())
	}
	r.hear(planView{})
	r.look(r.now)
	r.reports("the plan is taken away", ReportWaiting, "r1.1")
}

// TestAgentsThatFetchDoNotAskTheRepositoryTogether: a thousand would; and one whose
// release is staged would wait for nothing.
func TestAgentsThatFetchDoNotAskTheRepositoryTogether(t *testing.T) {
	waited := 0
	for range 20 {
		r := newFollowRig(t)
		r.there = false
		r.admits()
		r.plan.Cursor.Steps = []Step{{At: r.now, Agents: 500}}
		again := r.hears()
		if len(r.begun) == 0 {
			waited++
			if again <= 0 || again > 5*time.Second {
				t.Fatalf("it looks again after %v, want up to 10 ms an agent", again)
			}
			r.now = r.now.Add(again)
			r.look(r.now)
		}
		r.reports("its turn", ReportStarted, "r1.1")
	}
	if waited < 15 {
		t.Errorf("%d of 20 waited", waited)
	}
	r := newFollowRig(t)
	r.admits()
	r.plan.Cursor.Steps = []Step{{At: r.now, Agents: 500}}
	r.hears()
	r.reports("all is there", ReportStarted, "r1.1")
}

// TestThoseWhoStartTogetherDoNotTellEtcdTogether: ten thousand reports in one second
// would be what keeps etcd from telling the others that they may start.
func TestThoseWhoStartTogetherDoNotTellEtcdTogether(t *testing.T) {
	for agents, want := range map[int]time.Duration{0: 0, 1: 0, 501: 500 * time.Millisecond, 1 << 20: 10 * time.Second} {
		r := newFollowRig(t)
		r.admits()
		r.plan.Cursor.Steps = []Step{{At: r.now, Agents: 7}, {At: r.now, Agents: agents}}
		r.hears()
		if got := r.ReportWithin(); got != want {
			t.Errorf("%d agents tell of their start within %v, want %v", agents, got, want)
		}
		r.stands["r1.1"] = Standing{State: ReportDone}
		r.look(r.now)
		if got := r.ReportWithin(); got != 0 {
			t.Errorf("%d agents tell of their end within %v, which is waited for", agents, got)
		}
	}
}

// TestTheHostIsToldOnceThatARolloutIsOver: what it has laid over would stay for ever.
func TestTheHostIsToldOnceThatARolloutIsOver(t *testing.T) {
	r := newFollowRig(t)
	r.admits()
	r.hears()
	r.stands["r1.1"] = Standing{State: ReportDone}
	r.look(r.now)
	if len(r.settled) != 0 {
		t.Errorf("told %q while it goes on", r.settled)
	}
	r.plan.State = Completed
	r.hears()
	r.look(r.now)
	if !slices.Equal(r.settled, []string{"r1"}) {
		t.Errorf("told %q, want once", r.settled)
	}
}

// TestWhatIsNotKeptIsTold: the next process would begin again what has failed, and
// nobody would know why.
func TestWhatIsNotKeptIsTold(t *testing.T) {
	r := newFollowRig(t)
	r.cfg.State = filepath.Join(t.TempDir(), "missing", "rollout.json")
	r.admits()
	r.hears()
	r.reports("it follows all the same", ReportStarted, "r1.1")
	if r.Trouble() == nil {
		t.Error("nobody is told")
	}
}

// TestReasonsAreBounded: a status has room for little.
func TestReasonsAreBounded(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", 1000), strings.Repeat("ü", 1000), strings.Repeat("𝔘", 1000)} {
		if got := reasonOf(text); len(got) > maxReportReason || !strings.HasSuffix(got, "…") || strings.Contains(got, "\uFFFD") {
			t.Errorf("%d bytes: %s", len(got), got)
		}
	}
}

// TestARoleThatMayNotReadThePlanIsTold: the agent would be silent in every rollout, and
// nobody know why.
func TestARoleThatMayNotReadThePlanIsTold(t *testing.T) {
	r := newFollowRig(t)
	r.deaf = fmt.Errorf("watch: %w", rpctypes.ErrPermissionDenied)
	r.tellTrouble()
	if r.Trouble() == nil || !strings.Contains(r.Trouble().Error(), "plan/default") {
		t.Errorf("trouble %v", r.Trouble())
	}
	r.deaf = errors.New("no route to host")
	if r.tellTrouble(); r.Trouble() != nil {
		t.Errorf("an outage is told as if it were the plan's: %v", r.Trouble())
	}
}

// TestWhatOnlyWaitsIsTakenBack: a fleet that is frozen would change on, as soon as its
// programs have time; and a plan wait for agents that do nothing.
func TestWhatOnlyWaitsIsTakenBack(t *testing.T) {
	busy := Standing{State: ReportWaiting, Reason: "busy"}
	for name, c := range map[string]struct{ stop, free func(r *followRig) }{
		"brake":            {func(r *followRig) { r.freeze = &Freeze{Schema: Schema, At: r.now} }, func(r *followRig) { r.freeze = nil }},
		"unreadable brake": {func(r *followRig) { r.freeze = &Freeze{Schema: 99} }, func(r *followRig) { r.freeze = nil }},
		"halt":             {func(r *followRig) { r.plan.State = Halted }, func(r *followRig) { r.plan.State = Running }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFollowRig(t)
			r.admits()
			r.hears()
			r.stands["r1.1"] = busy
			r.look(r.now)
			if len(r.taken) != 0 {
				t.Errorf("%q are taken back while the plan asks for them", r.taken)
			}
			c.stop(r)
			r.hears()
			r.reports("stopped", ReportWaiting, "r1.1")
			if len(r.taken) == 0 || r.taken[0] != "r1.1" || r.Report().Reason == "busy" {
				t.Errorf("%q were taken back, and it waits for %q", r.taken, r.Report().Reason)
			}
			r.Follower.begun = r.now.Add(-time.Hour)
			c.free(r)
			r.hears()
			r.reports("free", ReportStarted, "r1.1", "r1.1")
			if got := r.begun[1].GiveUp; got < 80*time.Second {
				t.Errorf("the time in which it was stopped is counted: %v are left", got)
			}
		})
	}
	t.Run("started", func(t *testing.T) {
		r := newFollowRig(t)
		r.admits()
		r.hears()
		r.stands["r1.1"] = Standing{State: ReportStarted}
		r.freeze = &Freeze{Schema: Schema, At: r.now}
		r.hears()
		r.reports("it is under way, and is told to be", ReportStarted, "r1.1")
	})
	t.Run("before etcd is heard", func(t *testing.T) {
		r := newFollowRig(t)
		r.admits()
		r.hears()
		r.restart(r.cfg.State)
		if r.look(r.now); len(r.taken) != 0 {
			t.Errorf("%q are taken back by a process that knows of no plan", r.taken)
		}
	})
}

// TestWhoWasLetInAndHasNotBegunSaysSoToTheNextPlan: whoever moves the marks would wait
// a deadline for it.
func TestWhoWasLetInAndHasNotBegunSaysSoToTheNextPlan(t *testing.T) {
	next := map[string]func(r *followRig){
		"a revert": func(r *followRig) {
			r.plan.State, r.plan.Instruction = Reverting, Instruction{Number: 2, Action: ActRevert}
		},
		"another rollout": func(r *followRig) { r.plan.ID = "r2" },
	}
	for name, c := range map[string]struct {
		not   func(r *followRig)
		begun []string
	}{
		"frozen": {func(r *followRig) { r.freeze = &Freeze{Schema: Schema, At: r.now} }, nil},
		"its turn has not come": {func(r *followRig) {
			r.there, r.plan.Deadline = false, 1e6
			r.plan.Cursor.Steps = []Step{{At: r.now, Agents: 1e9}}
		}, nil},
		"busy": {func(r *followRig) { r.stands["r1.1"] = Standing{State: ReportWaiting, Reason: "busy"}; r.joined = 120 }, []string{"r1.1"}},
	} {
		for what, then := range next {
			t.Run(name+", then "+what, func(t *testing.T) {
				r := newFollowRig(t)
				r.admits()
				if len(c.begun) > 0 {
					r.hears()
				}
				c.not(r)
				r.hears()
				r.freeze, r.plan.Cursor = nil, Cursor{AsOf: 100} // which lets nobody in yet
				then(r)
				r.hears()
				r.reports("the next plan", ReportRefused, c.begun...)
				if got := r.Report(); got.Request != "r1.1" {
					t.Errorf("reports %+v", got)
				}
				r.there = true
				r.admits()
				if r.joined = 50; r.plan.ID == "r2" {
					r.hears()
					r.reports("let in", ReportStarted, append(slices.Clone(c.begun), "r2.1")...)
				}
			})
		}
	}
}
