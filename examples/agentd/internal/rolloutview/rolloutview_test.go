package rolloutview_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/examples/agentd/internal/rolloutview"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// plan is one that has got to its second stage.
func plan() *rollout.Plan {
	return &rollout.Plan{
		Fleet: "default", ID: "r1", By: "ops@desk", Reason: "ticket 4711", Created: now.Add(-time.Hour),
		Strategy: rollout.Canary, Target: rollout.Target{Release: release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}},
		Selector: "tier=web",
		Stages: []rollout.Stage{
			{Name: "test", Selector: "env=test", BasisPoints: 5000},
			{Name: "production", Selector: "env=production", BasisPoints: 3000, Soak: 600},
			{Name: "all", BasisPoints: 10_000, Manual: true},
		},
		State: rollout.Running, Since: now.Add(-time.Hour), Why: "agents are under way",
		Instruction: rollout.Instruction{Number: 1, Action: rollout.ActSwitch}, Stage: 1,
	}
}

// fleet has 4 test agents, 10 in production and 2 of neither; one more does not
// take part.
func fleet() (all []*rollout.Member) {
	for i := range 17 {
		m := &rollout.Member{ID: fmt.Sprintf("a%02d", i), Labels: map[string]string{"tier": "web"}, Joined: 1}
		switch {
		case i < 4:
			m.Labels["env"] = "test"
		case i < 14:
			m.Labels["env"] = "production"
		case i == 16:
			m.Labels["tier"] = "db"
		}
		all = append(all, m)
	}
	return all
}

func report(m *rollout.Member, s rollout.ReportState) {
	m.Report = &rollout.Report{Request: "r1.1", State: s}
}

// TestEachAgentIsShownInTheStageThatAdmitsItFirst: a preview that showed another
// one would have the wrong hosts watched.
func TestEachAgentIsShownInTheStageThatAdmitsItFirst(t *testing.T) {
	p, members := plan(), fleet()
	stages, rest, err := rolloutview.Stages(p, members)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) != 0 {
		t.Errorf("%d agents take part and are in no stage", len(rest))
	}
	seen := map[string]bool{}
	for i, want := range []struct{ agents, selected, target int }{{2, 4, 2}, {3, 10, 3}, {11, 16, 16}} {
		s := stages[i]
		if len(s.Members) != want.agents || s.Selected != want.selected || s.Target != want.target {
			t.Errorf("stage %s has %d agents, %d of %d, want %+v", s.Name, len(s.Members), s.Target, s.Selected, want)
		}
		for _, m := range s.Members {
			if seen[m.ID] {
				t.Errorf("%s is in two stages", m.ID)
			}
			seen[m.ID] = true
		}
	}
	if seen["a16"] {
		t.Error("an agent that the plan does not select is in a stage")
	}
	// The rule itself agrees: with the mark at the last agent of the first stage
	// exactly its agents are admitted.
	last := stages[0].Members[len(stages[0].Members)-1]
	p.Cursor = rollout.Cursor{AsOf: 1, Marks: []rollout.Mark{{Open: true, Rank: rollout.RankOf(p.ID, last.ID)}}}
	a, err := rollout.NewAdmission(*p)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if got, want := a.Admits(m), slices.Contains(stages[0].Members, m); got != want {
			t.Errorf("%s is admitted: %v, and shown so: %v", m.ID, got, want)
		}
	}
	p.Stages = p.Stages[:2]
	if _, rest, err = rolloutview.Stages(p, members); err != nil || len(rest) != 11 {
		t.Errorf("%d agents are left over (%v), want 11", len(rest), err)
	}
	p.Stages[0].Selector = "env in ("
	if _, _, err := rolloutview.Stages(p, members); err == nil {
		t.Error("a selector that cannot be read is no error")
	}
}

// TestStagesCountWhatHasBecomeOfTheirAgents: of a blue-green rollout all are in the last
// stage once more, and have staged when the switch has begun.
func TestStagesCountWhatHasBecomeOfTheirAgents(t *testing.T) {
	p, members := plan(), fleet()
	for i, s := range []rollout.ReportState{rollout.ReportDone, rollout.ReportFailed, rollout.ReportRefused, rollout.ReportStarted, rollout.ReportWaiting, rollout.ReportHeld} {
		report(members[i], s)
	}
	members[6].Held = "ops: a disk is changed"
	p.Stages = []rollout.Stage{{Name: "ready", BasisPoints: 10_000}, {Name: "switch", BasisPoints: 10_000}}
	counts := func(what string, want ...rolloutview.Stage) {
		t.Helper()
		stages, _, err := rolloutview.Stages(p, members)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range stages {
			w := want[i]
			if len(s.Members) != w.Target || s.Succeeded != w.Succeeded || s.Failed != w.Failed || s.UnderWay != w.UnderWay || s.Waiting != w.Waiting || s.Held != w.Held {
				t.Errorf("%s, stage %d: %d agents, %+v", what, i, len(s.Members), s)
			}
		}
	}
	now := rolloutview.Stage{Target: 16, Succeeded: 1, Failed: 2, UnderWay: 1, Waiting: 1, Held: 2}
	counts("rolling", now, rolloutview.Stage{})
	p.Strategy, p.Instruction.Action = rollout.BlueGreen, rollout.ActStage
	counts("staging", now, rolloutview.Stage{Target: 16})
	p.Instruction.Action = rollout.ActSwitch
	counts("switching", rolloutview.Stage{Target: 16, Succeeded: 16}, now)
}

func model(t *testing.T) *rolloutview.Model {
	t.Helper()
	p, members := plan(), fleet()
	stages, _, err := rolloutview.Stages(p, members)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range stages[0].Members {
		report(m, rollout.ReportDone)
	}
	for i, s := range []rollout.ReportState{rollout.ReportDone, rollout.ReportFailed, rollout.ReportStarted} {
		report(stages[1].Members[i], s)
	}
	if stages, _, err = rolloutview.Stages(p, members); err != nil {
		t.Fatal(err)
	}
	return &rolloutview.Model{
		Plan: p, Stages: stages, Leader: "c1", Now: now,
		Figures: rollout.Figures{Agents: 16, Admitted: 5, Succeeded: 3, Failed: 1, UnderWay: 1, Rate: 75},
		Lost:    map[string]rollout.Loss{"a07": {State: "failed", Reason: "exit status 2", At: now}},
	}
}

func TestStatusShowsEveryStageAndTheFiguresThatItIsJudgedOn(t *testing.T) {
	want := `Rollout r1 of fleet default: canary, to 1.1.0@abababababab.
Asked for by ops@desk (ticket 4711) at 2026-05-04T11:00:00Z.
RUNNING since 2026-05-04T11:00:00Z (1h0m0s): agents are under way
Controller: c1.

  test       [######################################] 100 % of 2, passed
  production [############!!!!!!!!!!!!!>>>>>>>>>>>>>]  33 % of 3, 1 under way, 1 failed
  all        [......................................]   0 % of 11, to come

5 of 16 agents admitted, 3 succeeded, 1 failed, 1 under way, success 75 %.
  a07 failed: exit status 2
`
	if got := strings.Join(model(t).Text(100), "\n") + "\n"; got != want {
		t.Errorf("shown is\n%s\nwant\n%s", got, want)
	}
	line := "running, stage 2 of 3 (production): 5 of 16 agents admitted, 3 succeeded, 1 failed, 1 under way, success 75 %; agents are under way"
	if got := model(t).Line(); got != line {
		t.Errorf("as a line it is\n%s\nwant\n%s", got, line)
	}
}

// TestWhatHoldsARolloutUpIsShown: who looks because nothing moves is to see why.
func TestWhatHoldsARolloutUpIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rolloutview.Model)
		says   string
	}{
		"nobody leads":     {func(m *rolloutview.Model) { m.Leader = "" }, "No controller is elected"},
		"frozen":           {func(m *rolloutview.Model) { m.Freeze = &rollout.Freeze{By: "ops", Reason: "storm", At: now} }, "Frozen by ops (storm) since 2026-05-04T12:00:00Z"},
		"reverts too":      {func(m *rolloutview.Model) { m.Freeze = &rollout.Freeze{Reverts: true} }, ", reverts too"},
		"a window":         {func(m *rolloutview.Model) { m.Waits = "stage production waits for its window" }, "Stage production waits for its window"},
		"old":              {func(m *rolloutview.Model) { m.Stale = "etcd does not answer" }, "may be old: etcd does not answer"},
		"soaks":            {func(m *rolloutview.Model) { m.Plan.SoakSince = now.Add(-time.Minute) }, "soaks for another 9m0s"},
		"waits at a gate":  {func(m *rolloutview.Model) { m.Plan.Stage = 2 }, "waits for promote"},
		"the gate is open": {func(m *rolloutview.Model) { m.Plan.Stage, m.Plan.Promoted = 2, 3 }, "of 11, begun"},
		"paused":           {func(m *rolloutview.Model) { m.Plan.State = rollout.Paused }, "1 failed, paused"},
		"reverting":        {func(m *rolloutview.Model) { m.Plan.State = rollout.Reverting }, "reverting"},
		"trouble":          {func(m *rolloutview.Model) { m.Trouble = "permission denied" }, "It does not move on: permission denied"},
		"its cause":        {func(m *rolloutview.Model) { m.Cause = "a07 failed first" }, "agents are under way: a07 failed first"},
		"from where":       {func(m *rolloutview.Model) { m.Plan.Previous.Release = release.Pin{Version: "1.0.0"} }, "1.0.0@ to 1.1.0@abab"},
	} {
		m := model(t)
		c.change(m)
		if got := strings.Join(m.Text(100), "\n"); !strings.Contains(got, c.says) {
			t.Errorf("%s: want %q in\n%s", name, c.says, got)
		}
	}
	m := model(t)
	if m.Freeze = (&rollout.Freeze{By: "ops"}); !strings.Contains(m.Line(), "; frozen by ops") {
		t.Errorf("as a line it is\n%s", m.Line())
	}
	m = model(t)
	m.Waits = "stage production waits for its window"
	if got := m.Line(); !strings.HasSuffix(got, m.Waits) {
		t.Errorf("as a line it is\n%s", got)
	}
	if m.Leader = ""; !strings.HasSuffix(m.Line(), "; no controller is elected") {
		t.Errorf("as a line it is\n%s", m.Line())
	}
	m.Plan.State, m.Leader = rollout.Completed, ""
	if got := strings.Join(m.Text(100), "\n"); strings.Contains(got, "No controller") {
		t.Errorf("a rollout that is over wants a controller:\n%s", got)
	}
}

// TestNoWidthAndNoFigureBreaksTheView: it is drawn on any terminal, and of plans
// that another release wrote.
func TestNoWidthAndNoFigureBreaksTheView(t *testing.T) {
	for width := range 130 {
		m := model(t)
		m.Plan.Stages[0].Name = strings.Repeat("ä", 40)
		m.Stages[0].Name = m.Plan.Stages[0].Name
		m.Stages[1].Failed, m.Stages[1].Members = 3, m.Stages[1].Members[:1] // more than there are
		m.Plan.Stage = 3
		m.Text(width)
	}
	m := &rolloutview.Model{Plan: &rollout.Plan{}}
	m.Text(80)
	m.Line()
	m.Plan.Stage = 7
	m.Plan.Target.Config = &rollout.ConfigTarget{Scope: "global"}
	m.Text(80)
	m.Line()
}

func TestOnlySomeOfManyLostAgentsAreNamed(t *testing.T) {
	m := model(t)
	for i := range 20 {
		m.Lost[fmt.Sprintf("b%02d", i)] = rollout.Loss{State: "silent", At: now.Add(time.Duration(i) * time.Second)}
	}
	got := strings.Join(m.Text(100), "\n")
	if !strings.Contains(got, "b19 silent\n") || strings.Contains(got, "b01") || !strings.Contains(got, "and 13 more") {
		t.Errorf("shown is\n%s", got)
	}
}

// TestWhatWasHaltedSaysWhatHelps: of a revert without room it is something else than
// of a rollout that has failed.
func TestWhatWasHaltedSaysWhatHelps(t *testing.T) {
	for says, change := range map[string]func(*rollout.Plan){
		"promote --force": func(*rollout.Plan) {},
		"revert --past-silent": func(p *rollout.Plan) {
			p.Instruction.Action, p.Why = rollout.ActRevert, "3 agents to come, for whom those that are silent leave no room (a1)"
		},
		"agentd rollout revert tries again": func(p *rollout.Plan) { p.Instruction.Action, p.Why = rollout.ActRevert, "1 agent did not go back" },
	} {
		m := model(t)
		m.Plan.State = rollout.Halted
		change(m.Plan)
		if got := strings.Join(m.Text(100), "\n"); !strings.Contains(got, "\nNext: ") || !strings.Contains(got, says) {
			t.Errorf("want %q in\n%s", says, got)
		}
	}
	if got := strings.Join(model(t).Text(100), "\n"); strings.Contains(got, "Next: ") {
		t.Errorf("what goes on needs nobody:\n%s", got)
	}
}
