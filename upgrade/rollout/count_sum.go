package rollout

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The states of a Loss.
const (
	lossFailed = "failed"
	lossSilent = "silent"
	lossGone   = "gone"
	lossHeld   = "held"
)

func lossOutcome(state string) outcome {
	if state == lossGone {
		return gone
	}
	return failed
}

// loss is the state of an agent's Loss; "" = it is none.
func (o outcome) loss() string {
	switch o {
	case failed:
		return lossFailed
	case silent:
		return lossSilent
	case gone:
		return lossGone
	case held:
		return lossHeld
	case apart, waiting, underWay, succeeded:
	}
	return ""
}

// sum fills in figures and losses.
func (c *census) sum(lost map[string]Loss) {
	for i := range c.agents {
		a := &c.agents[i]
		if a.m == nil || a.selected {
			c.figures.Agents++
		}
		if a.owes && a.outcome == apart && c.reached(a) {
			c.figures.Late++
		}
		if a.unavailable {
			c.figures.Unavailable++
		}
		if a.outcome != apart {
			c.figures.add(a)
			if a.home >= 0 {
				c.stages[a.home].add(a)
			}
		}
	}
	c.figures.Unavailable += len(c.books.Former)
	c.lose(lost)
	for i := range c.stages {
		c.stages[i].rate()
	}
	c.figures.rate()
}

// lose writes down who does not count as succeeded: whoever failed stays so when
// it leaves the registry.
func (c *census) lose(lost map[string]Loss) {
	shown, bytes := 0, 0
	for i := range c.agents {
		a := &c.agents[i]
		state := a.outcome.loss()
		if state == "" || len(c.books.Lost) >= maxLost {
			continue
		}
		l := Loss{State: state, Stage: max(a.home, 0), At: c.now}
		if shown++; shown <= maxShown {
			l.Reason = plain(a.reason, maxLossReason)
		}
		if was, ok := lost[a.id]; ok && was.State == l.State && was.Stage == l.Stage {
			l.At = was.At
		}
		if bytes += l.size(a.id); bytes > maxLostBytes {
			break
		}
		c.books.Lost[a.id] = l
	}
}

// mute are those who are unavailable, do not report an end within their deadline,
// and are in the registry.
func (c *census) mute() (ids []string) {
	for i := range c.agents {
		if a := &c.agents[i]; a.unavailable && a.outcome == silent {
			ids = append(ids, a.id)
		}
	}
	for id, e := range c.books.Former {
		until := c.heard(&e)
		if e.Started {
			until = e.Since.Add(c.attempt(&e))
		}
		if e.Gone.IsZero() && c.due(until) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// plain is s in one line of at most n bytes: an agent's words go into the plan,
// and onto terminals.
func plain(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= n {
		return s
	}
	for n -= len("…"); n > 0 && !utf8.RuneStart(s[n]); n-- {
	}
	return s[:n] + "…"
}

func (f *Figures) add(a *agent) {
	f.Admitted++
	switch a.outcome {
	case waiting:
		f.Waiting++
	case underWay:
		f.UnderWay++
	case succeeded:
		f.Succeeded++
	case failed:
		f.Failed++
	case silent:
		f.Silent++
	case gone:
		f.Gone++
	case held:
		f.Held++
	case apart:
	}
}

// bad are those who count as failed, sample those who count at all.
func (f *Figures) bad() int    { return f.Failed + f.Silent }
func (f *Figures) sample() int { return f.Succeeded + f.bad() }

func (f *Figures) rate() {
	if n := f.sample(); n > 0 {
		f.Rate = 100 * float64(f.Succeeded) / float64(n)
	}
}

// track writes e down, if there is room.
func (c *census) track(id string, e Entrant) {
	was, ok := c.books.UnderWay[id]
	size := e.size(id)
	if ok {
		size -= was.size(id)
	} else if c.tracked+size > maxTracked {
		return
	}
	c.tracked += size
	c.books.UnderWay[id] = e
}

func (c *census) untrack(id string) {
	if e, ok := c.books.UnderWay[id]; ok {
		c.tracked -= e.size(id)
		delete(c.books.UnderWay, id)
	}
}

// due reports whether t has come. If not, the next decision is no later.
func (c *census) due(t time.Time) bool {
	if !c.now.Before(t) {
		return true
	}
	if c.wake.IsZero() || t.Before(c.wake) {
		c.wake = t
	}
	return false
}

// moved is when the cursor moved the last time.
func (c *census) moved() time.Time {
	if n := len(c.p.Cursor.Steps); n > 0 {
		return c.p.Cursor.Steps[n-1].At
	}
	return c.now
}

// current is the index of the stage whose limits and windows are in force.
func (c *census) current() int { return min(c.p.Stage, len(c.p.Stages)-1) }

func (c *census) limiting() *Stage { return &c.p.Stages[c.current()] }

// admits reports whether cur admits a.
func (c *census) admits(cur *Cursor, a *agent) bool {
	in := a.in
	if c.p.Instruction.Action == ActRevert {
		in = func(int) bool { return true }
	}
	return a.selected && cur.admits(a.rank, a.m.Joined, in)
}

// home is the first stage whose mark a is at or below; the current one if it was
// admitted and is not any more.
func (c *census) home(cur *Cursor, a *agent) int {
	for i, mark := range cur.Marks {
		if mark.passes(a.rank) && a.in(i) {
			return i
		}
	}
	return c.current()
}

// reached reports whether a mark has reached a.
func (c *census) reached(a *agent) bool {
	for i, mark := range c.p.Cursor.Marks {
		if mark.passes(a.rank) && (a.in(i) || c.p.Instruction.Action == ActRevert) {
			return true
		}
	}
	return false
}

// attempt is how long an agent may take from when it was admitted, or began, to
// its end: the deadline, and the probation that was asked for, which it does not
// hold against the agent.
func (p *Plan) attempt() time.Duration {
	return p.Deadline.Duration() + p.Instruction.Probation.Duration()
}

// settling is how long it takes until what an agent reports shows everywhere, and
// until it is clear that its process has outlived its change.
func (p *Plan) settling() time.Duration { return min(p.Deadline.Duration()/4, time.Minute) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func find(members []*Member, id string) (int, bool) {
	return slices.BinarySearchFunc(members, id, func(m *Member, id string) int { return strings.Compare(m.ID, id) })
}
