package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// pauses is a member whose first process comes to a halt at a step of an
// upgrade.
type pauses struct {
	*crash
	reached string
}

// pauseAt starts m and orders b, and returns when its first process pauses at
// step.
func pauseAt(m *member, b build, step string) *pauses {
	m.Helper()
	dir := m.TempDir()
	p := &pauses{&crash{member: m, pins: map[string]release.Pin{b.Version: m.publish(b)}}, filepath.Join(dir, step)}
	m.start()
	m.registered()
	p.arm(step + "=pause:" + dir)
	p.order(b.Version)
	waittest.Nil(m, "the step "+step+" is reached", func() error { _, err := os.Stat(p.reached); return err })
	return p
}

// stopped tells the process that was started to stop, and lets the step go on
// only when the agent has begun to.
func (p *pauses) stopped() {
	p.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.Fatal(err)
	}
	waittest.Until(p, "the agent stops", func() bool { return strings.Contains(p.said(), "msg=draining") })
	p.goOn()
}

func (p *pauses) goOn() {
	p.Helper()
	if err := os.Remove(p.reached); err != nil {
		p.Fatal(err)
	}
}

// endsWell expects that the process that was started ends with 0, every other
// as well, and that nothing is left in the registry.
func (p *pauses) endsWell() upgrade.Report {
	p.Helper()
	waittest.Next(p, "the agent ends", p.done)
	if p.err != nil {
		p.Errorf("the agent was told to stop and ended with %v, want 0", p.err)
	}
	waittest.Nil(p, "all processes end", func() error {
		if pids := p.pids(); len(pids) > 0 {
			return fmt.Errorf("%v live", pids)
		}
		return nil
	})
	// The successor's code goes to nobody who could be asked; an error is said.
	if strings.Contains(p.said(), "test agent: ") {
		p.Error("a process ended with an error")
	}
	entries, err := listed(p.ctx(), p.dir)
	if err != nil || slices.ContainsFunc(entries, func(e Entry) bool { return e.ID == p.id }) {
		p.Errorf("after a clean stop the registry holds %+v, %v", entries, err)
	}
	report, err := upgrade.Inspect(p.state)
	if err != nil {
		p.Fatal(err)
	}
	i := slices.IndexFunc(report.Slots, func(s upgrade.Slot) bool { return s.Name() == report.Current })
	if i < 0 || report.Slots[i].Proven.IsZero() {
		p.Errorf("current names %s, which is not proven: %+v", report.Current, report.Slots)
	}
	if report.Running || len(report.Quarantine) > 0 {
		p.Errorf("running %v, quarantined for a stop: %+v", report.Running, report.Quarantine)
	}
	return report
}

func TestStopOfAnIncumbentThatCommitsReachesItsSuccessor(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i, step := range []string{"committing", "commit-before-current", "commit-sent", "superseded"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			m := f.with(t).member(fmt.Sprint("c", i))
			m.env.Connect = waittest.Patience
			p := pauseAt(m, build{Version: "1.1.0"}, step)
			p.stopped()
			p.committed(p.endsWell())
			p.launch(filepath.Join(p.state, "current", "agent"))
			p.takesOver()
			if e := p.registered(); e.Version != "1.1.0" {
				t.Errorf("the next start runs %s", e.Version)
			}
		})
	}
}

func TestStopOfASupervisedAgentThatCommitsReachesTheSuccessor(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i, step := range []string{"committing", "commit-before-current", "commit-sent", "superseded"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			m := f.with(t).member(fmt.Sprint("s", i))
			m.env.Supervise, m.env.Connect = upgrade.SuperviseAlways, waittest.Patience
			p := pauseAt(m, build{Version: "1.1.0"}, step)
			p.stopped()
			p.committed(p.endsWell())
		})
	}
}

// committed expects that the stop did not take the commit back.
func (p *pauses) committed(report upgrade.Report) {
	p.Helper()
	if report.Journal.State != upgrade.Committed || !strings.HasPrefix(report.Current, "1.1.0-") {
		p.Errorf("%s (%s), current %s; want 1.1.0 committed", report.Journal.State, report.Journal.Reason, report.Current)
	}
}

// noted is what the agent called in the processes of version.
func (m *member) noted(version string) []string {
	m.Helper()
	data, err := os.ReadFile(m.env.Notes)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.Fatal(err)
	}
	var calls []string
	for line := range strings.Lines(string(data)) {
		if what, in, _ := strings.Cut(strings.TrimSpace(line), " in "); in == version {
			calls = append(calls, what)
		}
	}
	return calls
}

// The hook needs what Stop closes.
func TestStopOfTheProgramComesAfterTheRollbackThatIsInProgress(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i, step := range []string{"launched", "probation", "rolling-back", "quarantined"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			m := f.with(t).member(fmt.Sprint("r", i))
			m.env.Notes, m.env.Connect = filepath.Join(t.TempDir(), "notes"), waittest.Patience
			b := build{Version: "1.1.0"}
			if step == "rolling-back" || step == "quarantined" {
				b = build{Version: "1.1.1", Sick: true}
			}
			p := pauseAt(m, b, step)
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			waittest.Until(t, "the agent drains", func() bool { return slices.Contains(p.noted("1.0.0"), "draining") })
			p.goOn()
			waittest.Next(t, "the agent ends", p.done)
			if p.err != nil {
				t.Errorf("the agent was told to stop and ended with %v, want 0", p.err)
			}
			want := []string{"start", "before-start", "draining", "after-rollback", "stop"}
			if got := p.noted("1.0.0"); !slices.Equal(got, want) {
				t.Errorf("called in 1.0.0: %q, want %q", got, want)
			}
		})
	}
}

func TestRollbackThatWasKilledIsUndoneOnceBeforeTheProgramStarts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Notes = filepath.Join(t.TempDir(), "notes")
	p := pauseAt(m, build{Version: "1.1.0", Sick: true}, "rolling-back")
	p.endAll()
	for range 2 {
		p.launch(filepath.Join(p.state, "current", "agent"))
		p.takesOver()
		p.endAll()
	}
	want := []string{"start", "before-start", "after-rollback", "start", "start"}
	if got := p.noted("1.0.0"); !slices.Equal(got, want) {
		t.Errorf("called in 1.0.0: %q, want %q", got, want)
	}
}

// Any release would be refused where another agent has the id.
func TestStartThatIsRefusedForATakenIDIsNoFailedStart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Probation = 100 * time.Millisecond
	m.start()
	m.registered()
	installed := m.cmd.Path
	m.upgrades(build{Version: "1.1.0"})
	m.stops(m.runs("1.1.0"))
	other := f.member("a1").start()
	other.takesOver()
	for i := range 5 { // the guard gives a release up after 3
		const refused = "test agent: registration: agent id is taken"
		m.launch(installed)
		m.fails(refused)
		if got := strings.Count(m.said(), refused); got != i+1 {
			t.Fatalf("%d of %d starts were refused for the id", got, i+1)
		}
		report, err := upgrade.Inspect(m.state)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(report.Current, "1.1.0-") || len(report.Quarantine) > 0 || report.ColdStarts != nil {
			t.Errorf("after %d refused starts: current %s, quarantine %+v, counted %+v", i+1, report.Current, report.Quarantine, report.ColdStarts)
		}
	}
	other.stops(other.cmd.Process.Pid)
	m.launch(installed)
	m.takesOver()
	if e := m.registered(); e.Version != "1.1.0" {
		t.Errorf("%s runs", e.Version)
	}
}
