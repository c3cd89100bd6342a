package rollout

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// unheardGrace is for what lies between a watch that is found to be dead and what its
// successor shows.
const unheardGrace = 10 * time.Second

// outcome is what an agent counts as.
type outcome int

const (
	apart    outcome = iota // it takes no part yet, or has nothing to do
	waiting                 // admitted, has not begun
	underWay                // has begun, or is missing and not given up
	succeeded
	failed
	silent
	gone
	held
)

// agent is how one agent stands to the present instruction.
type agent struct {
	id       string
	m        *Member // nil = not in the registry
	selected bool    // by the plan
	rank     Rank
	stages   uint64 // those whose selectors take it, as bits
	home     int    // the stage that was the first to admit it; -1 = none did
	outcome
	reason      string // why it counts so
	unavailable bool   // it counts against MaxUnavailable
	admitted    bool   // by the cursor as it is
	owes        bool   // it would be under way if it were admitted
	since       time.Time
	pair        string
}

func (a *agent) in(stage int) bool { return a.stages&(1<<stage) != 0 }

// census is all that is known of a plan's agents at one moment.
//
// An agent is under way from its admission until it reports an end. Until then it
// counts against the limit of its stage, whatever it is at and whether it can be
// seen or not:
//
//   - one that is silent past the deadline counts as failed, and as unavailable
//     still;
//   - one that left the registry is given up a deadline later: an agent whose
//     lease may have ended starts nothing, and one that has begun gives up by
//     itself before that. It then counts as failed if it had reported that it
//     began, or left within settling of having succeeded. Else it is gone for
//     other reasons and counts neither way, as does one that leaves later;
//   - one that is back without having been given up is as it reports;
//   - what another instruction admitted counts until it reports an end of that, is
//     given up, a deadline of that instruction after it has left, or, where it never
//     said that it had begun, until it has heard the new one for certain.
//
// One that reports success and runs something else is given settling until its
// registration says so too, and then counts as failed, as does one whose alert
// began to fire after its change, while it fires, or that does not get on.
type census struct {
	p       *Plan
	request string // of p
	adm     *Admission
	now     time.Time
	frozen  bool // forward: nobody starts
	stopped bool
	books   Books
	before  *Books
	agents  []agent // those in the registry in its order, then the others
	sizes   []int   // how many each stage selects
	aheads  map[int][]*agent
	tracked int // bytes
	figures Figures
	stages  []Figures
	wake    time.Time
}

func takeCensus(in *Input, p *Plan, books Books, now time.Time) (*census, error) {
	adm, err := NewAdmission(*p)
	if err != nil {
		return nil, err
	}
	c := &census{
		p: p, request: p.Request(), adm: adm, now: now, before: &in.Books, books: books.forPlan(p, now),
		agents: make([]agent, 0, len(in.Snapshot.Members)),
		aheads: map[int][]*agent{}, sizes: make([]int, len(p.Stages)), stages: make([]Figures, len(p.Stages)),
	}
	c.books.Waits = ""
	c.stop(in.Freeze)
	for id, e := range c.books.UnderWay {
		c.tracked += e.size(id)
	}
	for id, e := range c.books.Former {
		c.tracked += e.size(id)
	}
	lost := c.books.Lost
	c.books.Lost = map[string]Loss{}
	for _, m := range in.Snapshot.Members {
		c.agents = append(c.agents, c.member(m, lost))
	}
	c.missing(in.Snapshot.Members, lost)
	c.formers(in.Snapshot.Members)
	c.sum(lost)
	return c, nil
}

// stop notes whether those who are admitted may start. The time in which they may
// not is none of theirs.
func (c *census) stop(f *Freeze) {
	revert := c.p.Instruction.Action == ActRevert
	c.frozen = f != nil && (!revert || f.Reverts)
	c.stopped = c.frozen || !revert && c.p.State == Halted
	switch b := &c.books; {
	case c.stopped && b.Stopped.IsZero():
		b.Stopped = c.now
	case !c.stopped && !b.Stopped.IsZero():
		b.Stopped = time.Time{}
		for id, e := range b.UnderWay {
			// Also of those who have begun: a host may have given it back, to be given
			// it again with all its time.
			e.Since = c.now
			b.UnderWay[id] = e
		}
	}
}

// member says how m stands.
func (c *census) member(m *Member, lost map[string]Loss) agent {
	a := agent{id: m.ID, m: m, home: -1}
	if !c.adm.Selects(m) {
		return a
	}
	a.selected, a.rank = true, RankOf(c.p.ID, m.ID)
	for i := range c.p.Stages {
		if c.adm.stages[i].Matches(subject{m}) {
			a.stages |= 1 << i
			c.sizes[i]++
		}
	}
	a.admitted = c.admits(&c.p.Cursor, &a)
	a.pair = c.limiting().pair(m)
	var r *Report
	// One that waits and is not admitted any more was gone from the registry in
	// between, and waits to be let in again.
	if m.Report != nil && m.Report.Request == c.request && (a.admitted || m.Report.State != ReportWaiting) {
		r = m.Report
	}
	if c.p.Instruction.Action == ActRevert {
		c.backward(&a, r)
	} else {
		c.forward(&a, r)
	}
	if l, ok := lost[a.id]; ok && a.outcome == apart && (l.State == lossFailed || l.State == lossGone) {
		// It is back without a word: it counts as it did until it is admitted anew.
		a.outcome, a.reason, a.home = lossOutcome(l.State), l.Reason, l.Stage
	}
	return a
}

func (c *census) forward(a *agent, r *Report) {
	if !a.admitted && r == nil {
		a.owes = true
		if e, ok := c.books.UnderWay[a.id]; ok {
			// It was away, and has not said yet how far it is.
			a.home = e.Stage
			c.going(a, nil)
		}
		return
	}
	a.home = c.home(&c.p.Cursor, a)
	switch {
	case r != nil && (r.State == ReportDone || r.State == ReportStaged && c.p.Instruction.Action == ActStage):
		c.ended(a, r)
	case r != nil && r.State != ReportStaged && r.State.Ended():
		a.outcome, a.reason = failed, r.Reason
		if r.State == ReportHeld {
			a.outcome = held
		}
		c.untrack(a.id)
	default:
		c.going(a, r)
	}
}

// backward says how a stands to a revert.
func (c *census) backward(a *agent, r *Report) {
	a.home = 0
	switch {
	case r != nil && r.State.Ended():
		c.untrack(a.id)
		switch a.reason = r.Reason; r.State {
		case ReportDone:
			a.outcome = succeeded
		case ReportHeld:
			a.outcome = held
		default:
			a.outcome = failed
		}
	case r != nil || a.admitted && c.changed(a.m):
		c.going(a, r)
	case c.away(a):
		a.owes = true
		c.going(a, nil)
	case !c.changed(a.m):
		c.untrack(a.id)
	default:
		a.owes = true
		if _, ok := c.books.UnderWay[a.id]; ok {
			c.going(a, nil)
		}
	}
}

// away reports whether a was gone from the registry while it was under way, and is
// back: it waits to be let in again, and what it says of this tells nothing of what it
// is at.
func (c *census) away(a *agent) bool {
	_, ok := c.books.UnderWay[a.id]
	return ok && !a.admitted && a.m.Report != nil && a.m.Report.Request == c.request
}

// changed reports whether m has something to go back from. One that never took
// the target has not: it needs neither an admission nor a word. Whether it has
// taken a document shows in its reports alone: it has, too, if a revert before
// this one was about it and did not end well.
func (c *census) changed(m *Member) bool {
	config := c.p.Target.Config != nil
	if r := m.Report; r != nil {
		dot := max(0, strings.LastIndexByte(r.Request, '.')) // an id may have some, too
		if id, number := r.Request[:dot], r.Request[dot:]; id == c.p.ID && (r.State == ReportStarted || r.State == ReportDone || config && number != ".1") {
			return true
		}
	}
	return !config && c.p.Target.runs(m)
}

// runs reports whether m runs the release of t.
func (t *Target) runs(m *Member) bool {
	if m.Manifest != "" {
		return m.Manifest == t.Release.Digest
	}
	return m.Version == t.Release.Version
}

// going is an agent that has not ended.
func (c *census) going(a *agent, r *Report) {
	e, ok := c.books.UnderWay[a.id]
	if !ok {
		e = Entrant{Since: c.moved(), Stage: a.home, Pair: a.pair}
	}
	e.Gone, e.Ended = time.Time{}, time.Time{}
	if r != nil && r.State == ReportStarted && !e.Started {
		e.Started, e.Since = true, c.now
	}
	if r != nil && r.State == ReportWaiting && c.stopped {
		e.Started = false // it was taken back before it had begun, and is given it again
	}
	a.unavailable, a.since = true, e.Since
	switch {
	case c.overdue(&e):
		a.outcome, a.reason = silent, fmt.Sprintf("no end within %v", c.p.attempt())
	case r != nil && r.State == ReportStarted:
		a.outcome = underWay
		if c.p.Instruction.Probation > 0 { // it serves, and is judged already
			if why, _ := c.alarmed(a, r); why != "" {
				a.outcome, a.reason = failed, why
			}
		}
	default:
		a.outcome = waiting
	}
	c.track(a.id, e)
}

// overdue reports whether e has had its time.
func (c *census) overdue(e *Entrant) bool {
	if c.stopped && !e.Started {
		return false
	}
	return c.due(e.Since.Add(c.p.attempt()))
}

// ended is an agent that reports success.
func (c *census) ended(a *agent, r *Report) {
	e, ok := c.books.UnderWay[a.id]
	if ok {
		e.Gone = time.Time{}
		if e.Ended.IsZero() {
			e.Ended = c.now
		}
		a.since = e.Since
		if ok = !c.due(e.Ended.Add(c.p.settling())); ok {
			c.track(a.id, e)
		} else {
			c.untrack(a.id)
		}
	}
	switch {
	case r.State == ReportDone && c.p.Instruction.Action == ActSwitch && c.p.Target.Config == nil && !c.p.Target.runs(a.m):
		if a.outcome, a.unavailable = underWay, true; !ok {
			a.outcome, a.unavailable = failed, false
			a.reason = fmt.Sprintf("runs %s after it reported success", a.m.Version)
		}
	case a.m.Overdue:
		a.outcome, a.reason = failed, "does not get on since its change"
	default:
		a.outcome = succeeded
		if why, open := c.alarmed(a, r); why != "" {
			a.outcome, a.reason = failed, why
		} else if open {
			a.outcome = underWay
		}
	}
}

// missing counts those who have left the registry.
func (c *census) missing(members []*Member, lost map[string]Loss) {
	for _, id := range sortedKeys(c.books.UnderWay) {
		if _, there := find(members, id); there {
			continue
		}
		e := c.books.UnderWay[id]
		a := agent{id: id, home: e.Stage, since: e.Since, pair: e.Pair, rank: RankOf(c.p.ID, id)}
		if e.Gone.IsZero() {
			e.Gone = c.now
		}
		if !c.due(e.Gone.Add(c.p.attempt())) {
			a.outcome, a.unavailable = underWay, true
			c.track(id, e)
		} else {
			a.outcome, a.reason = gone, "left the registry before it had begun"
			switch {
			case !e.Ended.IsZero():
				a.outcome, a.reason = failed, "left the registry right after its change"
			case e.Started:
				a.outcome, a.reason = failed, "left the registry while it was under way"
			}
			c.untrack(id)
		}
		c.agents = append(c.agents, a)
	}
	for _, id := range sortedKeys(lost) {
		l := lost[id]
		if _, there := find(members, id); !there && (l.State == lossFailed || l.State == lossGone) {
			c.agents = append(c.agents, agent{id: id, home: l.Stage, outcome: lossOutcome(l.State), reason: l.Reason, rank: RankOf(c.p.ID, id)})
		}
	}
}

// attempt is how long e may be at what the instruction that admitted it asks for.
func (c *census) attempt(e *Entrant) time.Duration {
	if s := c.books.Attempts[e.Request]; s > 0 {
		return min(s, 2*maxDuration).Duration() // with a probation
	}
	return c.p.attempt() // of books that do not tell
}

// heard is when e, one of Former that has not begun, starts nothing of that any more:
// it has heard the plan since, however long its watch was dead before.
func (c *census) heard(e *Entrant) time.Time {
	return e.Since.Add(max(c.attempt(e), etcdkv.MaxSilence+unheardGrace))
}

// formers drops those who are not at what another instruction had them do.
func (c *census) formers(members []*Member) {
	requests := map[string]bool{}
	for _, id := range sortedKeys(c.books.Former) {
		e := c.books.Former[id]
		i, there := find(members, id)
		over := false
		if !there {
			if e.Gone.IsZero() {
				e.Gone = c.now
			}
			over = c.due(e.Gone.Add(c.attempt(&e)))
		} else {
			e.Gone = time.Time{}
			r := c.agents[i].m.Report
			switch {
			case r != nil && r.Request == c.request:
				over = true // as it now counts
			case r != nil && r.Request == e.Request && r.State.Ended():
				over = true
			case r != nil && r.Request == e.Request && r.State == ReportStarted:
				e.Started = true
			case !e.Started:
				over = c.due(c.heard(&e))
			}
			if _, again := c.books.UnderWay[id]; again {
				over = true
			}
		}
		if over {
			c.tracked -= e.size(id)
			delete(c.books.Former, id)
			continue
		}
		c.books.Former[id] = e
		requests[e.Request] = true
	}
	maps.DeleteFunc(c.books.Attempts, func(request string, _ Seconds) bool { return !requests[request] })
}
