package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

// TestOnlyAStepThatMayLetInWhoHasLeftIsUnsure: ten thousand agents would read their
// registrations at each step, or one that is counted by nobody would start.
func TestOnlyAStepThatMayLetInWhoHasLeftIsUnsure(t *testing.T) {
	left := func(d *desk) *Member {
		m := d.join()
		d.members = d.members[:len(d.members)-1]
		return m
	}
	for name, c := range map[string]struct {
		edit func(d *desk, in *Input)
		want bool
	}{
		"nobody has":     {func(*desk, *Input) {}, false},
		"who is let in":  {func(d *desk, in *Input) { in.Left = []*Member{left(d)} }, true},
		"nobody watched": {func(_ *desk, in *Input) { in.Unwatched = true }, true},
		"who ranks behind": {func(d *desk, in *Input) {
			in.Plan.Stages[0].Batch = Amount{Agents: 1}
			m := left(d)
			ahead := func(o *Member) bool { return RankOf("r1", o.ID) > RankOf("r1", m.ID) }
			for i := 0; slices.ContainsFunc(d.members, ahead); i++ {
				m.ID = fmt.Sprint("b", i)
			}
			in.Left = []*Member{m}
		}, false},
		"whom no plan is about": {func(d *desk, in *Input) {
			m := left(d)
			m.Labels = nil
			in.Left = []*Member{m}
		}, false},
		"who has ended": {func(d *desk, in *Input) {
			m := left(d)
			m.Report = &Report{Request: d.plan.Request(), State: ReportDone}
			in.Left = []*Member{m}
		}, false},
		"who joined after": {func(d *desk, in *Input) {
			m := left(d)
			m.Joined = d.rev + 10
			in.Left = []*Member{m}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, releasePlan(Stage{Name: "all", Selector: "env"}), 4)
			in := d.input()
			c.edit(d, &in)
			in.Snapshot.Revision = d.rev
			in.Plan.Cursor.Unsure = !c.want
			out, err := Decide(in)
			if err != nil || !out.Changed || out.Plan.Cursor.Unsure != c.want {
				t.Errorf("changed %t, unsure %t, want %t: %v", out.Changed, out.Plan.Cursor.Unsure, c.want, err)
			}
		})
	}
}

// TestWhoHasLeftIsRememberedForAWhile: whoever leaves, comes back, or leaves for good
// must be named as long as it may still think that it is there.
func TestWhoHasLeftIsRememberedForAWhile(t *testing.T) {
	var d Departures
	now := time.Now()
	member := func(id string, joined int64) *Member { return &Member{ID: id, Joined: joined} }
	a, b, c := member("a", 1), member("b", 2), member("c", 3)
	check := func(what string, unwatched bool, want ...*Member) {
		t.Helper()
		var in Input
		d.Tell(&in, now)
		if in.Unwatched != unwatched || encoded(t, in.Left) != encoded(t, want) {
			t.Errorf("%s: unwatched %t, left %s, want %t, %s", what, in.Unwatched, encoded(t, in.Left), unwatched, encoded(t, want))
		}
	}
	check("before it has seen any", true)
	d.See([]*Member{a, b, c}, now)
	check("the first", true)
	now = now.Add(Remembered)
	d.See([]*Member{a, member("b", 2), c}, now)
	check("nobody has left", false)
	d.See([]*Member{member("b", 2), member("bb", 4)}, now)
	check("the first and the last have", false, a, c)
	now = now.Add(Remembered / 2)
	d.See([]*Member{member("a", 5), member("b", 6)}, now)
	check("one is back, another was gone between", false, a, c, member("b", 2), member("bb", 4))
	now = now.Add(Remembered / 2)
	check("the first are forgotten", false, member("b", 2), member("bb", 4))
	d.See(nil, now)
	check("all", false, member("b", 2), member("bb", 4), member("a", 5), member("b", 6))
}
