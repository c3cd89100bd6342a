package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// pace is the least time between two steps that admit few: each is told to the
// whole fleet.
const pace = time.Second

// move is a next cursor.
type move struct {
	cursor Cursor
	// admitted are exactly those whom it admits, who are not admitted now and
	// would start.
	admitted []*agent
	// fresh are those of them who are not counted as unavailable yet.
	fresh int
	late  bool // only those who are late
	// full: others would be admitted if there were room.
	full bool
}

// admitter works out a move.
type admitter struct {
	*census
	revision int64
	revert   bool
	beside   bool // one more than there is room for
	move
	room *room
}

// next is the furthest cursor that leaves as much as may be available.
//
// With Plan.PastSilent a revert does not wait for agents that hang: what they were to
// be taken back from would stay on all others until a person comes. Where nobody is
// under way but such, told to go back a deadline ago, and they leave no room, one
// goes back beside them, and then the next. Never are both of a pair down.
func (c *census) next(revision int64) move {
	m := c.furthest(revision, false)
	if c.p.Instruction.Action != ActRevert || len(m.admitted) > 0 || !m.full {
		return m
	}
	// With nobody under way there is no room where it is only for pairs, none of
	// which is ready.
	if down := c.figures.Unavailable; down == 0 || c.p.PastSilent && len(c.mute()) == down {
		return c.furthest(revision, true)
	}
	return m
}

func (c *census) furthest(revision int64, beside bool) move {
	a := admitter{census: c, revision: revision, revert: c.p.Instruction.Action == ActRevert, beside: beside}
	if !a.letLate() {
		return a.move
	}
	before := len(a.admitted)
	if a.revert {
		a.raise(0, a.everybody())
	} else if c.p.Stage < len(c.p.Stages) {
		a.raise(c.p.Stage, c.ahead(c.p.Stage))
	}
	a.late = len(a.admitted) == before
	return a.move
}

// open returns what room there is. A blue-green rollout goes and comes back at
// once.
func (a *admitter) open() *room {
	r := a.census.room()
	if a.revert && a.p.Strategy == BlueGreen {
		return &room{stage: r.stage, limit: -1, batch: -1, bytes: math.MaxInt, busy: map[string]bool{}}
	}
	if a.beside && r.limit >= 0 {
		r.limit = r.taken() + 1
	}
	return r
}

// let admits x if there is room. One that is unavailable already takes none.
func (a *admitter) let(x *agent) bool {
	if _, former := a.books.Former[x.id]; !x.unavailable && !former {
		if !a.room.take(x) {
			a.full = true
			return false
		}
		a.fresh++
	}
	a.admitted = append(a.admitted, x)
	return true
}

// letLate admits those who came after the marks had passed them. It reports
// whether that are all.
func (a *admitter) letLate() bool {
	now := a.p.Cursor
	all := now
	all.AsOf, all.Late = max(now.AsOf, a.revision), Late{}
	a.room = a.open()
	if come := a.newly(&all); len(come) == 0 || a.letAll(come) == len(come) {
		a.cursor = all
		return true
	}
	// In steps, in the order of their rank.
	a.room, a.move = a.open(), move{cursor: now, late: true, full: true}
	if a.cursor.Late.AsOf == 0 {
		a.cursor.Late.AsOf = a.revision
	}
	sweep := a.cursor
	sweep.Late.Mark = Mark{Open: true, Rank: LastRank}
	come := a.newly(&sweep)
	switch n := a.letAll(come); {
	case n == 0:
		a.cursor = now
	case n == len(come):
		a.cursor.AsOf, a.cursor.Late = a.cursor.Late.AsOf, Late{}
	default:
		a.cursor.Late.Mark = Mark{Open: true, Rank: come[n-1].rank}
	}
	return false
}

// letAll admits come, the first first, as long as there is room.
func (a *admitter) letAll(come []*agent) int {
	for i, x := range come {
		if !a.let(x) {
			return i
		}
	}
	return len(come)
}

// newly are those whom cur admits, who are not admitted now and would start, by
// rank.
func (c *census) newly(cur *Cursor) []*agent {
	var come []*agent
	for i := range c.agents {
		if x := &c.agents[i]; x.owes && !x.admitted && c.admits(cur, x) {
			come = append(come, x)
		}
	}
	slices.SortFunc(come, byRank)
	return come
}

// everybody is who a revert may be about, by rank.
func (c *census) everybody() []*agent {
	var all []*agent
	for i := range c.agents {
		if c.agents[i].selected {
			all = append(all, &c.agents[i])
		}
	}
	slices.SortFunc(all, byRank)
	return all
}

// raise moves the mark of a stage over those ahead of it.
func (a *admitter) raise(stage int, ahead []*agent) {
	marks := make([]Mark, max(stage+1, len(a.cursor.Marks)))
	copy(marks, a.cursor.Marks)
	mark := marks[stage]
	done := true
	for _, x := range ahead {
		if mark.passes(x.rank) {
			continue
		}
		starts := x.owes && x.m.Joined <= a.cursor.AsOf && !a.admits(&a.cursor, x)
		if starts && !a.let(x) {
			done = false
			break
		}
		mark = Mark{Open: true, Rank: x.rank}
	}
	if done && len(ahead) > 0 && (a.revert || a.p.Stages[stage].whole()) {
		mark = Mark{Open: true, Rank: LastRank} // newcomers are late, wherever they rank
	}
	marks[stage] = mark
	a.cursor.Marks = marks
}

// worth reports whether m is worth a write now: each is told to all.
func (c *census) worth(m *move) bool {
	if len(m.admitted) == 0 {
		return false
	}
	limit := c.limiting().limit(c.sizes[c.current()])
	many := !m.late && (limit < 0 || 4*m.fresh >= limit || !m.full)
	return many || len(c.p.Cursor.Steps) == 0 || c.due(c.moved().Add(pace))
}

// enter moves the cursor, and counts those whom that admits.
func (c *census) enter(m *move) {
	steps := append(slices.Clone(c.p.Cursor.Steps), Step{At: c.now, Agents: len(m.admitted)})
	c.p.Cursor = m.cursor
	c.p.Cursor.Steps = steps[max(0, len(steps)-maxSteps):]
	for _, x := range m.admitted {
		if e, ok := c.books.Former[x.id]; ok {
			c.tracked -= e.size(x.id)
			delete(c.books.Former, x.id)
		}
		x.home = 0
		if c.p.Instruction.Action != ActRevert {
			x.home = c.home(&c.p.Cursor, x)
		}
		x.outcome, x.unavailable, x.admitted, x.owes, x.since = waiting, true, true, false, c.now
		c.track(x.id, Entrant{Since: c.now, Stage: x.home, Pair: x.pair})
	}
	c.recount()
}

// recount sums up again, after agents have been counted otherwise.
func (c *census) recount() {
	lost := c.books.Lost
	c.books.Lost, c.figures = map[string]Loss{}, Figures{}
	clear(c.stages)
	c.sum(lost)
}

// owing is how many agents are not admitted and would start if they were.
func owing(agents []*agent) (n int) {
	for _, x := range agents {
		if x.owes {
			n++
		}
	}
	return n
}

// agents is "1 agent" or "n agents".
func agents(n int) string {
	if n == 1 {
		return "1 agent"
	}
	return fmt.Sprintf("%d agents", n)
}
