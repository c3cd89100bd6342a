package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

// TestAgentWhoseChecksFailAfterItsChangeHasFailed: a release that turns unhealthy after
// its probation would pass every soak, since no alert is about it.
func TestAgentWhoseChecksFailAfterItsChangeHasFailed(t *testing.T) {
	d := newDesk(t, releasePlan(Stage{Name: "one", Soak: 20}), 4)
	d.want("admitted")
	d.now = d.now.Add(time.Second)
	d.all(ReportDone)
	d.want("soaking")
	d.now = d.now.Add(18 * time.Second)
	sick := *d.members[1]
	sick.Alerts = []Alert{{Check: true, Name: "spool", Severity: "critical", Since: d.now}}
	well := *d.members[1]
	d.replace(&sick)
	d.want() // it may be no more than a moment
	if told := d.pass(3 * time.Second); len(told) > 0 {
		t.Fatalf("judged while a check fails: %v", told)
	}
	d.replace(&well)
	before := *d
	if told := d.step(); len(told) != 1 || told[0] != "completed" {
		t.Fatalf("it gets well again: %v, %q", told, d.books.Waits)
	}
	*d = before
	d.replace(&sick)
	d.want()
	if wake := d.out.Wake; !wake.Equal(sick.Alerts[0].Since.Add(5 * time.Second)) {
		t.Errorf("decides again at %v", wake)
	}
	if told := d.pass(2 * time.Second); len(told) == 0 || told[0] != "reverting" {
		t.Fatalf("%v", told)
	}
	if !strings.Contains(d.plan.Why, "check spool fails since its change") {
		t.Error(d.plan.Why)
	}
}

// TestWhatWasWrongBeforeTheChangeIsNotTheReleases: alerts begin anew in the process that
// the change starts, so that a host with a full disk could soak no release, and would
// have the fleet reverted.
func TestWhatWasWrongBeforeTheChangeIsNotTheReleases(t *testing.T) {
	for name, c := range map[string]struct {
		before []string
		fires  Alert
		want   string
	}{
		"alert from before": {[]string{"cpu", "disk"}, Alert{Name: "disk", Severity: "critical"}, "completed"},
		"check from before": {[]string{"spool"}, Alert{Check: true, Name: "spool", Severity: "critical"}, "completed"},
		"another alert":     {[]string{"disk"}, Alert{Name: "memory", Severity: "critical"}, "reverting"},
	} {
		for _, soaks := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, soaks %v", name, soaks), func(t *testing.T) {
				stage := Stage{Name: "one", Soak: 20}
				if !soaks {
					stage.Soak = 0
				}
				d := newDesk(t, releasePlan(stage), 1)
				d.want("admitted")
				d.now = d.now.Add(time.Second)
				d.report(d.members[0], ReportDone)
				sick := *d.members[0]
				report := *sick.Report
				report.Before = c.before
				sick.Report = &report
				c.fires.Since = d.now.Add(time.Millisecond)
				sick.Alerts = []Alert{c.fires}
				d.replace(&sick)
				d.step()
				d.pass(10 * time.Second)
				d.pass(20 * time.Second)
				if got := d.told[1:]; !slices.Contains(got, c.want) {
					t.Errorf("%q, want %s; %s", got, c.want, d.plan.Why)
				}
			})
		}
	}
}

// TestReasonOfAnAgentIsToldWhole: whoever looks at why a rollout failed would have to
// log in to its agents.
func TestReasonOfAnAgentIsToldWhole(t *testing.T) {
	plan := releasePlan(Stage{Name: "one"})
	plan.OnFailure = Halt
	d := newDesk(t, plan, 1)
	d.want("admitted")
	d.report(d.members[0], ReportFailed)
	why := strings.Repeat("why ", 75)
	d.members[0].Report.Reason = why
	d.want("halted")
	if !strings.Contains(d.plan.Why, why) || d.books.Lost[d.members[0].ID].Reason != why {
		t.Errorf("%s; %+v", d.plan.Why, d.books.Lost)
	}
}
