package rollout

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWhatWasWrongBeforeTheChangeIsToldInAllReportsOfIt: its alerts fire anew in the
// successor, and a host with a full disk could take no release.
func TestWhatWasWrongBeforeTheChangeIsToldInAllReportsOfIt(t *testing.T) {
	r := newFollowRig(t)
	tells := func(what, request string, want ...string) {
		t.Helper()
		if got := r.Report(); got == nil || got.Request != request || !slices.Equal(got.Before, want) {
			t.Errorf("%s: reports %+v, want %q of %s", what, got, want, request)
		}
	}
	r.alarms = []string{"cpu"}
	r.fresh = false // it waits
	r.admits()
	r.hears()
	tells("it waits", "r1.1", "cpu")
	r.fresh, r.alarms = true, []string{"disk"}
	r.hears()
	tells("it begins", "r1.1", "cpu", "disk")
	r.restart(r.cfg.State)
	r.alarms = nil // nothing fires yet in the process after
	tells("the process after it", "r1.1", "cpu", "disk")
	r.hears()
	r.reports("the host had not heard of it", ReportStarted, "r1.1", "r1.1")
	tells("it begins again", "r1.1", "cpu", "disk")
	r.restart(r.cfg.State)
	r.stands["r1.1"], r.runs, r.alarms = Standing{State: ReportDone}, "1.1.0", []string{"spool"}
	r.hears()
	r.reports("it has ended", ReportDone, "r1.1", "r1.1")
	tells("what is new is the change's", "r1.1", "cpu", "disk")
	r.restart(r.cfg.State)
	tells("once more", "r1.1", "cpu", "disk")
	r.plan.Instruction = Instruction{Number: 2, Action: ActRevert}
	r.hears()
	tells("the next instruction", "r1.2", "spool")
}

// TestWhatIsToldOfBeforeIsBounded: a host on which all is wrong would lose the rest of
// its status, or the report itself.
func TestWhatIsToldOfBeforeIsBounded(t *testing.T) {
	r := newFollowRig(t)
	r.alarms = []string{"worst", "worst", "", strings.Repeat("x", maxBeforeName+1)}
	for i := range 100 {
		r.alarms = append(r.alarms, fmt.Sprintf("%0*d", maxBeforeName, i))
	}
	r.admits()
	r.hears()
	if got := r.Report().Before; len(got) != maxBefore || got[0] != "worst" || got[1] != r.alarms[4] {
		t.Errorf("%d names: %q", len(got), got)
	}
}

// TestStepOfWhateverSizeHasItsTurn: a number in a plan that nobody has would have agents
// ask the repository all at once, and report at once, or never.
func TestStepOfWhateverSizeHasItsTurn(t *testing.T) {
	for agents, want := range map[int]time.Duration{math.MinInt: 0, 0: 0, 1: 0, 101: 100 * time.Millisecond, math.MaxInt>>1 + 1: tellMost, math.MaxInt: tellMost} {
		p := Plan{Deadline: 3600, Cursor: Cursor{Steps: []Step{{Agents: agents}}}}
		if got := p.toldWithin(); got != want {
			t.Errorf("of %d agents each reports within %v, want %v", agents, got, want)
		}
		var f Follower
		if left := f.turn(time.Now(), &p, Standing{}); left < 0 || left > 6*time.Minute || agents > 1e6 && left == 0 {
			t.Errorf("of %d agents one waits for %v", agents, left)
		}
	}
}
