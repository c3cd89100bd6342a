package rollout_test

import (
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
