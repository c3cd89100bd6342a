package rollout

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// TestPlanThatBeginsIsReadHoweverFarItMoves: a controller would write, with a step or a
// reason, what neither it nor an agent can read.
func TestPlanThatBeginsIsReadHoweverFarItMoves(t *testing.T) {
	o := &Operator{store: store{keys: keys{"/agents/", DefaultFleet}}}
	p, err := o.begun(planOfBytes(t, MaxPlanBytes-planGrowth), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.begun(planOfBytes(t, MaxPlanBytes-planGrowth+1), noon); err == nil || !strings.Contains(err.Error(), "shorter queries") {
		t.Errorf("one that is larger begins, or it is not said what to do: %v", err)
	}
	at := noon.Add(123456789)
	mark := Mark{Open: true, Rank: LastRank}
	p.State, p.Since, p.Why = Reverting, at, strings.Repeat(`"`, maxText)
	long := "1.0.0-" + strings.Repeat("a", 122)
	p.Previous = Target{Release: pinned(long), Program: p.Target.Program, Asked: long}
	p.Instruction = Instruction{Number: math.MaxInt64, Action: ActRevert, Probation: maxDuration - 0.000001}
	p.Stage, p.Promoted, p.StageSince, p.SoakSince, p.PastSilent = len(p.Stages), len(p.Stages)+1, at, at, true
	p.Cursor = Cursor{AsOf: math.MaxInt64, Late: Late{math.MaxInt64, mark}, Unsure: true}
	for range p.Stages {
		p.Cursor.Marks = append(p.Cursor.Marks, mark)
	}
	for range maxSteps {
		p.Cursor.Steps = append(p.Cursor.Steps, Step{at, maxAgents})
	}
	w, err := o.keys.seal(draft{before: Plan{ID: p.ID, Seq: math.MaxInt64 - 1}, plan: p})
	if err != nil || w.plan.Why != p.Why {
		t.Errorf("%v, of why %d bytes are left", err, len(w.plan.Why))
	}
}

// noon is a time that takes few bytes.
var noon = time.Date(2026, 12, 24, 12, 0, 0, 0, time.UTC)

// planOfBytes is one that takes so many bytes as it begins at noon.
func planOfBytes(t *testing.T, want int) Plan {
	t.Helper()
	o := &Operator{store: store{keys: keys{"/agents/", DefaultFleet}}}
	fill := func(n int) Plan {
		p := planOf("1.1.0")
		p.ID, p.Stages, p.Target.Program = "r1", nil, strings.Repeat("p", maxText)
		for i := range maxStages {
			query := strings.Repeat("x", 1+min(n, maxQuery-1))
			n -= len(query) - 1
			p.Stages = append(p.Stages, Stage{Name: fmt.Sprint("s", i), Judge: Judge{Checks: []Check{{Kind: kindPrometheus, URL: "http://p:9090", Query: query}}}})
		}
		return p
	}
	p, err := o.begun(fill(0), noon)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return fill(want - len(text))
}

// TestOneStepOfALargeFleetFitsIntoOneTransaction: etcd would refuse it, and the rollout
// stand still with all of its agents under way.
func TestOneStepOfALargeFleetFitsIntoOneTransaction(t *testing.T) {
	const most = 1.5*(1<<20) - 8<<10 // etcd's limit, without a record and keys
	now := time.Now()
	for _, s := range []struct {
		length int
		label  string // by which agents are paired
	}{
		{11, ""}, {64, ""}, {128, ""}, {11, strings.Repeat("<&>", 42)}, {11, strings.Repeat(`"`, maxPair)},
		{11, strings.Repeat("\x01", maxPair)}, {11, strings.Repeat("\u2028", maxPair/3)}, {11, strings.Repeat("x", 300<<10)},
	} {
		length, pair := s.length, (&Stage{PairBy: "pair"}).pair(&Member{Labels: map[string]string{"pair": s.label}})
		p := Plan{ID: strings.Repeat("r", maxRolloutID), Instruction: Instruction{Number: 1}, Stages: make([]Stage, maxStages)}
		c := &census{p: &p, now: now, books: Books{Rollout: p.ID, Number: 1}.copied()}
		id := func(i int) string { return fmt.Sprintf("%0*d", length, i) }
		for i := range 10_000 {
			c.track(id(i), Entrant{Since: now, Stage: maxStages - 1, Started: true, Gone: now, Pair: pair})
			if i < 5000 {
				c.agents = append(c.agents, agent{id: id(i), outcome: failed, reason: strings.Repeat(`"`, maxLossReason)})
			}
		}
		c.lose(nil)
		tracked, lost := len(c.books.UnderWay), c.books.Lost
		p.Instruction.Number = 2 // all of them may still be at the first
		b := c.books.forPlan(&p, now)
		b.Lost, b.Stages = lost, make([]Figures, maxStages)
		text, err := encode(b)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("ids of %d bytes, pairs of %d: %d under way, %d lost: %d bytes", length, len(s.label), tracked, len(lost), len(text))
		if len(b.Former) != tracked || len(text)+MaxPlanBytes > most {
			t.Errorf("ids of %d bytes, pairs %.10q of %d: %d under way and %d lost take %d bytes beside a plan of %d", length, s.label, len(s.label), len(b.Former), len(lost), len(text), MaxPlanBytes)
		}
		if length == 11 && s.label == "" && tracked < 9000 {
			t.Errorf("only %d of 10,000 agents are told apart", tracked)
		}
	}
}
