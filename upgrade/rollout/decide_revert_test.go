package rollout_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

// revertingDesk is one whose first agents run the bad release, and that goes back
// while the next one to be let in stands as last.
func revertingDesk(t *testing.T, stage Stage, bad int, last ReportState) (d *desk, hangs *Member) {
	t.Helper()
	stage.Judge.SuccessAbove = new(float64) // an operator has it reverted
	d = newDesk(t, releasePlan(stage), 12)
	d.want("admitted")
	for range bad {
		adm := d.admitted()
		d.report(adm[0], ReportDone)
		d.pass(2 * time.Second)
	}
	hangs = d.admitted()[0]
	if last != "" {
		d.report(hangs, last)
	}
	d.want()
	d.plan.State, d.plan.Instruction, d.plan.Cursor = Reverting, Instruction{Number: 2, Action: ActRevert}, Cursor{}
	return d, hangs
}

func (d *desk) of(id string) *Member {
	i := slices.IndexFunc(d.members, func(m *Member) bool { return m.ID == id })
	return d.members[i]
}

// onBad are those that run the bad release.
func (d *desk) onBad() (n int) {
	for _, m := range d.members {
		if m.Version == "2.0.0" {
			n++
		}
	}
	return n
}

// back has whoever may go back, but for one, do so.
func (d *desk) back(but string) (n int) {
	d.t.Helper()
	for _, m := range d.admitted() {
		if m.ID != but && m.Version == "2.0.0" {
			d.report(m, ReportDone)
			n++
		}
	}
	return n
}

// comesBack has all go back, one after the other, and the revert end.
func (d *desk) comesBack() {
	d.t.Helper()
	for range 12 {
		d.pass(2 * time.Second)
		d.back("")
	}
	if d.plan.State != Reverted || d.onBad() != 0 {
		d.t.Fatalf("%s, waits %q: %s; %d on the bad release", d.plan.State, d.books.Waits, d.plan.Why, d.onBad())
	}
}

func TestNobodyGoesBackBesideAnAgentThatHangsUnlessThePlanSaysSo(t *testing.T) {
	d, hangs := revertingDesk(t, Stage{MaxUnavailable: Amount{Agents: 1}}, 4, ReportStarted)
	for range 100 {
		if d.pass(2 * time.Second); d.back(hangs.ID) != 0 {
			t.Fatal("two are down")
		}
	}
	if d.plan.State != Halted || d.onBad() != 4 || !strings.Contains(d.plan.Why, "leave no room") || !strings.Contains(d.plan.Why, hangs.ID) {
		t.Fatalf("%s: %s; %d on the bad release", d.plan.State, d.plan.Why, d.onBad())
	}
	// The place is free again.
	d.report(d.of(hangs.ID), ReportDone)
	d.comesBack()
}

func TestAgentThatHangsDoesNotKeepTheOthersOnTheBadReleaseWhereThePlanSaysSo(t *testing.T) {
	d, hangs := revertingDesk(t, Stage{MaxUnavailable: Amount{Agents: 1}}, 4, ReportStarted)
	d.plan.PastSilent = true
	for range 49 {
		if d.pass(2 * time.Second); d.back(hangs.ID) != 0 {
			t.Fatal("two are down before it is clear that the one hangs")
		}
	}
	for range 10 {
		d.pass(2 * time.Second)
		if n := d.back(hangs.ID); n > 1 {
			t.Fatalf("%d go back beside the one that hangs", n)
		}
	}
	d.pass(200 * time.Second)
	if d.plan.State != Halted || d.onBad() != 0 || !strings.Contains(d.plan.Why, hangs.ID) {
		t.Fatalf("%s: %s; %d on the bad release", d.plan.State, d.plan.Why, d.onBad())
	}
	// Whoever was away comes back with it, and goes back as well.
	late := *d.join()
	late.Version, late.Manifest = "2.0.0", badDigest
	d.replace(&late)
	if d.pass(2 * time.Second); d.back(hangs.ID) != 1 {
		t.Fatalf("one that came after the halt stays on the bad release: waits %q", d.books.Waits)
	}
	if d.want(); d.plan.State != Halted {
		t.Fatal("the one that hangs is forgotten")
	}
	d.report(d.of(hangs.ID), ReportDone)
	d.want("reverted")
}

func TestPartnerOfAnAgentThatHangsIsLeftToAnOperator(t *testing.T) {
	d, hangs := revertingDesk(t, Stage{PairBy: "pair", MaxUnavailable: Amount{Agents: 1}}, 11, ReportStarted)
	d.plan.PastSilent = true
	partner := ""
	for _, m := range d.members {
		if m.ID != hangs.ID && m.Labels["pair"] == hangs.Labels["pair"] {
			partner = m.ID
		}
	}
	for range 200 {
		d.pass(2 * time.Second)
		for _, m := range d.admitted() {
			if m.ID == partner && m.Version == "2.0.0" {
				t.Fatalf("both of pair %s are down", m.Labels["pair"])
			}
		}
		d.back(hangs.ID)
	}
	if d.plan.State != Halted || d.of(partner).Version != "2.0.0" || !strings.Contains(d.plan.Why, "of a pair") {
		t.Fatalf("%s: %s; %d on the bad release", d.plan.State, d.plan.Why, d.onBad())
	}
	d.report(d.of(hangs.ID), ReportDone)
	d.comesBack()
}

// Where nobody's partner is ready, as the release is bad, none would go back.
func TestPairsThatAreNotReadyGoBackOneByOne(t *testing.T) {
	d, _ := revertingDesk(t, Stage{PairBy: "pair", MaxSurge: Amount{Agents: 2}}, 8, "")
	for _, m := range slices.Clone(d.members) {
		c := *m
		c.Ready = false
		d.replace(&c)
	}
	d.step()
	d.pass(121 * time.Second) // one had been let in, and has not begun
	for range 12 {
		if n := d.back(""); n > 1 {
			t.Fatalf("%d go back at once", n)
		}
		d.pass(2 * time.Second)
	}
	if d.plan.State != Reverted || d.onBad() != 0 {
		t.Fatalf("%s, waits %q, %d on the bad release", d.plan.State, d.books.Waits, d.onBad())
	}
}

// It would end a deadline later.
func TestRevertEndsOnceThoseWhoHadNotBegunSaySo(t *testing.T) {
	for _, said := range []ReportState{ReportRefused, ""} {
		d, waits := revertingDesk(t, Stage{MaxUnavailable: Amount{Agents: 1}}, 1, ReportWaiting)
		d.want()
		if said != "" {
			c := *d.of(waits.ID)
			c.Report = &Report{Request: "r1.1", State: said, At: d.now}
			d.replace(&c)
		}
		d.want(map[ReportState][]string{ReportRefused: {"admitted"}}[said]...)
		if d.back(""); said == "" {
			if d.pass(119 * time.Second); d.plan.State != Reverting {
				t.Fatal("one that may have begun is not waited for")
			}
			d.pass(2 * time.Second)
			d.back("")
		}
		d.want("reverted")
	}
}

func TestReplacedRolloutsAgentThatHangsPausesWhatWouldNeverEnd(t *testing.T) {
	d, _ := revertingDesk(t, Stage{MaxUnavailable: Amount{Agents: 1}}, 1, ReportStarted)
	d.plan.ID, d.plan.State, d.plan.Instruction = "r2", Running, Instruction{Number: 1, Action: ActSwitch}
	d.want()
	if d.pass(99 * time.Second); d.plan.State != Running {
		t.Fatal("paused before the deadline")
	}
	if d.pass(2 * time.Second); d.plan.State != Paused || len(d.admitted()) > 0 {
		t.Fatalf("%s, waits %q", d.plan.State, d.books.Waits)
	}
}

// Whether an agent has a document shows in what it reports alone.
func TestDocumentThatWasNotTakenBackIsTakenBackByTheNextRevert(t *testing.T) {
	plan := Plan{Strategy: Rolling, OnFailure: Halt, Stages: []Stage{{}}}
	digest := badDigest
	plan.Target = Target{Config: &ConfigTarget{Scope: "global", Digest: digest}}
	d := newDesk(t, plan, 2)
	d.want("admitted")
	d.all(ReportDone)
	d.want("completed")
	revert := func() {
		d.plan.State = Reverting
		d.plan.Instruction, d.plan.Cursor = Instruction{Number: d.plan.Instruction.Number + 1, Action: ActRevert}, Cursor{}
	}
	revert()
	d.want("admitted")
	d.report(d.members[0], ReportFailed)
	d.report(d.members[1], ReportDone)
	d.want("halted")
	revert()
	d.want("admitted")
	if d.books.Figures.Admitted != 2 {
		t.Fatalf("%+v", d.books.Figures)
	}
	d.all(ReportDone)
	d.want("reverted")
	if d.books.Figures.Succeeded != 2 {
		t.Fatalf("%+v", d.books.Figures)
	}
}

// What an agent did in another rollout would take one back that never changed.
func TestReportOfAnotherRolloutIsNothingToGoBackFrom(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{}), 2)
	for i, request := range []string{"r0.1", "r1.1.1"} { // the latter of rollout r1.1
		c := *d.members[i]
		c.Report = &Report{Request: request, State: ReportDone, At: d.now}
		d.replace(&c)
	}
	d.plan.State, d.plan.Instruction = Reverting, Instruction{Number: 2, Action: ActRevert}
	d.want("reverted")
	if d.books.Figures.Admitted != 0 {
		t.Fatalf("%+v", d.books.Figures)
	}
}

// TestRevertCountsWhoIsBackAndStillAtItsUpgrade: it says that it waits for the revert,
// and its host is at what was asked for before.
func TestRevertCountsWhoIsBackAndStillAtItsUpgrade(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{MaxUnavailable: Amount{Agents: 1}}), 4)
	d.want("admitted")
	m := d.admitted()[0]
	d.report(m, ReportStarted)
	d.want()
	d.plan.Instruction = Instruction{Number: 2, Action: ActRevert}
	d.plan.Cursor, d.plan.State = Cursor{}, Reverting
	d.want("admitted")
	waits := *d.of(m.ID)
	waits.Report = &Report{Request: d.plan.Request(), State: ReportWaiting, Reason: "its registration may have ended", At: d.now}
	d.replace(&waits)
	d.want()
	back := waits
	d.rev++
	back.Joined = d.rev
	d.replace(&back)
	if told := d.pass(2 * time.Second); len(told) != 1 || d.books.Figures.Unavailable != 1 {
		t.Errorf("%s: %s, %+v", d.plan.State, d.plan.Why, d.books.Figures)
	}
	d.report(d.of(m.ID), ReportDone)
	d.want("reverted")
}
