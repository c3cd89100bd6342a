package rollout_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

func TestDefaultCanaryGoesFromTestToProductionToAll(t *testing.T) {
	d := newDesk(t, releasePlan(), 200)
	for i := range d.plan.Stages {
		if j := d.plan.Stages[i].Judge; *j.SuccessAbove != 99.5 || len(d.plan.Stages) != 3 {
			t.Fatalf("stage %d of %d: %+v", i, len(d.plan.Stages), j)
		}
	}
	if d.plan.RetainFor.Duration() != 72*time.Hour || d.plan.OnFailure != Revert {
		t.Fatalf("the previous release is kept for %v, a failure leads to %s", d.plan.RetainFor.Duration(), d.plan.OnFailure)
	}
	d.want("admitted")
	if n := len(d.admitted()); n != 5 { // 5 % of the 100 for test
		t.Fatalf("%d canaries", n)
	}
	for _, m := range d.admitted() {
		if m.Labels["env"] != "test" {
			t.Fatal("a canary is not for test")
		}
	}
	d.all(ReportDone)
	d.want("stage", "admitted")
	for d.plan.Stage < 2 {
		if n := len(d.admitted()); n > 25 {
			t.Fatalf("%d at once of the 100 in production", n)
		}
		d.all(ReportDone)
		d.pass(time.Minute)
	}
	if f := d.books.Stages[1]; f.Succeeded != 30 {
		t.Fatalf("production: %+v", f)
	}
	for d.plan.State == Running {
		d.all(ReportDone)
		d.pass(time.Minute)
	}
	if f := d.books.Figures; d.plan.State != Completed || f.Succeeded != 200 || f.Admitted != 200 || f.Unavailable != 0 {
		t.Fatalf("%s, %+v", d.plan.State, f)
	}
}

// More than 99.5 %, and not 99.5 %.
func TestOneOfTwoHundredIsTooMany(t *testing.T) {
	for agents, want := range map[int]State{200: Reverting, 201: Completed} {
		d := newDesk(t, releasePlan(Stage{}), agents)
		d.want("admitted")
		d.all(ReportDone)
		d.report(d.members[agents/2], ReportFailed)
		if d.step(); d.plan.State != want {
			t.Errorf("1 of %d: %s, want %s: %s", agents, d.plan.State, want, d.plan.Why)
		}
	}
}

// Each step is told to the whole fleet: ten thousand agents that end one by one
// are not ten thousand steps.
func TestStepsForAFewArePaced(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{MaxUnavailable: Amount{Agents: 10}}), 40)
	d.want("admitted")
	d.report(d.admitted()[0], ReportDone)
	d.want()
	if left := d.out.Wake.Sub(d.now); left <= 0 || left > time.Second {
		t.Fatalf("it is woken in %v", left)
	}
	d.report(d.admitted()[0], ReportDone)
	d.report(d.admitted()[0], ReportDone)
	d.want("admitted") // a quarter of what may be
	d.report(d.admitted()[0], ReportDone)
	d.want()
	if told := d.pass(time.Second); !slices.Equal(told, []string{"admitted"}) {
		t.Fatalf("after a second: %v", told)
	}
}

func TestManualGateAndPromoteThatAcceptsAStageAsItIs(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{Name: "one", Selector: "env=test", Manual: true, Soak: 60}, Stage{Name: "two"}), 4)
	d.want()
	if !strings.Contains(d.books.Waits, "waits for promote") || len(d.admitted()) != 0 {
		t.Fatalf("it does not wait: %q", d.books.Waits)
	}
	d.plan.Promoted = 1
	d.want("admitted")
	d.all(ReportFailed)
	// The record tells the figures that it was decided on, not those of the revert.
	if out, err := Decide(d.input()); err != nil || out.Draft.Event != EventReverting || out.Draft.Figures.Failed != 2 || out.Draft.Figures.Admitted != 2 || out.Figures.Failed != 0 {
		t.Errorf("%v: %+v", err, out.Draft)
	}
	d.want("reverting", "reverted")
	d.plan.Promoted, d.plan.State = 2, Running
	d.plan.Instruction, d.plan.Cursor = Instruction{Number: 3, Action: ActSwitch}, Cursor{}
	d.want("admitted", "stage", "admitted") // neither soak nor judgement holds it up
}

func TestStageThatSelectsNobodyIsInconclusive(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{Selector: "env=staging"}, Stage{}), 4)
	d.want("paused")
	if d.plan.State != Paused || !strings.Contains(d.plan.Why, "selects no agent") || len(d.admitted()) != 0 {
		t.Fatalf("%s: %s", d.plan.State, d.plan.Why)
	}
}

func TestHeldAndGoneCountNeitherWayAndTooFewAreInconclusive(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{Selector: "env=test", Judge: Judge{MinSample: 4}}, Stage{}), 10)
	d.want("admitted")
	d.report(d.members[0], ReportHeld)
	d.remove("a0002")
	for _, id := range []int{4 - 1, 6 - 1, 8 - 1} { // a0002 is gone
		d.report(d.members[id], ReportDone)
	}
	d.want()
	if f := d.books.Figures; f.Held != 1 || f.Succeeded != 3 || f.Unavailable != 1 {
		t.Fatalf("%+v", f)
	}
	d.pass(99 * time.Second)
	if d.plan.State != Running {
		t.Fatal("who left was given up before its deadline")
	}
	if told := d.pass(2 * time.Second); !slices.Equal(told, []string{"paused"}) || !strings.Contains(d.plan.Why, "inconclusive") {
		t.Fatalf("%v: %s", told, d.plan.Why)
	}
	if f := d.books.Figures; f.Gone != 1 || f.Failed != 0 || f.Unavailable != 0 {
		t.Fatalf("%+v", f)
	}
}

func TestAgentThatLeavesWhileItChangesOrRightAfterHasFailed(t *testing.T) {
	for name, s := range map[string]ReportState{"under way": ReportStarted, "right after": ReportDone} {
		t.Run(name, func(t *testing.T) {
			plan := releasePlan(Stage{Soak: 3600})
			plan.OnFailure = Halt
			d := newDesk(t, plan, 4)
			d.want("admitted")
			d.report(d.members[1], s)
			d.want()
			d.remove("a0001")
			d.want()
			if d.books.Figures.Unavailable != 4 {
				t.Fatalf("%+v", d.books.Figures)
			}
			for _, m := range d.members {
				d.report(m, ReportDone)
			}
			d.want()
			if d.pass(101 * time.Second); d.plan.State != Halted || d.books.Lost["a0001"].State != "failed" {
				t.Fatalf("%s: %s, %+v", d.plan.State, d.plan.Why, d.books.Lost)
			}
		})
	}
}

func TestAgentThatLeavesLongAfterItsChangeIsNoFailure(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{Soak: 3600}), 4)
	d.want("admitted")
	d.all(ReportDone)
	d.want("soaking")
	d.pass(61 * time.Second)
	d.remove("a0001")
	d.want()
	if d.pass(3600 * time.Second); d.plan.State != Completed {
		t.Fatalf("%s: %s", d.plan.State, d.plan.Why)
	}
}

func TestWhatRunsIsBelievedMoreThanWhatIsReported(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{Soak: 3600}), 4)
	d.want("admitted")
	d.all(ReportDone)
	for _, m := range slices.Clone(d.members) { // the registration comes a little later than the report
		c := *m
		c.Version, c.Manifest = "1.0.0", goodDigest
		d.replace(&c)
	}
	d.want()
	if f := d.books.Figures; f.UnderWay != 4 || f.Failed != 0 {
		t.Fatalf("a registration that is late: %+v", f)
	}
	d.all(ReportDone)
	for _, m := range slices.Clone(d.members) {
		c := *m
		c.Version, c.Manifest = "2.0.0", badDigest
		d.replace(&c)
	}
	d.want("soaking")
	d.pass(2 * time.Minute)
	c := *d.members[2]
	c.Version, c.Manifest = "1.0.0", goodDigest // the boot guard's doing
	d.replace(&c)
	d.want("reverting")
	if !strings.Contains(d.plan.Why, "a0002: runs 1.0.0 after it reported success") {
		t.Fatal(d.plan.Why)
	}
}

func TestOnlyAlertsThatBeganAfterTheChangeCount(t *testing.T) {
	plan := releasePlan(Stage{Soak: 3600})
	plan.OnFailure = Halt
	d := newDesk(t, plan, 4)
	d.want("admitted")
	d.all(ReportDone)
	d.want("soaking")
	for i, alert := range []Alert{
		{Name: "old", Severity: "critical", Since: d.now.Add(-time.Second)},
		{Name: "mild", Severity: "warning", Since: d.now.Add(time.Second)},
	} {
		c := *d.members[i]
		c.Alerts = []Alert{alert}
		d.replace(&c)
	}
	d.want()
	c := *d.members[3]
	c.Alerts = []Alert{{Name: "new", Severity: "critical", Since: d.now.Add(time.Second)}}
	d.replace(&c)
	d.want("halted")
	if !strings.Contains(d.plan.Why, "alert new fires since its change") {
		t.Fatal(d.plan.Why)
	}
}

// TestCheckThatFailsCountsAfterAMomentWhateverTheClocksSay: on a host whose clock is
// ahead it would be no failure for so long, and where it is behind at once.
func TestCheckThatFailsCountsAfterAMomentWhateverTheClocksSay(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, 0, -time.Hour} {
		d := newDesk(t, releasePlan(Stage{Soak: 3600}), 2)
		d.want("admitted")
		d.all(ReportDone)
		d.want("soaking")
		changed := d.now.Add(ahead)
		d.pass(time.Minute)
		for _, m := range d.members {
			c := *m
			c.Report = &Report{Request: m.Report.Request, State: ReportDone, At: changed}
			c.Alerts = []Alert{{Check: true, Name: "ready", Severity: "critical", Since: d.now.Add(ahead - time.Second), Lasted: time.Second}}
			c.Told = d.now
			d.replace(&c)
		}
		if told := d.pass(3900 * time.Millisecond); len(told) > 0 {
			t.Errorf("clocks %v ahead: after a moment %v: %s", ahead, told, d.plan.Why)
		}
		if d.pass(200 * time.Millisecond); d.plan.State != Reverting {
			t.Errorf("clocks %v ahead: %s, waits %q", ahead, d.plan.State, d.books.Waits)
		}
	}
}

// TestChecksAreAskedAfterTheSoakAndAgainWhenResumed by an operator of any clock: of one
// that is ahead of the controller's no answer would ever be new enough.
func TestChecksAreAskedAfterTheSoakAndAgainWhenResumed(t *testing.T) {
	for _, ahead := range []time.Duration{0, 10 * time.Minute, -10 * time.Minute} {
		check := Check{Name: "errors", Kind: "custom"}
		d := newDesk(t, releasePlan(Stage{Soak: 60, Judge: Judge{Checks: []Check{check}}}), 2)
		d.want("admitted")
		d.all(ReportDone)
		d.want("soaking")
		d.checks["errors"] = CheckResult{Verdict: Pass, At: d.now} // to another question
		if d.want(); len(d.out.Ask) != 0 {
			t.Fatal("asked before the soak has ended")
		}
		if d.pass(60 * time.Second); len(d.out.Ask) != 1 || d.plan.State != Running {
			t.Fatalf("asks %v", d.out.Ask)
		}
		d.checks["errors"] = CheckResult{Verdict: Inconclusive, Detail: "no data", At: d.now}
		d.want("paused")
		d.now = d.now.Add(time.Minute)
		d.plan.State, d.plan.Since = Running, d.now.Add(ahead)
		clear(d.checks) // as an inquiry does
		if d.want(); len(d.out.Ask) != 1 {
			t.Fatal("not asked again")
		}
		d.checks["errors"] = CheckResult{Verdict: Fail, Detail: "7 %", At: d.now}
		d.want("reverting")
		if !strings.Contains(d.plan.Why, "7 %") {
			t.Fatal(d.plan.Why)
		}
	}
}

func TestSilentAgentsThatHoldAllPlacesPauseWhatWouldNeverEnd(t *testing.T) {
	plan := releasePlan(Stage{MaxUnavailable: Amount{Agents: 1}, Judge: Judge{SuccessAbove: new(float64)}})
	d := newDesk(t, plan, 20)
	d.want("admitted")
	d.all(ReportDone)
	d.pass(2 * time.Second)
	d.all(ReportStarted)
	d.want()
	if d.pass(99 * time.Second); d.plan.State != Running {
		t.Fatal("paused before the deadline")
	}
	if told := d.pass(2 * time.Second); !slices.Equal(told, []string{"paused"}) || d.books.Figures.Silent != 1 {
		t.Fatalf("%v: %s, %+v", told, d.plan.Why, d.books.Figures)
	}
}

func TestFrozenTimeIsNotHeldAgainstThoseWhoMayNotStart(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{MaxUnavailable: Amount{Agents: 2}}), 6)
	d.want("admitted")
	taken := &Report{Request: "r1.1", State: ReportStarted, At: d.now}
	d.admitted()[0].Report = taken
	d.want()
	d.freeze = &Freeze{Schema: 1, By: "ops"}
	d.want()
	taken.State = ReportWaiting // its host had only waited
	d.pass(time.Hour)
	if d.books.Figures.Silent != 0 || !strings.Contains(d.books.Waits, "frozen by ops") {
		t.Fatalf("%+v, %q", d.books.Figures, d.books.Waits)
	}
	d.freeze = nil
	d.want()
	if d.pass(99 * time.Second); d.books.Figures.Silent != 0 {
		t.Fatal("the frozen time counts")
	}
	d.pass(2 * time.Second)
	if d.books.Figures.Silent == 0 && d.plan.State == Running {
		t.Fatal("the deadline is gone for good")
	}
}

// TestFreezeOfAMomentFailsNobody: a host that was given nothing to do for that moment is
// given it again with all its time, and would be late by what it had before.
func TestFreezeOfAMomentFailsNobody(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{}), 2)
	d.want("admitted")
	d.all(ReportStarted)
	d.want()
	d.pass(80 * time.Second)
	d.freeze = &Freeze{Schema: 1}
	d.want()
	d.freeze = nil
	d.all(ReportWaiting)
	d.pass(time.Second)
	d.all(ReportStarted)
	if told := d.pass(30 * time.Second); len(told) > 0 {
		t.Errorf("%v: %s", told, d.plan.Why)
	}
}

// TestNothingCompletesWhileTheFleetIsFrozen: what completes is published to all.
func TestNothingCompletesWhileTheFleetIsFrozen(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{}), 2)
	d.want("admitted")
	d.all(ReportDone)
	d.freeze = &Freeze{Schema: 1, By: "ops"}
	if d.want(); !strings.Contains(d.books.Waits, "frozen by ops") {
		t.Errorf("it waits for %q", d.books.Waits)
	}
	d.freeze = nil
	d.want("completed")
}

func TestFreezeHoldsTheMarkAndLetsRevertsGoOnUnlessToldOtherwise(t *testing.T) {
	for _, reverts := range []bool{false, true} {
		d := newDesk(t, releasePlan(Stage{Selector: "env=test"}, Stage{}), 6)
		d.want("admitted")
		d.report(d.members[0], ReportDone)
		d.report(d.members[2], ReportDone)
		d.freeze = &Freeze{Schema: 1, Reverts: reverts}
		d.report(d.members[4], ReportFailed)
		d.want("reverting")
		if n := len(d.admitted()) > 0; n == reverts {
			t.Fatalf("reverts frozen: %v, admitted: %v", reverts, n)
		}
		d.freeze = nil
		d.step()
		d.all(ReportDone)
		if d.step(); d.plan.State != Reverted {
			t.Fatalf("%s: %q", d.plan.State, d.books.Waits)
		}
	}
}
