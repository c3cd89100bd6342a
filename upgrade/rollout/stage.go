package rollout

import "slices"

// room is what of a stage's limits is left. A pair is of agents with the same
// value of Stage.PairBy.
type room struct {
	stage   *Stage
	limit   int // -1 = none
	surge   int
	batch   int // -1 = no limit
	used    int // of limit
	surging int // of surge
	bytes   int // of maxTracked
	busy    map[string]bool
	members map[string][]*agent // by pair
}

// pair is of which pair m is; "" = of none. A long value is not kept in the books for
// each agent.
func (s *Stage) pair(m *Member) string {
	if value := m.Labels[s.PairBy]; len(value) <= maxPair {
		return value
	}
	return digestOf([]byte(m.Labels[s.PairBy]))
}

// room takes stock of who is unavailable.
func (c *census) room() *room {
	s := c.limiting()
	n := c.sizes[c.current()]
	r := &room{stage: s, limit: s.limit(n), surge: s.MaxSurge.Of(n), batch: -1, bytes: maxTracked - c.tracked, busy: map[string]bool{}, members: map[string][]*agent{}}
	if !s.Batch.IsZero() {
		r.batch = s.Batch.Of(n)
	}
	if s.PairBy != "" {
		for i := range c.agents {
			if a := &c.agents[i]; a.pair != "" {
				r.members[a.pair] = append(r.members[a.pair], a)
			}
		}
	}
	for i := range c.agents {
		if a := &c.agents[i]; a.unavailable {
			r.add(a)
		}
	}
	for id, e := range c.books.Former {
		r.add(&agent{id: id, pair: e.Pair})
	}
	return r
}

// limit is the most of n agents that are under way at once; -1 = no limit. A
// batch alone is one, too: the next begins as the one before ends.
func (s *Stage) limit(n int) int {
	switch {
	case !s.MaxUnavailable.IsZero():
		return s.MaxUnavailable.Of(n)
	case !s.MaxSurge.IsZero():
		return 0 // none but those whose partner is ready
	case !s.Batch.IsZero():
		return s.Batch.Of(n)
	}
	return -1
}

// add counts an agent that is unavailable, whether there is room or not.
func (r *room) add(a *agent) {
	if r.surge > 0 && r.covered(a) {
		r.surging++
	} else {
		r.used++
	}
	if a.pair != "" {
		r.busy[a.pair] = true
	}
}

// covered reports whether a's partner is ready.
func (r *room) covered(a *agent) bool {
	return a.pair != "" && slices.ContainsFunc(r.members[a.pair], func(o *agent) bool {
		return o.id != a.id && o.m != nil && o.m.Ready && !o.unavailable
	})
}

// taken counts against limit: those that surge leaves no room for do, too.
func (r *room) taken() int { return r.used + max(0, r.surging-r.surge) }

// take counts a in if there is room.
func (r *room) take(a *agent) bool {
	if a.pair != "" && r.busy[a.pair] || r.batch == 0 {
		return false
	}
	size := Entrant{Pair: a.pair}.size(a.id)
	before := *r
	r.add(a)
	if r.limit >= 0 && r.taken() > r.limit && r.taken() > before.taken() || size > r.bytes {
		r.used, r.surging = before.used, before.surging
		if a.pair != "" {
			r.busy[a.pair] = false
		}
		return false
	}
	r.bytes -= size
	if r.batch > 0 {
		r.batch--
	}
	return true
}

// ahead are those whom the stage takes by rank, up to the last that it is to
// have admitted.
func (c *census) ahead(stage int) []*agent {
	if list, ok := c.aheads[stage]; ok {
		return list
	}
	all := make([]*agent, 0, c.sizes[stage])
	for i := range c.agents {
		if a := &c.agents[i]; a.selected && a.in(stage) {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, byRank)
	c.aheads[stage] = all[:min(len(all), part(c.p.Stages[stage].BasisPoints, len(all)))]
	return c.aheads[stage]
}

// byRank orders agents as marks pass them.
func byRank(a, b *agent) int {
	switch {
	case a.rank < b.rank:
		return -1
	case a.rank > b.rank:
		return 1
	}
	return 0
}

// whole reports whether the stage is of all that its selectors take.
func (s *Stage) whole() bool { return s.BasisPoints >= allBasisPoints }
