package rollout_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

// A desk decides about members that the test sets.
type desk struct {
	t       *testing.T
	plan    Plan
	books   Books
	members []*Member
	rev     int64
	now     time.Time
	freeze  *Freeze
	checks  map[string]CheckResult
	out     Output
	told    []string // events
}

func newDesk(t *testing.T, plan Plan, members int) *desk {
	t.Helper()
	d := &desk{t: t, now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC), rev: 10, checks: map[string]CheckResult{}}
	for range members {
		d.join()
	}
	plan.ID, plan.Deadline, plan.Since = "r1", 100, d.now
	d.plan = plan.WithDefaults()
	if err := d.plan.Validate(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) join() *Member {
	d.rev++
	m := &Member{
		ID: fmt.Sprintf("a%04d", len(d.members)), Joined: d.rev, Version: "1.0.0", Manifest: goodDigest, Ready: true,
		Labels: map[string]string{"env": []string{"test", "production"}[len(d.members)%2], "pair": fmt.Sprint(len(d.members) / 2)},
	}
	d.members = append(d.members, m)
	return m
}

func (d *desk) input() Input {
	return Input{Plan: d.plan, Books: d.books, Snapshot: Snapshot{Revision: d.rev, Members: d.members}, Freeze: d.freeze, CheckResults: d.checks, Now: d.now}
}

// step decides until nothing more is written, and returns what was.
func (d *desk) step() []string {
	d.t.Helper()
	var told []string
	for range 100 {
		in := d.input()
		before := ""
		if len(d.members) <= 100 {
			before = encoded(d.t, in)
		}
		out, err := Decide(in)
		if err != nil {
			d.t.Fatal(err)
		}
		if len(d.members) <= 100 {
			if encoded(d.t, in) != before {
				d.t.Fatal("Decide changed its input")
			}
		}
		d.out, d.books = out, out.Books
		if !out.Changed {
			d.told = append(d.told, told...)
			return told
		}
		d.plan = out.Plan
		d.plan.Seq++
		d.rev++
		told = append(told, string(out.Draft.Event))
	}
	d.t.Fatalf("no end of %v", told)
	return nil
}

func (d *desk) pass(by time.Duration) []string {
	d.t.Helper()
	d.now = d.now.Add(by)
	return d.step()
}

func (d *desk) want(events ...string) {
	d.t.Helper()
	if got := d.step(); !slices.Equal(got, events) {
		d.t.Fatalf("events %v, want %v; %s, waits %q, %+v", got, events, d.plan.State, d.books.Waits, d.books.Figures)
	}
}

// admitted are those who may start and have reported no end.
func (d *desk) admitted() (all []*Member) {
	d.t.Helper()
	adm, err := NewAdmission(d.plan)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, m := range d.members {
		ended := m.Report != nil && m.Report.Request == d.plan.Request() && m.Report.State.Ended()
		if !ended && adm.Admits(m) {
			all = append(all, m)
		}
	}
	return all
}

func (d *desk) report(m *Member, s ReportState) {
	c := *m
	c.Report = &Report{Request: d.plan.Request(), State: s, Reason: "because", At: d.now}
	if s == ReportDone {
		c.Version, c.Manifest = "2.0.0", badDigest
		if d.plan.Instruction.Action == ActRevert {
			c.Version, c.Manifest = "1.0.0", goodDigest
		}
	}
	d.replace(&c)
}

func (d *desk) replace(c *Member) {
	i, ok := slices.BinarySearchFunc(d.members, c.ID, func(m *Member, id string) int { return strings.Compare(m.ID, id) })
	if !ok {
		d.t.Fatalf("no %s", c.ID)
	}
	d.members[i] = c
}

// all that are admitted report s.
func (d *desk) all(s ReportState) {
	for _, m := range d.admitted() {
		d.report(m, s)
	}
}

func (d *desk) remove(id string) {
	d.rev++
	d.members = slices.DeleteFunc(slices.Clone(d.members), func(m *Member) bool { return m.ID == id })
}

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

func TestChecksAreAskedAfterTheSoakAndAgainWhenResumed(t *testing.T) {
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
	d.plan.State, d.plan.Since = Running, d.now
	if d.want(); len(d.out.Ask) != 1 {
		t.Fatal("not asked again")
	}
	d.checks["errors"] = CheckResult{Verdict: Fail, Detail: "7 %", At: d.now}
	d.want("reverting")
	if !strings.Contains(d.plan.Why, "7 %") {
		t.Fatal(d.plan.Why)
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

func TestAgentOutsideItsWindowIsNotAdmitted(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{Windows: []Window{{From: "22:00", To: "04:00", Zone: "Europe/Berlin"}}}), 2)
	d.want()
	opens := time.Date(2026, 1, 5, 21, 0, 0, 0, time.UTC)
	if !d.out.Wake.Equal(opens) || !strings.Contains(d.books.Waits, "2026-01-05T21:00:00Z") {
		t.Fatalf("wakes %v, waits %q", d.out.Wake, d.books.Waits)
	}
	d.now = opens
	d.want("admitted")
}

// The way back of a plan that has been replaced: whoever it let start is down
// still, whatever the new one says.
func TestReplacedPlansAgentsAreCountedUntilTheyEnd(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{MaxUnavailable: Amount{Agents: 3}}), 10)
	d.want("admitted")
	d.all(ReportStarted)
	d.want()
	next := d.plan
	next.ID, next.Cursor, next.Stage, next.StageSince, next.Seq = "r2", Cursor{}, 0, time.Time{}, 0
	d.plan = next
	d.want()
	if d.books.Figures.Unavailable != 3 || len(d.books.Former) != 3 {
		t.Fatalf("%+v, former %v", d.books.Figures, d.books.Former)
	}
	for _, m := range d.members {
		if m.Report != nil {
			c := *m
			r := *m.Report
			r.State = ReportFailed
			c.Report = &r
			d.replace(&c)
		}
	}
	d.want("admitted")
	if d.books.Figures.Unavailable != 3 || len(d.books.Former) != 0 {
		t.Fatalf("%+v", d.books.Figures)
	}
}

func TestBlueGreenSwitchesAndComesBackWithOneWriteEach(t *testing.T) {
	plan := releasePlan(DefaultBlueGreen(100, true)...)
	plan.Strategy = BlueGreen
	plan.Stages[0].MaxUnavailable = Amount{Agents: 30}
	d := newDesk(t, plan, 100)
	for d.plan.Stage == 0 {
		d.pass(time.Second)
		if n := len(d.admitted()); n > 30 {
			t.Fatalf("%d stage at once", n)
		}
		d.all(ReportStaged)
	}
	if d.want(); d.plan.Instruction.Action != ActStage {
		t.Fatal("the gate does not hold")
	}
	d.plan.Promoted = 2
	d.want("switched")
	if n := len(d.admitted()); n != 100 || d.plan.Instruction.Probation != 125 {
		t.Fatalf("%d switch, probation %v", n, d.plan.Instruction.Probation)
	}
	d.all(ReportStarted)
	d.want("soaking")
	c := *d.members[7]
	c.Alerts = []Alert{{Name: "new", Severity: "critical", Since: d.now.Add(time.Second)}}
	d.replace(&c)
	d.now = d.now.Add(2 * time.Second)
	d.want("reverting") // while all are on probation
	if n := len(d.admitted()); n != 100 {
		t.Fatalf("%d may go back at once", n)
	}
	d.all(ReportDone)
	d.want("reverted")
}

func TestBlueGreenCompletesWhenProbationHasEnded(t *testing.T) {
	plan := releasePlan(DefaultBlueGreen(100, false)...)
	plan.Strategy = BlueGreen
	d := newDesk(t, plan, 10)
	d.want("admitted")
	d.all(ReportStaged)
	d.want("stage", "switched")
	d.all(ReportStarted)
	d.want("soaking")
	d.now = d.now.Add(101 * time.Second)
	d.want()
	if !strings.Contains(d.books.Waits, "10 agents on probation still") {
		t.Fatalf("%q", d.books.Waits)
	}
	d.all(ReportDone)
	d.want("completed")
}

func TestTwoOfAPairAreNeverUnderWayTogether(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{PairBy: "pair", MaxUnavailable: Amount{Agents: 8}}), 40)
	for d.plan.State == Running {
		d.pass(2 * time.Second)
		pairs := map[string]bool{}
		for _, m := range d.admitted() {
			if pairs[m.Labels["pair"]] {
				t.Fatalf("pair %s is down", m.Labels["pair"])
			}
			pairs[m.Labels["pair"]] = true
		}
		if adm := d.admitted(); len(adm) > 0 {
			d.report(adm[0], ReportDone)
		}
	}
	if d.plan.State != Completed {
		t.Fatal(d.plan.Why)
	}
}

func TestSurgeIsOnlyForThoseWhosePartnerIsReady(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{PairBy: "pair", MaxSurge: Amount{Agents: 3}}), 20)
	for i := 0; i < 20; i += 2 { // the partner of each odd one is not ready
		d.members[i].Ready = false
	}
	for range 200 {
		d.pass(2 * time.Second)
		adm := d.admitted()
		if len(adm) > 3 {
			t.Fatalf("%d at once", len(adm))
		}
		for _, m := range adm {
			if m.ID[4]%2 == 1 {
				t.Fatalf("%s may start, and its partner is not ready", m.ID)
			}
			d.report(m, ReportDone)
		}
	}
	if d.plan.State != Running || d.books.Figures.Failed != 0 {
		t.Fatalf("%s %+v", d.plan.State, d.books.Figures)
	}
}

func TestAllWhoComeBackAfterAnOutageDoNotStartAtOnce(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{MaxUnavailable: Amount{Agents: 5}}), 50)
	for d.plan.State == Running {
		d.pass(2 * time.Second)
		d.all(ReportDone)
	}
	for range 50 {
		d.join()
	}
	for range 60 {
		d.pass(2 * time.Second)
		if n := len(d.admitted()); n > 5 {
			t.Fatalf("%d at once", n)
		}
		d.all(ReportDone)
	}
	if f := d.books.Figures; f.Succeeded != 100 || f.Late != 0 || d.plan.State != Completed {
		t.Fatalf("%s, %+v, %+v", d.plan.State, f, d.plan.Cursor)
	}
}

func TestBooksOfAHugeFleetFitIntoEtcd(t *testing.T) {
	plan := releasePlan(DefaultBlueGreen(100, false)...)
	plan.Strategy = BlueGreen
	d := newDesk(t, plan, 0)
	long := strings.Repeat("x", 120)
	for i := range 5000 {
		d.rev++
		d.members = append(d.members, &Member{ID: fmt.Sprintf("%s%05d", long, i), Joined: d.rev, Version: "1.0.0", Labels: map[string]string{}})
	}
	for d.plan.Stage == 0 {
		if d.pass(time.Second); len(d.told) > 40 {
			t.Fatal("it does not get on")
		}
		for _, m := range d.admitted() {
			if _, ok := d.books.UnderWay[m.ID]; d.plan.Stage == 0 && !ok {
				t.Fatalf("%s may start and is not counted", m.ID)
			}
		}
		d.all(ReportStaged)
		data, err := json.Marshal(d.books)
		if err != nil || len(data) > 1300<<10 {
			t.Fatalf("books of %d bytes, %v", len(data), err)
		}
	}
	if d.told[len(d.told)-1] != "switched" && d.step() == nil {
		t.Fatal(d.told)
	}
	d.all(ReportFailed)
	d.step()
	if data, err := json.Marshal(d.books); err != nil || len(data) > 1300<<10 {
		t.Fatalf("books of %d bytes, %v", len(data), err)
	}
}

func BenchmarkDecideAboutTenThousand(b *testing.B) {
	d := newDesk(&testing.T{}, releasePlan(), 0)
	for range 10000 {
		d.join()
	}
	d.step()
	in := Input{Plan: d.plan, Books: d.books, Snapshot: Snapshot{Revision: d.rev, Members: d.members}, Now: d.now}
	for b.Loop() {
		if _, err := Decide(in); err != nil {
			b.Fatal(err)
		}
	}
}
