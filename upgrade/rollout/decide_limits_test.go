package rollout_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

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

// TestLongSoakOfABlueGreenSwitchIsFollowed: a probation longer than any plan may have
// would leave the fleet with a plan that nobody can read.
func TestLongSoakOfABlueGreenSwitchIsFollowed(t *testing.T) {
	plan := releasePlan(DefaultBlueGreen(300*24*3600, false)...)
	plan.Strategy = BlueGreen
	d := newDesk(t, plan, 2)
	d.want("admitted")
	d.all(ReportStaged)
	d.want("stage", "switched")
	if err := d.plan.Validate(); err != nil || d.plan.Instruction.Probation.Duration() < 300*24*time.Hour {
		t.Errorf("probation of %v s: %v", d.plan.Instruction.Probation, err)
	}
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

// TestWhoIsAtAnotherInstructionIsCountedForAsLongAsThatMayTake: the next one gives its
// agents less time, and another would go down beside the one that nobody sees.
func TestWhoIsAtAnotherInstructionIsCountedForAsLongAsThatMayTake(t *testing.T) {
	for what, next := range map[string]func(*Plan){
		"a rollout with a short deadline": func(p *Plan) {
			p.ID, p.Deadline, p.Cursor = "r2", 60, Cursor{}
		},
		"a revert without a probation": func(p *Plan) {
			p.Instruction, p.Cursor, p.State = Instruction{Number: 2, Action: ActRevert}, Cursor{}, Reverting
		},
	} {
		d := newDesk(t, releasePlan(Stage{MaxUnavailable: Amount{Agents: 1}}), 4)
		d.plan.Instruction.Probation = 3600
		d.want("admitted")
		m := d.admitted()[0]
		d.report(m, ReportStarted)
		d.want()
		d.remove(m.ID)
		d.want()
		next(&d.plan)
		d.want()
		if d.pass(3600 * time.Second); d.books.Figures.Unavailable != 1 || len(d.admitted()) > 0 {
			t.Errorf("%s: an hour later %+v", what, d.books.Figures)
		}
		if d.pass(101 * time.Second); len(d.books.Former)+len(d.books.Attempts) > 0 {
			t.Errorf("%s: it is never given up: %v, %v", what, d.books.Former, d.books.Attempts)
		}
	}
}
