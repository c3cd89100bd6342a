package rollout_test

import (
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
